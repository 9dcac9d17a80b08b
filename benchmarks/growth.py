"""Growth of time and memory with the numbers of components K, rows N and features D.

    python benchmarks/growth.py [--threads N] [--rows N]
    python benchmarks/growth.py --write-page    # the page's table, from the results file

One of the three is varied at a time, and the others stay at the base point. Tables in memory are
varied up to a million rows, and tables in Parquet files, which are made in a temporary folder and
read in parts, up to 20 million, or up to `--rows`. Every point is a fit of `FlowMixture` in its own
process, with defaults except for the number of epochs and the start, which is k-means: that of
`init="auto"`, the default, takes longer with many components, and is one more table. Three parts
are timed separately: what comes before the first epoch (reading, clusters, the Gaussian mixture
with cross-validated shrinkage, the first fit of q, and pretraining), the epochs (steps, and the
scoring of the held-out rows) and what comes after them (the comparison of the flows with the start,
and the last fit of q). An epoch is a pass over all rows. If training has more than `MOST_STEPS`
steps, it ends after that number, and the time of an epoch is extrapolated from these steps. Memory
is the largest resident set during the fit, minus the memory of the process before it, which
includes a table in memory. Then the exact density of some rows is timed, and the time to load the
model from its file.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import common
import numpy as np
import polars

from vmonf import FlowMixture
from vmonf.training import Objective, Training, TrainingLoop

BASE = {"components": 8, "rows": 10_000, "features": 8, "init": "kmeans", "from_files": False}
QUICK_BASE = BASE | {"components": 2, "rows": 1_000, "features": 2}


class Series(NamedTuple):
    """Points of which one parameter is varied."""

    title: str
    parameter: str
    values: tuple[int, ...]
    quick_values: tuple[int, ...] = ()
    others: Mapping[str, object] = MappingProxyType({})


SERIES = {
    "components": Series("K", "components", (2, 8, 32, 128, 512), (2, 4)),
    "components_auto": Series(
        "K, with init='auto'", "components", (2, 8, 32, 128, 512), others={"init": "auto"}
    ),
    "rows": Series("N", "rows", (1_000, 10_000, 100_000, 1_000_000)),
    "rows_in_files": Series(
        "N in files", "rows", (200_000, 2_000_000, 20_000_000), (1_000,), {"from_files": True}
    ),
    "features": Series("D", "features", (2, 8, 32, 128, 1_024)),
}
#: Number of steps after which a training ends.
MOST_STEPS = 1_000
#: With fewer rows, more than one epoch is timed.
FEW_ROWS = 20_000
FILE_ROWS = 1_000_000
#: Rows whose densities are timed, three times.
SCORED_ROWS = 2_000
#: Measured values, their column heads and formats.
COLUMNS = {
    "before_seconds": ("before, s", "{:.3g}"),
    "step_milliseconds": ("step, ms", "{:.3g}"),
    "epoch_seconds": ("epoch, s", "{:.3g}"),
    "after_seconds": ("after, s", "{:.3g}"),
    "peak_mebibytes": ("peak, MiB", "{:.0f}"),
    "score_microseconds_a_row": ("score, µs a row", "{:.3g}"),
    "load_seconds": ("load, s", "{:.2g}"),
}


def clusters(rows: int, components: int, features: int, seed: int = 0) -> np.ndarray:
    """Return rows around one centre for each component, made in place to save memory."""
    centres = 4 * np.random.default_rng(0).standard_normal((components, features))
    random = np.random.default_rng([0, seed])
    X = random.standard_normal((rows, features))
    for part in np.array_split(X, math.ceil(rows / 100_000)):
        part += centres[random.integers(components, size=len(part))]
    return X


def write_files(folder: Path, rows: int, components: int, features: int) -> None:
    """Write rows to Parquet files of at most `FILE_ROWS` rows."""
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        X = clusters(min(FILE_ROWS, rows - start), components, features, seed=number)
        polars.DataFrame(X).write_parquet(folder / f"{number:04}.parquet")


def measure(
    components: int, rows: int, features: int, init: str, from_files: bool, folder: str
) -> dict[str, float]:
    """Measure time and memory of one fit and of its model, in this process.

    The rows are those of the files in the folder, or made in memory.
    """
    X: Any = folder if from_files else clusters(rows, components, features)
    # An epoch is a whole pass, whatever the number of rows.
    training = Training(batch_size=256, epoch_rows=None)
    mixture = FlowMixture(
        components,
        init=init,
        max_epochs=max(1, FEW_ROWS // rows),
        training=training,
        random_state=0,
    )
    few = clusters(SCORED_ROWS, components, features, seed=1)
    FlowMixture(1, max_epochs=1).fit(few[:50])  # loads what libraries load late

    def fit() -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Training was interrupted")
            mixture.fit(X)

    with (
        common.watched(TrainingLoop, "_pretrain") as pretrainings,
        common.watched(TrainingLoop, "run") as trainings,
        common.watched(Objective, "__call__", most=MOST_STEPS) as steps,
    ):
        began = time.perf_counter()
        peak = common.peak_memory(fit)
        ended = time.perf_counter()
    steps = [step for step in steps if step[0] >= pretrainings[-1][1]]
    first_step, end_of_training = steps[0][0], trainings[-1][1]
    n_steps = len(steps) / max(1, mixture.n_epochs_)
    if not mixture.n_epochs_:  # training ended within its first epoch
        n_steps = rows * (1 - mixture.validation_fraction) // training.batch_size
    model = Path(folder, "model.vmonf")
    mixture.save(model)
    named = polars.DataFrame(few) if from_files else few
    calls = {
        "score": lambda: mixture.score_samples(named),
        "load": lambda: FlowMixture.load(model),
    }
    seconds = common.time_in_turn(calls, repeats=3, least_seconds=0)
    return {
        "before_seconds": first_step - began,
        "step_milliseconds": 1e3 * float(np.median(np.diff([began for began, _ in steps]))),
        "epoch_seconds": (end_of_training - first_step) * n_steps / len(steps),
        "after_seconds": ended - end_of_training,
        "peak_mebibytes": peak,
        "score_microseconds_a_row": 1e6 * np.median(seconds["score"]) / SCORED_ROWS,
        "load_seconds": np.median(seconds["load"]),
        "steps_an_epoch": n_steps,
        "steps_timed": len(steps),
    }


def points(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure all points, each in its own process, and the base point only once."""
    base = QUICK_BASE if arguments.quick else BASE
    runs: list[dict[str, Any]] = []
    for varied, series in SERIES.items():
        for size in series.quick_values if arguments.quick else series.values:
            if series.parameter == "rows" and size > arguments.rows:
                continue
            point = base | {series.parameter: size, **series.others}
            known = [run for run in runs if point.items() <= run.items()]
            answer = known[0] if known else measured(arguments, point)
            runs.append(answer | point | {"varied": varied, "size": size})
            yield runs[-1]


