"""Helpers that the verbs share: error messages, reading of models and tables, and output."""

from __future__ import annotations

import functools
import json
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from vmonf.files import check_output
from vmonf.plain import finite, plain

if TYPE_CHECKING:
    import polars
    from numpy.typing import ArrayLike
    from rich.console import Console
    from rich.table import Table

    from vmonf import FlowMixture

P = ParamSpec("P")

TABLE_ENDINGS = ".csv, .tsv, .parquet or .npy"

# These arguments and options have the same meaning in every verb. A verb that reads a model takes
# the model first and the table second.
Model = Annotated[
    Path, typer.Argument(metavar="MODEL", help="A model file that `vmonf fit` wrote.")
]
Data = Annotated[Path, typer.Argument(metavar="DATA", help=f"A table: {TABLE_ENDINGS}.")]
BigData = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help=f"A table: {TABLE_ENDINGS}; or a folder or 'pattern*.parquet' of Parquet files.",
    ),
]
Kept = Annotated[
    list[str] | None,
    typer.Option(
        "--id",
        metavar="NAMES",
        help="The only columns of DATA to keep beside the result (a,b, or repeated).",
    ),
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="DATA's columns to use as the model's features, in the model's order (a,b,c, or "
        "repeated). Needed only if their names differ from the model's.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="NAMES", help="Columns of DATA to leave out (a,b, or repeated)."),
]
TableOutput = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help=f"The file to write: {TABLE_ENDINGS}. By default, CSV is printed."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no remarks.")]
Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON object on standard output. Without -o, it includes the table, if any.",
    ),
]


# ---------------------------------------------------------------- errors


def errors_in_one_sentence(verb: Callable[P, None]) -> Callable[P, None]:
    """Wrap a verb so that it reports an error as one sentence and exits with code 1.

    The sentence goes to standard error, without a stack trace. Each warning is one line. Ctrl-C
    exits with code 130. If the environment variable VMONF_DEBUG is set, the error is raised with
    its stack trace.
    """

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("default", category=UserWarning)
            warnings.showwarning = _show_warning
            try:
                verb(*args, **kwargs)
            # Typer handles these: exits, bad usage, and a pipe closed by its reader.
            except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
                raise
            except KeyboardInterrupt:
                typer.echo("Stopped: no unfinished file was left.", err=True)
                raise typer.Exit(130) from None
            except Exception as error:
                if os.environ.get("VMONF_DEBUG"):
                    raise
                if not _is_told_by_first(error):
                    notes = " ".join(getattr(error, "__notes__", ()))
                    typer.echo(f"Error: {_sentence(error)} {notes}".rstrip(), err=True)
                raise typer.Exit(1) from error

    return run


def joined(verb: Callable[P, None]) -> Callable[P, None]:
    """Wrap a verb so that the processes that torchrun has started run it together."""

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return verb(*args, **kwargs)
        from vmonf import ranks

        with ranks.joined():
            return verb(*args, **kwargs)

    return run


def _is_told_by_first(error: Exception) -> bool:
    ranks = sys.modules.get("vmonf.ranks")
    return ranks is not None and ranks.is_told_by_first(error)


def _sentence(error: Exception) -> str:
    """Describe an error on one line; an unexpected one is described with its type."""
    message = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "can't allocate memory" in message:
        return "There is not enough memory: use fewer rows, columns or --components."
    if isinstance(error, (ValueError, ImportError)) or type(error) is ArithmeticError:
        return message
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'A file'} cannot be used: {error.strerror}."

    # Imported late, because they import torch, which is slow and not needed for the errors above.
    from vmonf.ranks import LostProcessError
    from vmonf.training import TrainingError

    if isinstance(error, (TrainingError, LostProcessError)):
        return message
    described = f"{type(error).__name__}: {message}".rstrip(".: ")
    return (
        f"Something unexpected went wrong ({described}): set VMONF_DEBUG=1 and run again for "
        "the full trace."
    )


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    ranks = sys.modules.get("vmonf.ranks")
    if ranks is not None and not ranks.is_first():
        return
    typer.echo(f"Warning: {' '.join(str(message).split())}", err=True)


# ---------------------------------------------------------------- files and columns


def check_table_output(path: Path | None, *inputs: str | Path) -> None:
    """Check that a table can be written to a path; None means standard output.

    The inputs are files, folders and patterns that are read, and must not be replaced.
    """
    if path is not None:
        from vmonf.data.tables import ENDINGS

        check_output(path, ENDINGS, inputs)


def split_names(given: Iterable[str] | None, frame: polars.DataFrame) -> list[str]:
    """Split column names at commas, except a text that is itself the name of a column."""
    names: list[str] = []
    for text in given or ():
        names += [text] if text in frame.columns else [part.strip() for part in text.split(",")]
    return names


def load_mixture(path: Path) -> FlowMixture:
    """Load a model onto a GPU if there is one, otherwise the CPU, whatever its fit used."""
    from vmonf import FlowMixture

    return FlowMixture.load(path, device="auto")


def feature_names(mixture: FlowMixture) -> list[str]:
    """Return the feature names of the training table, or "0", "1", ... if it had none."""
    names = getattr(mixture, "feature_names_in_", range(mixture.n_features_in_))
    return [str(name) for name in names]


