"""`vmonf sample`: draw new rows from a model."""

from __future__ import annotations

from typing import Annotated

import typer

from vmonf.cli.common import (
    Json,
    Model,
    Quiet,
    TableOutput,
    beside,
    check_table_output,
    feature_names,
    load_mixture,
    print_json,
    remark,
    write_or_print,
)


def sample(
    model: Model,
    n: Annotated[int, typer.Option("--number", "-n", min=1, help="The number of rows.")] = 1000,
    output: TableOutput = None,
    component: Annotated[
        str | None,
        typer.Option(help="Draw only from this component, named as in the output of `predict`."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="The random seed.", show_default="the seed of the fit")
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Draw rows from the mixture.

    The columns are the features and `component`, the component that the row was drawn from. A .npy
    file holds only the features, of shape (n, D).
    """
    check_table_output(output, model)

    import polars

    mixture = load_mixture(model)
    # Names on the command line are text, but the model's names may be whole numbers.
    by_text = {str(name): name for name in mixture.classes_}
    chosen = None if component is None else by_text.get(component, component)
    rows, drawn = mixture.sample(n, chosen, random_state=seed)
    frame = polars.DataFrame(rows, schema=feature_names(mixture))
    if output is None or output.suffix.lower() != ".npy":
        frame = beside(frame, {"component": drawn}, "write a .npy file, which has no such column")
    in_summary = write_or_print(frame, output, as_json)
    if as_json:
        print_json({"path": output, "rows": n, "component": chosen} | in_summary)
    elif output is not None:
        remark(f"Wrote {output}: {n} rows.", quiet)
