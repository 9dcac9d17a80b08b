"""Many components: sparse evaluation compared with dense.

    python benchmarks/many_components.py [--out benchmarks/results/many_components.json]

The data are 64 arcs in the plane, and there are 64 components. The time of an epoch is measured
with all components at every row and with a few, and with four components in total. Then the final
log-likelihood on fresh rows is measured, and the number of components that are alive: those with
more than a tenth of an even share of the fresh rows.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median

import common
import numpy as np

from vmonf import FlowMixture, Training
from vmonf.experiments.tables import write_between_marks

N_ARCS = 64
SETTINGS = {"dense": None, "sparse": "auto"}
MAX_EPOCHS = 100


def arcs(n_rows: int, seed: int) -> np.ndarray:
    """Draw half circles on a grid, of random direction, equal size and equal weight."""
    turns = np.random.default_rng(0).uniform(0, 2 * np.pi, N_ARCS)
    random = np.random.default_rng(seed)
    arc = random.integers(N_ARCS, size=n_rows)
    angle = turns[arc] + random.uniform(0, np.pi, n_rows)
    radius = 1 + 0.08 * random.standard_normal(n_rows)
    centre = 3 * np.stack([arc % 8, arc // 8], axis=1)
    return centre + radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def seconds_per_epoch(mixture: FlowMixture) -> list[float]:
    """Return the times of the epochs after the first, which includes the warm-up of q."""
    return np.diff(mixture.history_["seconds"]).tolist()


def epochs(n_rows: int, n_epochs: int) -> dict[str, object]:
    """Measure the time of an epoch."""
    X = arcs(n_rows, seed=1)
    times = {}
    for name, n_components, per_row in (
        ("K=4", 4, None),
        ("K=64 dense", N_ARCS, None),
        ("K=64 sparse", N_ARCS, "auto"),
    ):
        mixture = FlowMixture(
            n_components,
            base=1,
            weights="uniform",
            init="kmeans",
            training=Training(components_per_row=per_row),
            max_epochs=n_epochs,
            random_state=0,
        ).fit(X)
        times[name] = common.spread(seconds_per_epoch(mixture))
        print(f"{name:12} {times[name]['median']:8.3f} s an epoch", flush=True)
    first = times["K=4"]["median"]
    ratios = {name: spread["median"] / first for name, spread in times.items()}
    return {"rows": n_rows, "seconds_per_epoch": times, "ratio_to_four": ratios}


def quality(n_rows: int, n_test: int, max_epochs: int, seed: int) -> list[dict[str, object]]:
    """Measure the final log-likelihood, ELBO and number of components that are alive."""
    X, X_test = arcs(n_rows, seed=1 + seed), arcs(n_test, seed=1000 + seed)
    runs = []
    for name, per_row in SETTINGS.items():
        began = time.perf_counter()
        mixture = FlowMixture(
            N_ARCS,
            base=1,
            weights="uniform",
            init="kmeans",
            training=Training(components_per_row=per_row),
            max_epochs=max_epochs,
            random_state=seed,
        ).fit(X)
        seconds = time.perf_counter() - began
        use = mixture.predict_proba(X_test, method="exact").mean(axis=0)
        run = {
            "evaluation": name,
            "seed": seed,
            "log_likelihood": mixture.score(X_test),
            "elbo": float(mixture.elbo(X_test).mean()),
            "alive": int((use > 0.1 / N_ARCS).sum()),
            "epochs": mixture.n_epochs_,
            "best_epoch": mixture.best_epoch_,
            "seconds": seconds,
            "seconds_per_epoch": median(seconds_per_epoch(mixture)),
        }
        runs.append(run)
        print(
            f"{name:7} seed {seed}  log-likelihood {run['log_likelihood']:.4f}  ELBO "
            f"{run['elbo']:.4f}  {run['alive']} alive  {run['epochs']} epochs  {seconds:.0f} s",
            flush=True,
        )
    return runs


def table(document: dict) -> list[str]:
    """Return the lines of the page."""
    timing = document["epochs"]
    lines = [
        common.source(document, "many_components"),
        "",
        f"An epoch of {timing['rows']:,} rows:",
        "",
        "| components | seconds | ratio to four components |",
        "|---|---:|---:|",
    ]
    for name, spread in timing["seconds_per_epoch"].items():
        ratio = timing["ratio_to_four"][name]
        lines.append(f"| {name} | {spread['median']:.2f} | {ratio:.1f} |")
    lines += [
        "",
        "Final log-likelihood, nats per fresh row, dense and sparse:",
        "",
        "| seed | dense | sparse | difference | alive | seconds |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    by_seed: dict[int, dict[str, dict]] = {}
    for run in document["quality"]:
        by_seed.setdefault(run["seed"], {})[run["evaluation"]] = run
    for seed, of in by_seed.items():
        dense, sparse = of["dense"], of["sparse"]
        lines.append(
            f"| {seed} | {dense['log_likelihood']:.3f} | {sparse['log_likelihood']:.3f} "
            f"| {sparse['log_likelihood'] - dense['log_likelihood']:+.3f} "
            f"| {dense['alive']}, {sparse['alive']} "
            f"| {dense['seconds']:.0f}, {sparse['seconds']:.0f} |"
        )
    return lines


def main() -> None:
    """Run, print, and write the results file."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--seeds", type=int, default=3)

    arguments = common.parse_arguments(__doc__, "many_components", add=add)
    if arguments.write_page:
        lines = table(json.loads(arguments.out.read_text()))
        write_between_marks(arguments.page, "many_components", lines)
        return
    if arguments.quick:
        results = {
            "epochs": epochs(600, n_epochs=3),
            "quality": quality(600, 200, max_epochs=2, seed=0),
        }
    else:
        runs = []
        for seed in range(arguments.seeds):
            runs += quality(25_600, 25_600, max_epochs=MAX_EPOCHS, seed=seed)
        results = {"epochs": epochs(25_600, n_epochs=6), "quality": runs}
    common.write_results(arguments, **results)


if __name__ == "__main__":
    main()