def feature_columns_of(
    mixture: FlowMixture,
    frame: polars.DataFrame,
    columns: Iterable[str] | None,
    exclude: Sequence[str] = (),
) -> list[str]:
    """Find a model's features in a table.

    Parameters
    ----------
    mixture : FlowMixture
        A fitted mixture with D features.
    frame : polars.DataFrame
    columns : iterable of str, optional
        As given by `--columns`.
    exclude : sequence of str
        Columns that are not features. They matter only if the model or the table has no names;
        otherwise they are only checked to exist.

    Returns
    -------
    list of str
        D columns of the table: the columns given by the user; otherwise the columns named like
        the model's features, in any order in the table; or, if the model or the table has no
        names, all columns that are not excluded.

    Raises
    ------
    TableError
        If a feature or an excluded column is missing, or the number of columns is not D.
    """
    from vmonf.data import TableError
    from vmonf.data.tables import feature_columns

    names = feature_names(mixture)
    is_unnamed = not hasattr(mixture, "feature_names_in_") or (
        frame.columns == [str(position) for position in range(frame.width)]
        and not set(names) <= set(frame.columns)
    )
    if columns is not None:
        chosen = split_names(columns, frame)
    elif is_unnamed:
        chosen = [name for name in frame.columns if name not in set(exclude)]
    else:
        chosen = names
    if len(chosen) != len(names):
        raise TableError(
            f"The model has {len(names)} features and the table offers {len(chosen)} columns: "
            f"choose {len(names)} with --columns, in the model's order."
        )
    # Here, excluded names are only checked to exist: a user may exclude a feature from a result.
    return feature_columns(frame, chosen, [name for name in exclude if name not in chosen])


def feature_rows(
    mixture: FlowMixture,
    frame: polars.DataFrame,
    columns: Sequence[str],
    first_row: int = 0,
    *,
    with_gaps: bool = False,
) -> ArrayLike:
    """Return the features as an array-like of shape (n, D), with the model's names if any.

    `first_row` is the number of rows of the table before this part of it, for messages. With
    `with_gaps` values may be missing, if the model was fitted so.
    """
    import polars

    from vmonf.data.tables import OR_FIT_WITH_GAPS, to_matrix

    takes_gaps = mixture.missing == "marginal"
    or_else = "; this command takes whole rows" if takes_gaps else OR_FIT_WITH_GAPS
    with_gaps = with_gaps and takes_gaps
    matrix = to_matrix(frame, columns, first_row, with_gaps=with_gaps, or_else=or_else)
    if not hasattr(mixture, "feature_names_in_"):
        return matrix
    return polars.DataFrame(matrix, schema=feature_names(mixture))


def kept_columns(
    frame: polars.DataFrame,
    features: Sequence[str],
    ids: Iterable[str] | None,
    left_out: Sequence[str],
    keep_features: bool,
    output: Path | None,
) -> list[str]:
    """Return the columns of a table that a result keeps: all that are not features, or `--id`."""
    from vmonf.data.tables import select_columns

    if output is not None and output.suffix.lower() == ".npy":
        return []
    if ids is not None:
        chosen = select_columns(frame, split_names(ids, frame))
        chosen += [name for name in features if keep_features and name not in chosen]
    else:
        hidden = set() if keep_features else set(features)
        chosen = [name for name in frame.columns if name not in hidden]
    return [name for name in chosen if name not in set(left_out)]


def beside(
    kept: polars.DataFrame, new: Mapping[str, Any], remedy: str = "leave it out with --exclude"
) -> polars.DataFrame:
    """Append new columns to the kept ones.

    Raises
    ------
    TableError
        If a new column has the name of a kept one.
    """
    import polars

    from vmonf.data import TableError

    for name in new:
        if name in kept.columns:
            raise TableError(
                f"The result's column {name!r} is already in the table: {remedy} {name}."
            )
    return polars.DataFrame({**kept.to_dict(), **new})


# ---------------------------------------------------------------- printing


def console() -> Console:
    """Return a console for standard output that prints names with brackets unchanged."""
    from rich.console import Console

    # Without a terminal, rich would cut tables to 80 characters.
    width = None if sys.stdout.isatty() else 160
    return Console(width=width, markup=False, highlight=False, emoji=False)


def plain_table(first: str, *others: str) -> Table:
    """Make a table whose first column holds names and whose others hold numbers."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def remark(text: str, quiet: bool = False) -> None:
    """Print a line on standard error, unless quiet."""
    if not quiet:
        typer.echo(text, err=True)


def print_json(values: Mapping[str, Any]) -> None:
    """Print one JSON object; numbers that JSON cannot hold become "NaN" or "Infinity"."""
    typer.echo(json.dumps(finite(plain(values)), indent=2, ensure_ascii=False, allow_nan=False))


def write_or_print_parts(
    parts: Iterable[polars.DataFrame], n_rows: int, output: Path | None, as_json: bool
) -> dict[str, dict[str, list[Any]]]:
    """As `write_or_print`, with a table of `n_rows` rows that is computed in parts."""
    import polars

    if output is not None:
        from vmonf.data.writer import written_in_parts

        with written_in_parts(output, n_rows) as write:
            for part in parts:
                write(part)
    elif as_json:
        return {"table": polars.concat(parts).to_dict(as_series=False)}
    else:
        for number, part in enumerate(parts):
            typer.echo(part.write_csv(include_header=number == 0), nl=False)
    return {}


def write_or_print(
    frame: polars.DataFrame, output: Path | None, as_json: bool
) -> dict[str, dict[str, list[Any]]]:
    """Write a table to a file, print it as CSV, or return it for the JSON summary.

    Returns the table's entry in the JSON summary: its columns under "table" if it was neither
    written nor printed, otherwise nothing.
    """
    if output is not None:
        from vmonf.data import write_table

        write_table(frame, output)
    elif as_json:
        return {"table": frame.to_dict(as_series=False)}
    else:
        typer.echo(frame.write_csv(), nl=False)
    return {}
