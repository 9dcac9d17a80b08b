"""`vmonf predict`: predict the cluster of each row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

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


def predict(
    model: Model,
    data: BigData,
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
    ids: Kept = None,
    keep_features: Annotated[
        bool, typer.Option("--keep-features", help="Keep the features' columns too.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Predict the cluster of each row, in the table's order.

    The model's features are found in DATA by name. All other columns, or those of --id, are kept,
    followed by `cluster` and `probability`, the probability of that cluster. A .npy file holds only
    the clusters, of shape (n,), or with --probabilities only the probabilities, of shape (n, K).
    Parquet files are read in parts, whatever their size.
    """
    check_table_output(output, model, data)

    import numpy as np
    import polars

    from vmonf.data import open_source

    source = open_source(data)
    head = source.head()
    left_out = split_names(exclude, head)
    mixture = load_mixture(model)
    features = feature_columns_of(mixture, head, columns, left_out)
    kept = kept_columns(head, features, ids, left_out, keep_features, output)
    is_array = output is not None and output.suffix.lower() == ".npy"
    sizes = np.zeros(len(mixture.classes_), dtype=np.int64)

    def parts() -> Iterator[polars.DataFrame]:
        row = 0
        for frame in source.in_order(list(dict.fromkeys([*features, *kept]))):
            rows = feature_rows(mixture, frame, features, row, with_gaps=True)
            probability = mixture.predict_proba(rows, method)
            chosen = probability.argmax(axis=1)
            sizes[:] += np.bincount(chosen, minlength=len(sizes))
            row += len(frame)
            new: dict[str, Any] = {"cluster": mixture.classes_[chosen]}
            by_class = {f"p({name})": probability[:, c] for c, name in enumerate(mixture.classes_)}
            if is_array:
                yield polars.DataFrame(by_class if probabilities else new)
                continue
            new |= {"probability": probability.max(axis=1)}
            yield beside(frame.select(kept), new | (by_class if probabilities else {}))

    in_summary = write_or_print_parts(parts(), source.n_rows, output, as_json)

    n_rows = source.n_rows
    counts = dict(zip(mixture.classes_.tolist(), sizes.tolist(), strict=True))
    if as_json:
        print_json(
            {"path": output, "rows": n_rows, "method": method, "clusters": counts} | in_summary
        )
    elif output is not None:
        listed = ", ".join(f"{name}: {count}" for name, count in counts.items())
        remark(f"Wrote {output}: {n_rows} rows in clusters {listed}.", quiet)
