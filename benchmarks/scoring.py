"""Scoring and clustering: rows per second, and memory against the number of rows.

    python benchmarks/scoring.py [--threads N]
    python benchmarks/scoring.py --write-page    # the page's table, from the results file

The density of a row (`score_samples`), its cluster by the network q (`predict`) and its cluster by
the flows (`predict(method="exact")`) are timed. They are compared with scikit-learn's
`GaussianMixture` with the same number of components and full covariances, and with a Python loop
over the same number of zuko's flows, on the same rows. Two factors of `score_samples` are measured:
in double precision, the default, as against single; and by flows as against a Gaussian mixture that
was kept in place of them, whose layers are the identity and left out. Memory is the largest
resident set during the call, minus the memory of the process before it, which includes the table.
Each value of memory comes from its own process.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import common
import numpy as np
from peers import Architecture, ZukoLoop
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from vmonf import FlowMixture
from vmonf.flows import family_of

FAMILIES = ("realnvp", "maf", "nsf")
#: The number of rows that are timed, for each K.
TIMED_ROWS = {5: 10_000, 50: 4_000}
FEATURES = (2, 16)
MEMORY_ROWS = (10_000, 100_000, 1_000_000)
METHODS: dict[str, Callable[[FlowMixture, np.ndarray], np.ndarray]] = {
    "score_samples": FlowMixture.score_samples,
    "predict": FlowMixture.predict,
    "predict, exact": partial(FlowMixture.predict, method="exact"),
}

#: Variants of the mixture whose `score_samples` is timed too, by what is set in `fitted`.
VARIANTS: dict[str, dict[str, Any]] = {
    "single precision": {"precision": "single"},
    "Gaussian mixture kept": {"max_epochs": 0},
}
PEERS = ("zuko loop", "GaussianMixture score_samples", "GaussianMixture predict")


def rows_of(n_rows: int, n_features: int) -> np.ndarray:
    """Draw standard normal rows; the time does not depend on their values."""
    return np.random.default_rng(0).standard_normal((n_rows, n_features))


def fitted(family: str, components: int, features: int, **variant: Any) -> FlowMixture:
    """Train for one epoch on few rows, because the time does not depend on the weights' values."""
    settings = {"max_epochs": 1, **variant}
    mixture = FlowMixture(
        components,
        flow=family,
        base=1,
        init="kmeans",
        validation_fraction=0,
        random_state=0,
        **settings,
    )
    return mixture.fit(rows_of(4 * components - 1, features))


