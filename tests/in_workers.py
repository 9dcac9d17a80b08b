"""Fit, score and sample alone and in workers of each kind, and print which workers differ.

`test_workers.py` runs this as a script: workers that are spawned import it.
"""

import multiprocessing
import sys

import joblib
import numpy as np

from vmonf import FlowMixture, PosteriorMLP, RealNVP


def work(seed):
    """Everything that a fitted mixture computes, as one array."""
    random = np.random.default_rng(seed)
    X = random.normal(size=(200, 2)) + 6 * np.eye(2)[random.integers(2, size=200)]
    mixture = FlowMixture(
        2,
        flow=RealNVP(n_layers=2, hidden=(16,)),
        posterior=PosteriorMLP(hidden=(16,)),
        init="kmeans",
        max_epochs=2,
        validation_fraction=0,
        random_state=seed,
    ).fit(X)
    drawn, _ = mixture.sample(100)
    return np.column_stack([X, mixture.score_samples(X), mixture.predict_proba(X)]), drawn


def in_workers(kind, seeds):
    """The results of two workers of joblib, or of one of multiprocessing."""
    if kind in ("fork", "spawn"):
        with multiprocessing.get_context(kind).Pool(1) as pool:
            return pool.map(work, seeds)
    return joblib.Parallel(2, backend=kind)(joblib.delayed(work)(seed) for seed in seeds)


if __name__ == "__main__":
    SEEDS = (0, 1)
    alone = [work(seed) for seed in SEEDS]
    for kind in sys.argv[1:]:
        found = in_workers(kind, SEEDS)
        same = [
            np.array_equal(one, other)
            for pair in zip(alone, found, strict=True)
            for one, other in zip(*pair, strict=True)
        ]
        print(kind, "same" if all(same) else "different", flush=True)
