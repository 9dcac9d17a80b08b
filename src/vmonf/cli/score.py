"""`vmonf score`: compute the log density of each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmonf.cli.common import (
    BigData,
    Columns,
    Exclude,
    Json,
    Kept,
    Model,
    Quiet,
    TableOutput,
    beside,
    check_table_output,
    feature_columns_of,
    feature_rows,
    kept_columns,
    load_mixture,
    print_json,
    remark,
    split_names,
    write_or_print_parts,
)

if TYPE_CHECKING:
    import polars


def score(
    model: Model,
    data: BigData,
    output: TableOutput = None,
    components: Annotated[
        bool, typer.Option("--components", help="Add a column log_prob(c) for each component c.")
    ] = False,
    elbo: Annotated[
        bool, typer.Option("--elbo", help="Add the columns elbo and gap = log_prob - elbo.")
    ] = False,
    columns: Columns = None,
    exclude: Exclude = None,
    ids: Kept = None,
    keep_features: Annotated[
        bool, typer.Option("--keep-features", help="Keep the features' columns too.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compute the exact log density of each row.

    The density is in nats, and the rows are in the table's order. The model's features are found in
    DATA by name. All other columns are kept, or those of --id, followed by `log_prob`. A .npy file
    holds only the new columns. Parquet files are read and scored in parts, whatever their size.
    """
    check_table_output(output, model, data)

    from vmonf.data import open_source

    source = open_source(data)
    head = source.head()
    left_out = split_names(exclude, head)
    mixture = load_mixture(model)
    features = feature_columns_of(mixture, head, columns, left_out)
    kept = kept_columns(head, features, ids, left_out, keep_features, output)
    totals = dict.fromkeys(("log_prob", "elbo", "gap"), 0.0)

    def parts() -> Iterator[polars.DataFrame]:
        row = 0
        for frame in source.in_order(list(dict.fromkeys([*features, *kept]))):
            rows = feature_rows(mixture, frame, features, row, with_gaps=True)
            new: dict[str, Any] = {"log_prob": mixture.score_samples(rows)}
            if components:
                each = mixture.component_log_prob(rows)
                new |= {f"log_prob({name})": each[:, c] for c, name in enumerate(mixture.classes_)}
            if elbo:
                new |= {"elbo": mixture.elbo(rows), "gap": mixture.gap(rows)}
            for name in totals:
                totals[name] += float(new[name].sum()) if name in new else 0.0
            row += len(frame)
            yield beside(frame.select(kept), new)

    in_summary = write_or_print_parts(parts(), source.n_rows, output, as_json)

    mean = {name: total / source.n_rows for name, total in totals.items()}
    if as_json:
        values = {
            "path": output,
            "rows": source.n_rows,
            "mean_log_likelihood": mean["log_prob"],
        }
        if elbo:
            values |= {"mean_elbo": mean["elbo"], "mean_gap": mean["gap"]}
        print_json(values | in_summary)
        return
    remark(
        f"Mean log-likelihood: {mean['log_prob']:.4f} nats per row over {source.n_rows} rows.",
        quiet,
    )
    if output is not None:
        remark(f"Wrote {output}.", quiet)