def gaussian_calls(components: int, X: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return the calls of scikit-learn's mixture."""
    mixture = GaussianMixture(components, max_iter=2, init_params="random_from_data")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.set_params(random_state=0).fit(X)
    return {
        "GaussianMixture score_samples": lambda: mixture.score_samples(X),
        "GaussianMixture predict": lambda: mixture.predict(X),
    }


def zuko_calls(family: str, components: int, X: np.ndarray) -> dict[str, Callable[[], object]]:
    """Return the call for the density by a loop over zuko's flows, with our number of layers."""
    if find_spec("zuko") is None:
        return {}
    layers = family_of("realnvp").n_layers
    loop = ZukoLoop(Architecture(family, components, X.shape[1], layers=layers), learning_rate=0.0)
    x = loop.rows(X)
    return {"zuko loop": lambda: np.logaddexp.reduce(loop.log_joint(x), axis=1)}


def rates(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the rows per second of every contestant, for every K, D and family."""
    sizes = [(5, 2)] if arguments.quick else list(product(TIMED_ROWS, FEATURES))
    families = FAMILIES[:1] if arguments.quick else FAMILIES
    runs = []
    for (components, features), family in product(sizes, families):
        X = rows_of(TIMED_ROWS[components], features)
        mixture = fitted(family, components, features)
        calls = {
            **{name: partial(method, mixture, X) for name, method in METHODS.items()},
            **{
                name: partial(fitted(family, components, features, **variant).score_samples, X)
                for name, variant in VARIANTS.items()
            },
            **gaussian_calls(components, X),
            **zuko_calls(family, components, X),
        }
        repeats = 1 if arguments.quick else arguments.repeats
        times = common.time_in_turn(calls, repeats, least_seconds=0.05)
        run = {
            "family": family,
            "components": components,
            "features": features,
            "rows": len(X),
            "rows_per_second": {
                name: len(X) / common.spread(seconds)["median"] for name, seconds in times.items()
            },
            "seconds": {name: common.spread(seconds) for name, seconds in times.items()},
            "ratio_to_variant": {
                name: common.ratio(times["score_samples"], times[name]) for name in VARIANTS
            },
        }
        shown = "  ".join(f"{name} {rate:,.0f}" for name, rate in run["rows_per_second"].items())
        print(f"{family:8} K = {components}, D = {features}: rows/s  {shown}", flush=True)
        runs.append(run)
    return runs


def memory(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure peak memory against the number of rows, each value in its own process."""
    points = [(5, 2, method, rows) for method, rows in product(METHODS, MEMORY_ROWS)]
    points += [(50, 16, "score_samples", rows) for rows in MEMORY_ROWS[:2]]
    if arguments.quick:
        points = points[:2]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for components, features, method, rows in points:
            path = Path(folder, f"{components}.vmonf")
            if not path.exists():
                fitted("realnvp", components, features).save(path)
            point = {"model": str(path), "method": method, "rows": rows}
            run = {
                "method": method,
                "components": components,
                "features": features,
                "rows": rows,
                **common.in_fresh_process(arguments, point),
            }
            print(
                f"{method}, K = {components}, D = {features}, {rows:,} rows: "
                f"peak {run['peak_mebibytes']:.0f} MiB, input and output "
                f"{run['input_and_output_mebibytes']:.1f} MiB",
                flush=True,
            )
            runs.append(run)
    return runs


def measure_memory(model: str, method: str, rows: int) -> dict[str, float]:
    """Measure the peak memory of one call, in this process."""
    mixture = FlowMixture.load(model)
    X = rows_of(rows, mixture.n_features_in_)
    METHODS[method](mixture, X[:16])  # loads what libraries load late
    peak = common.peak_memory(lambda: METHODS[method](mixture, X))
    return {"peak_mebibytes": peak, "input_and_output_mebibytes": (X.nbytes + 8 * rows) / 2**20}


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    rate_runs, memory_runs = document["rates"], document["memory"]
    names = [*METHODS, *PEERS]
    lines = [
        common.source(document, "scoring"),
        "",
        "Rows per second, ours in double precision, the default, and zuko's in single:",
        "",
        "| family | K | D | " + " | ".join(names) + " |",
        "|---" * (3 + len(names)) + "|",
    ]
    for run in rate_runs:
        rate = run["rows_per_second"]
        cells = [
            f"{rate[name]:,.0f}" if name in rate else common.why_missing(document, "zuko")
            for name in names
        ]
        lines.append(
            f"| {run['family']} | {run['components']} | {run['features']} | "
            + " | ".join(cells)
            + " |"
        )
    lines += [
        "",
        "How many times as fast `score_samples` is with single precision, and where a Gaussian "
        "mixture was kept: the median of the ratios.",
        "",
        f"| family | K | D | {' | '.join(VARIANTS)} |",
        "|---" * (3 + len(VARIANTS)) + "|",
    ]
    for run in rate_runs:
        cells = [f"{run['ratio_to_variant'][name]:.1f}" for name in VARIANTS]
        size = f"{run['family']} | {run['components']} | {run['features']}"
        lines.append(f"| {size} | {' | '.join(cells)} |")
    lines += [
        "",
        "Memory of the call, beyond that of the process before it, realnvp:",
        "",
        "| call | K | D | rows | peak, MiB | input and output, MiB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run['method']} | {run['components']} | {run['features']} | {run['rows']:,} "
        f"| {run['peak_mebibytes']:.0f} | {run['input_and_output_mebibytes']:.1f} |"
        for run in memory_runs
    ]
    return lines


def measure(arguments: argparse.Namespace) -> None:
    """Measure rates and memory, and write the results file."""
    common.write_results(arguments, rates=rates(arguments), memory=memory(arguments))


def main() -> None:
    """Run, print, and write the results file."""
    common.run(__doc__, "scoring", measure, page, point=measure_memory, repeats=3)


if __name__ == "__main__":
    main()
