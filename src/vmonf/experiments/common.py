"""Helpers that the experiments share: the paper's training settings, file names and accuracy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from vmonf.metrics import clustering_accuracy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]

#: Section 4 of the paper: base distributions are standard normal, mixing weights are uniform, all
#: components start at all rows, Adam has a constant learning rate, and the last weights are kept.
#: The paper does not give its temperatures; these are ours.
PAPER_TRAINING: dict[str, Any] = {
    "base": 1,
    "weights": "uniform",
    "init": "none",
    "temperature": (10.0, 1.0),
    "training__learning_rate_schedule": "constant",
    "training__weight_decay": 0.0,
    "training__averaging": 0.0,
    "validation_fraction": 0.0,
    "training__patience": None,
    "training__refine_posterior": False,
}


def command_of(experiment: str, n_seeds: int, quick: bool) -> str:
    """Return the command that a user types."""
    return f"vmonf reproduce {experiment} --seeds {n_seeds}{' --quick' * quick}"


def stem_of(experiment: str, case: str) -> str:
    """Return the name of a case's files, without an ending."""
    return re.sub(r"[^\w-]+", "-", f"{experiment}-{case}".replace("'", ""))


def accuracy(truth: IntArray, clusters: IntArray, is_labelled: bool) -> float:
    """Return the share of rows in the cluster of their class.

    With labels, a cluster has the name of its class. Without, the best one-to-one map is used.
    """
    if is_labelled:
        return float(np.mean(truth == clusters))
    return clustering_accuracy(truth, clusters)
