"""Helpers that the experiments share: the paper's training settings, file names and accuracy."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
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


def commit_of(file: Path) -> str | None:
    """Return the commit of the repository that holds a file, or None if there is none.

    It ends in "-dirty" if a Python file has changed since. Other files do not count: a run that
    writes its results after each part would otherwise make itself dirty.
    """

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(file.parent), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:  # git is not installed
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    described = git("describe", "--always")
    if described is None:
        return None
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":(top)*.py")
    return described + ("-dirty" if changed else "")


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
