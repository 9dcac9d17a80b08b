"""`vmonf plot`: draw a figure of a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vmonf.cli.common import (
    TABLE_ENDINGS,
    Columns,
    Json,
    Model,
    Quiet,
    feature_columns_of,
    feature_rows,
    load_mixture,
    print_json,
    remark,
)
from vmonf.files import check_output, written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_ENDINGS = (".png", ".pdf", ".svg")


def plot(
    model: Model,
    data: Annotated[
        Path | None, typer.Argument(metavar="[DATA]", help=f"Rows to show: {TABLE_ENDINGS}.")
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help=f"The figure to write: {', '.join(FIGURE_ENDINGS)}."),
    ] = Path("vmonf.png"),
    kind: Annotated[
        Literal["auto", "regions", "density", "training", "pairs", "sizes", "number"],
        typer.Option(
            help="What to draw: clusters' regions, the density, the training curves, pairs of "
            "features, clusters' sizes, or the choice of their number. auto chooses from the model "
            "and the rows."
        ),
    ] = "auto",
    label: Annotated[
        str | None, typer.Option(help="DATA's column of labels, to show beside the clusters.")
    ] = None,
    columns: Columns = None,
    seed: Annotated[int, typer.Option(min=0, help="The random seed of the figure.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw a model, and rows if a table is given."""
    check_output(output, FIGURE_ENDINGS, [model, *([] if data is None else [data])])
    if label is not None and data is None:
        raise typer.BadParameter("It names a column of DATA: give the table.", param_hint="--label")

    from vmonf.data.tables import label_column, read_table
    from vmonf.plots import plot as draw

    frame = None if data is None else read_table(data)
    mixture = load_mixture(model)
    rows, labels = None, None
    if frame is not None:
        beside = [] if label is None else [label]
        features = feature_columns_of(mixture, frame, columns, beside)
        rows = feature_rows(mixture, frame, features, with_gaps=True)
        labels = None if label is None else label_column(frame, label)[0]
    save_figure(draw(mixture, rows, labels, kind=kind, random_state=seed), output)
    if as_json:
        print_json({"path": output, "kind": kind})
    else:
        remark(f"Wrote {output}.", quiet)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all, in the format that the file's ending gives."""
    with written_whole(path) as stream:
        figure.savefig(stream, format=path.suffix[1:].lower(), dpi=150, bbox_inches="tight")
