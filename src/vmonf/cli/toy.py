"""`vmonf toy`: draw toy data whose clusters and density are known."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from vmonf.cli.common import (
    Json,
    Quiet,
    TableOutput,
    check_table_output,
    print_json,
    remark,
    write_or_print,
)


def toy(
    kind: Annotated[
        Literal["pinwheel", "circles"],
        typer.Argument(help="Twisted wings, or two noisy circles."),
    ],
    output: TableOutput = None,
    rows_each: Annotated[
        int, typer.Option(min=1, help="The number of rows to draw from each wing or circle.")
    ] = 512,
    wings: Annotated[
        int | None, typer.Option(min=1, help="The pinwheel's number of wings; 5 unless given.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0, help="The strength of the pinwheel's twist; 0.25 unless given."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The random seed.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw toy data: a table of clusters in the plane.

    The columns are `x`, `y`, and `wing` or `circle`, the cluster that the row was drawn from,
    counted from 0. A .npy file holds only x and y, of shape (n, 2).
    """
    check_table_output(output)
    settings: dict[str, Any] = {"n_wings": wings, "rate": rate}
    settings = {name: value for name, value in settings.items() if value is not None}
    if kind == "circles" and settings:
        option = "--wings" if "n_wings" in settings else "--rate"
        raise typer.BadParameter("It applies only to the pinwheel.", param_hint=option)

    import polars

    from vmonf.data import Pinwheel, ToyMixture, TwoCircles

    mixture: ToyMixture = Pinwheel(**settings) if kind == "pinwheel" else TwoCircles()
    label = "wing" if kind == "pinwheel" else "circle"
    rows, labels = mixture.sample(rows_each, random_state=seed)
    frame = polars.DataFrame(rows, schema=["x", "y"])
    if output is None or output.suffix.lower() != ".npy":
        frame = frame.with_columns(polars.Series(label, labels))
    in_summary = write_or_print(frame, output, as_json)
    if as_json:
        print_json(
            {"path": output, "rows": len(rows), f"{label}s": mixture.n_components} | in_summary
        )
    elif output is not None:
        remark(f"Wrote {output}: {len(rows)} rows of {mixture.n_components} {label}s.", quiet)