def measured(arguments: argparse.Namespace, point: Mapping[str, Any]) -> dict[str, float]:
    """Measure a point in its own process, with a folder for its table and its model."""
    with tempfile.TemporaryDirectory() as folder:
        if point["from_files"]:
            write_files(Path(folder), point["rows"], point["components"], point["features"])
        return common.in_fresh_process(arguments, {**point, "folder": folder})


def fixed(run: Mapping[str, Any]) -> str:
    """Return the values that are not varied in a run."""
    varied = SERIES[run["varied"]].parameter
    others = {"components": "K", "rows": "N", "features": "D"}
    return ", ".join(f"{head} = {run[name]:,}" for name, head in others.items() if name != varied)


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    lines = [common.source(document, "growth")]
    for varied, series in SERIES.items():
        runs = [run for run in document["runs"] if run["varied"] == varied]
        if not runs:
            continue
        heads = " | ".join(head for head, _ in COLUMNS.values())
        lines += [
            "",
            f"| {series.title} ({fixed(runs[0])}) | {heads} |",
            "|---" * (1 + len(COLUMNS)) + "|",
        ]
        for run in runs:
            mark = " *" if run["steps_timed"] < run["steps_an_epoch"] else ""
            cells = [style.format(run[name]) for name, (_, style) in COLUMNS.items()]
            lines.append(f"| {run['size']:,}{mark} | " + " | ".join(cells) + " |")
        if len(runs) == 1:
            continue
        sizes = [run["size"] for run in runs]
        slopes = [f"{common.slope(sizes, [run[name] for run in runs]):.2f}" for name in COLUMNS]
        last = [
            f"{common.slope(sizes[-2:], [run[name] for run in runs[-2:]]):.2f}" for name in COLUMNS
        ]
        lines.append("| log-log slope | " + " | ".join(slopes) + " |")
        lines.append("| slope of the last two | " + " | ".join(last) + " |")
    lines += ["", f"\\* The time of an epoch is extrapolated from its first {MOST_STEPS:,} steps."]
    return lines


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the option of this script."""
    most = max(SERIES["rows_in_files"].values)
    parser.add_argument("--rows", type=int, default=most, help="leave out larger tables")


def main() -> None:
    """Run, print, and write the results file after each part."""
    common.run(__doc__, "growth", common.each("runs", points), page, point=measure, add=add_options)


if __name__ == "__main__":
    main()
