"""Held-out quality of the defaults: the pinwheel and scikit-learn's tables.

    python benchmarks/quality.py [--out benchmarks/results/quality.json] [--seeds N]
    python benchmarks/quality.py --write-readme      # the README's tables, from the results file

For the pinwheel, cluster accuracy and log-likelihood are compared with those of the true density.
For iris, wine, breast cancer and digits, the log-likelihood is compared with that of scikit-learn's
GaussianMixture with each of its covariance types and the same number of components, on the raw and
on the standardised table. All fits use the defaults and one thread.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import common
import numpy as np
import sklearn
import torch
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split

import vmonf
from vmonf import FlowMixture
from vmonf.data import Pinwheel
from vmonf.experiments.common import commit_of
from vmonf.experiments.tables import write_between_marks
from vmonf.files import written_whole
from vmonf.metrics import clustering_accuracy
from vmonf.plain import plain

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
LOADERS = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
}


def pinwheel(seed: int) -> dict[str, object]:
    """Fit 5 x 512 rows, and score 5 x 2,000 fresh ones."""
    wheel = Pinwheel()
    X, _ = wheel.sample(512, random_state=seed)
    X_test, labels = wheel.sample(2000, random_state=10_000 + seed)
    began = time.perf_counter()
    mixture = FlowMixture(n_components=5, random_state=seed).fit(X)
    seconds = time.perf_counter() - began
    return {
        "data": "pinwheel",
        "seed": seed,
        "accuracy": clustering_accuracy(labels, mixture.predict(X_test)),
        "accuracy_exact": clustering_accuracy(labels, mixture.predict(X_test, method="exact")),
        "log_likelihood": mixture.score(X_test),
        "true_log_likelihood": float(wheel.log_prob(X_test).mean()),
        "gap": float(mixture.gap(X_test).mean()),
        "epochs": mixture.n_epochs_,
        "seconds": seconds,
    }


def load_table(name: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return three quarters of a table's rows for training, the other rows, and their labels."""
    X, y = LOADERS[name](return_X_y=True)
    X = X[:, np.ptp(X, axis=0) > 0]
    if name == "digits":  # whole numbers: uniform noise makes them continuous
        X = X + np.random.default_rng(seed).random(X.shape)
    X, X_test, _, labels = train_test_split(X, y, test_size=0.25, random_state=seed)
    return X, X_test, labels


def gaussian_mixtures(
    X: np.ndarray, X_test: np.ndarray, n_components: int, seed: int
) -> dict[str, float]:
    """Return the held-out log-likelihood of scikit-learn's mixtures of each type."""
    gaussian = {}
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    for covariance_type in COVARIANCE_TYPES:
        mixture = GaussianMixture(n_components, covariance_type=covariance_type, random_state=seed)
        gaussian[covariance_type] = float(mixture.fit(X).score(X_test))
        # Its regularisation is absolute and so depends on the units; hence both variants.
        mixture.fit((X - mean) / deviation)
        gaussian[f"{covariance_type}, standardised"] = float(
            mixture.score((X_test - mean) / deviation) - np.log(deviation).sum()
        )
    return gaussian


def table(name: str, seed: int) -> dict[str, object]:
    """Fit three quarters of a table, and score the rest with ours and eight Gaussian mixtures."""
    X, X_test, labels = load_table(name, seed)
    n_components = len(np.unique(labels))
    gaussian = gaussian_mixtures(X, X_test, n_components, seed)
    began = time.perf_counter()
    ours = FlowMixture(n_components=n_components, random_state=seed).fit(X)
    seconds = time.perf_counter() - began
    return {
        "data": name,
        "seed": seed,
        "rows": len(X),
        "features": X.shape[1],
        "log_likelihood": ours.score(X_test),
        "gaussian_mixture": gaussian,
        "best_gaussian": max(gaussian.values()),
        "accuracy": clustering_accuracy(labels, ours.predict(X_test)),
        "best_epoch": ours.best_epoch_,
        "gap": float(ours.gap(X_test).mean()),
        "seconds": seconds,
    }


def write_readme(document: dict, readme: Path) -> None:
    """Write the tables between the README's marks."""
    runs = document["runs"]
    wheels = [run for run in runs if run["data"] == "pinwheel"]
    behind = [run["true_log_likelihood"] - run["log_likelihood"] for run in wheels]
    accuracy = [run["accuracy"] for run in wheels]
    seconds = [run["seconds"] for run in wheels]
    versions = document["versions"]
    lines = [
        f"Defaults, {document['machine']}, torch {versions['torch']}, scikit-learn "
        f"{versions['scikit-learn']}; held-out rows, nats per row. Written by `make quality` "
        f"(results in `benchmarks/results/quality.json`).",
        "",
        f"Pinwheel, 2,560 rows, {len(wheels)} seeds: cluster accuracy {min(accuracy):.3f} to "
        f"{max(accuracy):.3f}; log-likelihood {min(behind):.3f} to {max(behind):.3f} nats below "
        f"the true density's; {min(seconds):.0f} to {max(seconds):.0f} s a fit.",
        "",
        "| table (training rows x features) | seed | vmonf | best `GaussianMixture` | its type "
        "| difference |",
        "|---|---|---|---|---|---|",
    ]
    for run in runs:
        if run["data"] == "pinwheel":
            continue
        gaussian = run["gaussian_mixture"]
        kind = max(gaussian, key=gaussian.get)
        lines.append(
            f"| {run['data']} ({run['rows']} x {run['features']}) | {run['seed']} "
            f"| {run['log_likelihood']:.2f} | {run['best_gaussian']:.2f} | {kind} "
            f"| {run['log_likelihood'] - run['best_gaussian']:+.2f} |"
        )
    lines += [
        "",
        "The best Gaussian mixture is the best of scikit-learn's four covariance types with the "
        "same number of components, on the raw and on the standardised table, chosen on the "
        "held-out rows themselves.",
    ]
    write_between_marks(readme, "quality", lines)


def main() -> None:
    """Run, print, and write the results file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quality.json"))
    parser.add_argument("--seeds", type=int, default=10, help="for a table, at most 3")
    parser.add_argument("--only", help="one data set by name")
    parser.add_argument("--write-readme", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    if arguments.write_readme:
        write_readme(json.loads(arguments.out.read_text()), Path("README.md"))
        return
    common.use_threads(1)
    runs = []
    for name in ("pinwheel", *LOADERS):
        if arguments.only not in (None, name):
            continue
        for seed in range(arguments.seeds if name == "pinwheel" else min(3, arguments.seeds)):
            run = pinwheel(seed) if name == "pinwheel" else table(name, seed)
            runs.append(run)
            reference = run.get("true_log_likelihood", run.get("best_gaussian"))
            print(
                f"{name:14} seed {seed}  log-likelihood {run['log_likelihood']:9.3f}  "
                f"reference {reference:9.3f}  difference "
                f"{run['log_likelihood'] - reference:+7.3f}  accuracy {run['accuracy']:.3f}  "
                f"gap {run['gap']:.3f}  {run['seconds']:.1f} s",
                flush=True,
            )
    document = {
        "command": "python " + " ".join(sys.argv),
        "commit": commit_of(Path(__file__)),
        "versions": {
            "vmonf": vmonf.__version__,
            "torch": torch.__version__,
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread",
        "settings": plain(FlowMixture().get_params(deep=False)),
        "runs": runs,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(arguments.out) as stream:
        stream.write(f"{json.dumps(document, indent=1)}\n".encode())


if __name__ == "__main__":
    main()
