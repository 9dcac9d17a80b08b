"""`vmonf score`: compute the log density of each row."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vmonf.cli.common import (
    Columns,
    Data,
    Exclude,
    Json,
    Model,
    Quiet,
    TableOutput,
    beside,
    check_table_output,
    feature_columns_of,
    feature_rows,
    load_mixture,
    print_json,
    remark,
    split_names,
    write_or_print,
)


def score(
    model: Model,
    data: Data,
    output: TableOutput = None,
    components: Annotated[
        bool, typer.Option("--components", help="Add a column log_prob(c) for each component c.")
    ] = False,
    elbo: Annotated[
        bool, typer.Option("--elbo", help="Add the columns elbo and gap = log_prob - elbo.")
    ] = False,
    columns: Columns = None,
    exclude: Exclude = None,
    keep_features: Annotated[
        bool, typer.Option("--keep-features", help="Keep the features' columns too.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compute the exact log density of each row.

    The density is in nats, and the rows are in the table's order. The model's features are found in
    DATA by name. All other columns are kept, followed by `log_prob`. A .npy file holds only the new
    columns.
    """
    check_table_output(output)

    from vmonf.data import read_table

    frame = read_table(data)
    left_out = split_names(exclude, frame)
    mixture = load_mixture(model)
    features = feature_columns_of(mixture, frame, columns, left_out)
    rows = feature_rows(mixture, frame, features)

    new: dict[str, Any] = {"log_prob": mixture.score_samples(rows)}
    if components:
        each = mixture.component_log_prob(rows)
        new |= {f"log_prob({name})": each[:, c] for c, name in enumerate(mixture.classes_)}
    if elbo:
        new |= {"elbo": mixture.elbo(rows), "gap": mixture.gap(rows)}
    if output is not None and output.suffix.lower() == ".npy":
        kept = frame.select()
    else:
        kept = frame.drop(left_out if keep_features else [*left_out, *features], strict=False)
    table = beside(kept, new)
    in_summary = write_or_print(table, output, as_json)

    mean = float(new["log_prob"].mean())
    if as_json:
        values = {"path": output, "rows": len(frame), "mean_log_likelihood": mean}
        if elbo:
            values |= {"mean_elbo": float(new["elbo"].mean()), "mean_gap": float(new["gap"].mean())}
        print_json(values | in_summary)
        return
    remark(f"Mean log-likelihood: {mean:.4f} nats per row over {len(frame)} rows.", quiet)
    if output is not None:
        remark(f"Wrote {output}.", quiet)
