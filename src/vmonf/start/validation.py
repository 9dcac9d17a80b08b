"""Cross-validation of a density, which gives up where another density is clearly better."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from vmonf.judge import compare

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: A density that is worse than the best by this many standard errors in the first folds is not
#: validated in the others.
ERRORS_TO_GIVE_UP = 3.0


def validated(folds: Iterable[tuple[Array, Array]], best: Array | None) -> Array | None:
    """Log densities of the rows that each fold holds out, in nats, fold after fold.

    Parameters
    ----------
    folds : iterable of (array of shape (m,), array of shape (m,))
        The log densities of the held-out rows of a fold, and their weights. They are computed one
        fold after the other.
    best : array of shape (n,) or None
        Log densities of the same rows under the best density so far.

    Returns
    -------
    array of shape (n,), or None
        None if the density is clearly worse than the best in the first folds.
    """
    log_prob, weight = np.empty(0), np.empty(0)
    for of_fold, weight_of_fold in folds:
        log_prob = np.concatenate([log_prob, of_fold])
        weight = np.concatenate([weight, weight_of_fold])
        if best is not None:
            gain, error = compare(log_prob, best[: len(log_prob)], weight)
            if gain < -ERRORS_TO_GIVE_UP * error:
                return None
    return log_prob
