"""Memory of one process that fits and predicts many times.

    python benchmarks/memory.py [--threads N]
    python benchmarks/memory.py --write-page    # the page's table, from the results file

One process fits small tables again and again, each with other rows. Every second fit has labels,
and every tenth mixture is saved and loaded. Another process scores and clusters rows with one
mixture, and sometimes draws from it. Memory is the resident set after a collection of garbage. It
rises at first, while libraries load what they load late and allocators fill their pools. So the
growth is that of the second half: the slope of a line through its readings, by least squares, times
the number of its calls. Objects are those that the garbage collector knows: one that is kept by
each fit would raise their number by the number of fits.
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import common
import numpy as np
from sklearn.datasets import make_blobs

from vmonf import FlowMixture, PosteriorMLP, RealNVP

CALLS = {"fits": 300, "predictions": 10_000}
QUICK_CALLS = {"fits": 4, "predictions": 40}
#: Number of times that memory is read.
READINGS = 50


def fitted(number: int) -> FlowMixture:
    """Fit a small table, of other rows for each number, without and with labels in turn."""
    X, y = make_blobs(200, 2, centers=3, random_state=number)
    mixture = FlowMixture(
        3,
        flow=RealNVP(n_layers=2, hidden=(16,)),
        posterior=PosteriorMLP(hidden=(16,)),
        max_epochs=2,
        validation_fraction=0,
        random_state=number,
    )
    labels = np.where(np.arange(len(y)) % 10 == 0, y, -1) if number % 2 else None
    return mixture.fit(X, labels)


def fit(number: int) -> None:
    """Fit, and save and load every tenth mixture."""
    mixture = fitted(number)
    if number % 10 == 0:
        with tempfile.TemporaryDirectory() as folder:
            mixture.save(Path(folder, "model.vmonf"))
            FlowMixture.load(Path(folder, "model.vmonf"))


def predictions() -> Callable[[int], None]:
    """Return a function that scores and clusters some rows, and draws others."""
    mixture = fitted(0)
    random = np.random.default_rng(0)

    def predict(number: int) -> None:
        X = random.normal(size=(1 + number % 200, 2))
        mixture.predict(X)
        mixture.score_samples(X)
        if number % 10 == 0:
            mixture.sample(len(X), random_state=number)

    return predict


def measure(kind: str, n_calls: int) -> dict[str, float]:
    """Measure the memory of some calls in this process."""
    call = fit if kind == "fits" else predictions()
    readings = []
    began = time.perf_counter()
    for number in range(n_calls):
        call(number)
        if (number + 1) % max(1, n_calls // READINGS) == 0:
            gc.collect()
            readings.append((number + 1, common.resident_set(), len(gc.get_objects())))
    seconds = time.perf_counter() - began
    calls, mebibytes, objects = np.array(readings).T
    second_half = calls > n_calls / 2
    growth = [
        float(np.polyfit(calls[second_half], values[second_half], 1)[0] * n_calls / 2)
        for values in (mebibytes, objects)
    ]
    return {
        "first_mebibytes": float(mebibytes[0]),
        "middle_mebibytes": float(mebibytes[second_half][0]),
        "last_mebibytes": float(mebibytes[-1]),
        "growth": growth[0],
        "growth_of_objects": growth[1],
        "seconds": seconds,
    }


def runs(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure fits and predictions, each in a process of its own."""
    for kind, n_calls in (QUICK_CALLS if arguments.quick else CALLS).items():
        point = {"kind": kind, "n_calls": n_calls}
        yield {**point, **common.in_fresh_process(arguments, point)}


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    lines = [
        common.source(document, "memory"),
        "",
        "| in one process | memory at first, MiB | halfway | at last "
        "| growth in the second half, MiB | in objects | time, s |",
        "|---" * 7 + "|",
    ]
    for run in document["runs"]:
        memory = " | ".join(f"{run[f'{at}_mebibytes']:.1f}" for at in ("first", "middle", "last"))
        lines.append(
            f"| {run['n_calls']:,} {run['kind']} | {memory} | {run['growth']:+.2f} "
            f"| {round(run['growth_of_objects']) + 0} | {run['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    """Run, print, and write the results file after each part."""
    common.run(__doc__, "memory", common.each("runs", runs), page, point=measure, threads=1)


if __name__ == "__main__":
    main()
