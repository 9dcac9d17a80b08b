"""`vmonf predict`: predict the cluster of each row."""

from __future__ import annotations

from typing import Annotated, Any, Literal

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


def predict(
    model: Model,
    data: Data,
    output: TableOutput = None,
    method: Annotated[
        Literal["posterior", "exact"],
        typer.Option(help="Use the posterior network, or the flows' exact responsibilities."),
    ] = "posterior",
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Add a column p(c) for each component c.")
    ] = False,
    columns: Columns = None,
    exclude: Exclude = None,
    keep_features: Annotated[
        bool, typer.Option("--keep-features", help="Keep the features' columns too.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict the cluster of each row, in the table's order.

    The model's features are found in DATA by name. All other columns are kept, followed by
    `cluster` and `probability`, the probability of that cluster. A .npy file holds only the
    clusters, of shape (n,), or with --probabilities only the probabilities, of shape (n, K).
    """
    check_table_output(output)

    import numpy as np
    import polars

    from vmonf.data import read_table

    frame = read_table(data)
    left_out = split_names(exclude, frame)
    mixture = load_mixture(model)
    features = feature_columns_of(mixture, frame, columns, left_out)
    probability = mixture.predict_proba(feature_rows(mixture, frame, features), method)
    chosen = probability.argmax(axis=1)
    clusters = mixture.classes_[chosen]

    new: dict[str, Any] = {"cluster": clusters, "probability": probability.max(axis=1)}
    by_class = {f"p({name})": probability[:, c] for c, name in enumerate(mixture.classes_)}
    if output is not None and output.suffix.lower() == ".npy":
        table = polars.DataFrame(by_class if probabilities else {"cluster": clusters})
    else:
        kept = frame.drop(left_out if keep_features else [*left_out, *features], strict=False)
        table = beside(kept, new | (by_class if probabilities else {}))
    in_summary = write_or_print(table, output, as_json)

    counts = dict(
        zip(
            mixture.classes_.tolist(),
            np.bincount(chosen, minlength=len(mixture.classes_)).tolist(),
            strict=True,
        )
    )
    if as_json:
        print_json(
            {"path": output, "rows": len(frame), "method": method, "clusters": counts} | in_summary
        )
    elif output is not None:
        sizes = ", ".join(f"{name}: {count}" for name, count in counts.items())
        remark(f"Wrote {output}: {len(frame)} rows in clusters {sizes}.", quiet)
