"""Growth of a fit's time and memory with the numbers of components K, rows N and features D.

    python benchmarks/growth.py [--threads N]
    python benchmarks/growth.py --write-page    # the page's table, from the results file

One of the three is varied at a time, and the others stay at the base point. Every point is a fit
of `FlowMixture` in its own process, with defaults except for the number of epochs. Three parts are
timed separately: the start (Gaussian mixture with cross-validated shrinkage), the epochs (steps,
and the scoring of the held-out rows) and the rest (equal rows, scales, q before and after training,
the comparison of the flows with the start). If an epoch has more than `MOST_STEPS` steps, training
ends after that number, and the time of the epoch is extrapolated from these steps. Memory is the
largest resident set during the fit, minus the memory of the process before it, which includes the
table.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Mapping
from typing import Any

import common
import numpy as np

from vmonf import FlowMixture
from vmonf.experiments.tables import write_between_marks
from vmonf.start import GaussianStarter
from vmonf.training import Objective, Training, TrainingLoop

BASE = {"components": 8, "rows": 10_000, "features": 8}
VALUES = {
    "components": (2, 4, 8, 16, 32, 64, 128),
    "rows": (1_000, 10_000, 100_000, 1_000_000, 10_000_000),
    "features": (2, 8, 32, 128, 784),
}
QUICK_BASE = {"components": 2, "rows": 1_000, "features": 2}
QUICK_VALUES = {"components": (2, 4)}
#: Number of steps after which a training ends; an epoch of a million rows has fewer.
MOST_STEPS = 4_000
#: With fewer rows, more than one epoch is timed.
FEW_ROWS = 20_000
TITLES = {"components": "K", "rows": "N", "features": "D"}
#: Measured values, their column heads and formats.
COLUMNS = {
    "start_seconds": ("start, s", "{:.3g}"),
    "step_milliseconds": ("step, ms", "{:.3g}"),
    "epoch_seconds": ("epoch, s", "{:.3g}"),
    "other_seconds": ("rest, s", "{:.3g}"),
    "peak_mebibytes": ("peak, MiB", "{:.0f}"),
}


def clusters(rows: int, components: int, features: int) -> np.ndarray:
    """Return rows around one centre for each component, made in place to save memory."""
    random = np.random.default_rng(0)
    centres = 4 * random.standard_normal((components, features))
    X = random.standard_normal((rows, features))
    for part in np.array_split(X, math.ceil(rows / 100_000)):
        part += centres[random.integers(components, size=len(part))]
    return X


def measure(components: int, rows: int, features: int) -> dict[str, float]:
    """Measure time and memory of one fit, in this process."""
    X = clusters(rows, components, features)
    # An epoch is a whole pass, whatever the number of rows.
    training = Training(batch_size=256, epoch_rows=None)
    mixture = FlowMixture(
        components, max_epochs=max(1, FEW_ROWS // rows), training=training, random_state=0
    )
    FlowMixture(1, max_epochs=1).fit(X[:50])  # loads what libraries load late

    def fit() -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Training was interrupted")
            mixture.fit(X)

    with (
        common.watched(GaussianStarter, "fit") as starts,
        common.watched(TrainingLoop, "run") as trainings,
        common.watched(Objective, "__call__", most=MOST_STEPS) as steps,
    ):
        began = time.perf_counter()
        peak = common.peak_memory(fit)
        seconds = time.perf_counter() - began
    (start,), (trained,) = starts, trainings
    epochs = trained[1] - steps[0][0]
    n_steps = len(steps) / max(1, mixture.n_epochs_)
    if not mixture.n_epochs_:  # training ended within its first epoch
        n_steps = rows * (1 - mixture.validation_fraction) // training.batch_size
    return {
        "start_seconds": start[1] - start[0],
        "step_milliseconds": 1e3 * float(np.median(np.diff([began for began, _ in steps]))),
        "epoch_seconds": epochs * n_steps / len(steps),
        "other_seconds": seconds - epochs - (start[1] - start[0]),
        "peak_mebibytes": peak,
        "table_mebibytes": X.nbytes / 2**20,
        "steps_an_epoch": n_steps,
        "steps_timed": len(steps),
    }


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure all points, each in its own process, and the base point only once."""
    base, values = (QUICK_BASE, QUICK_VALUES) if arguments.quick else (BASE, VALUES)
    runs: list[dict[str, Any]] = []
    for varied, sizes in values.items():
        for size in sizes:
            point = base | {varied: size}
            known = [run for run in runs if point.items() <= run.items()]
            answer = known[0] if known else common.in_fresh_process(arguments, point)
            runs.append(answer | point | {"varied": varied})
            shown = "  ".join(
                f"{title} {style.format(answer[name])}" for name, (title, style) in COLUMNS.items()
            )
            print(f"{TITLES[varied]} = {size:<9,} {shown}", flush=True)
    return runs


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    lines = [common.source(document, "growth")]
    for varied, title in TITLES.items():
        runs = [run for run in document["runs"] if run["varied"] == varied]
        if not runs:
            continue
        fixed = ", ".join(f"{TITLES[n]} = {runs[0][n]:,}" for n in TITLES if n != varied)
        lines += [
            "",
            f"| {title} ({fixed}) | " + " | ".join(title for title, _ in COLUMNS.values()) + " |",
            "|---" * (1 + len(COLUMNS)) + "|",
        ]
        for run in runs:
            mark = " *" if run["steps_timed"] < run["steps_an_epoch"] else ""
            cells = [style.format(run[name]) for name, (_, style) in COLUMNS.items()]
            lines.append(f"| {run[varied]:,}{mark} | " + " | ".join(cells) + " |")
        sizes = [run[varied] for run in runs]
        slopes = [f"{common.slope(sizes, [run[name] for run in runs]):.2f}" for name in COLUMNS]
        last = [
            f"{common.slope(sizes[-2:], [run[name] for run in runs[-2:]]):.2f}" for name in COLUMNS
        ]
        lines.append("| log-log slope | " + " | ".join(slopes) + " |")
        lines.append("| slope of the last two | " + " | ".join(last) + " |")
    lines += ["", f"\\* The time of an epoch is extrapolated from its first {MOST_STEPS:,} steps."]
    return lines


def main() -> None:
    """Run, print, and write the results file."""
    arguments = common.parse_arguments(__doc__, "growth")
    if arguments.point:
        print(json.dumps(measure(**arguments.point)))
        return
    if not arguments.write_page:
        common.write_results(arguments, runs=run(arguments))
    lines = page(json.loads(arguments.out.read_text()))
    if arguments.write_page:
        write_between_marks(arguments.page, "growth", lines)
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
