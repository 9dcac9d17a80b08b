"""Comparison of densities on held-out rows, and the choice between flows and Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

#: The flows replace the Gaussian mixture only if their gain in held-out log-likelihood is more
#: than this many standard errors, since a smaller gain could be chance.
STANDARD_ERRORS_OF_GAIN = 2.0

#: A gain smaller than this, in nats per row, counts as none. If two densities are the same, their
#: rounding can give a gain of many standard errors.
SMALLEST_GAIN = 5e-4

#: Why nothing was trained, as the end of a sentence.
NOT_TRAINED = "because no epoch was trained: there were too few rows, no epochs, or no time."


class Comparison(NamedTuple):
    """Log-likelihood of one density minus that of another, on the same rows, in nats per row.

    Attributes
    ----------
    gain : float
    error : float
        Standard error of the gain.
    """

    gain: float
    error: float

    def exceeds_chance(self, standard_errors: float = STANDARD_ERRORS_OF_GAIN) -> bool:
        """Whether the gain counts, and is more than this many standard errors."""
        chance = standard_errors * self.error if standard_errors else 0.0
        return self.gain > max(SMALLEST_GAIN, chance)


@dataclass(frozen=True)
class Verdict:
    """Whether a fit kept the trained flows or the Gaussian mixture, and why.

    Attributes
    ----------
    kept : {"flows", "gaussian mixture"}
    reason : {"gain", "no gain", "not trained", "not judged", "continued"}
        "gain": the flows gained enough on the held-out rows; see `judge`. "no gain": they did not.
        "not trained": no epoch was trained, since there were too few rows, no epochs or no time,
        or since Ctrl-C ended it. "not judged": no rows were held out, and the flows of the last
        epoch were kept. "continued": the training went on from a fitted mixture, and the best epoch
        was kept, or the mixture as it was.
    gain, gain_error : float
        Log-likelihood of the flows minus that of the Gaussian mixture on the held-out rows, in
        nats per row, and its standard error. If the training went on from a fitted mixture, that
        mixture takes the place of the Gaussian one. The training rows are used if none are held
        out. Both are NaN if nothing was trained. The same rows choose the epoch, so the gain is
        biased slightly upwards.
    log_likelihood : float
        Log-likelihood of what was kept, on the held-out rows, in nats per row. It is NaN if no
        rows were held out. It is biased upwards in the same way. A Gaussian mixture that is kept
        is fitted again to all rows, if they are 50,000 or fewer, after this value was computed.
    epoch : int
        The epoch whose weights were kept. It is 0 if the initial weights or the Gaussian mixture
        were kept.
    n_epochs : int
        Number of epochs trained.
    """

    kept: Literal["flows", "gaussian mixture"]
    reason: Literal["gain", "no gain", "not trained", "not judged", "continued"]
    gain: float
    gain_error: float
    log_likelihood: float
    epoch: int
    n_epochs: int

    def __str__(self) -> str:
        """The verdict in one sentence."""
        if self.reason == "not trained":
            return f"The Gaussian mixture was kept, {NOT_TRAINED}"
        if self.reason == "not judged":
            return (
                f"No rows were held out to judge the flows: the weights of epoch {self.epoch}, "
                "the last, were kept."
            )
        if self.reason == "continued" and self.n_epochs == 0:
            return f"The fitted mixture was kept, {NOT_TRAINED}"
        if self.reason == "continued" and self.epoch == 0:
            further = f"{self.n_epochs} further epoch{'s' if self.n_epochs > 1 else ''}"
            return f"The fitted mixture was kept: of {further}, none improved on it."
        epochs = f"{self.n_epochs} epoch{'s' if self.n_epochs > 1 else ''}"
        size = (
            f"{abs(self.gain):.4f} ± {self.gain_error:.4f} nats per row of held-out log-likelihood"
        )
        if self.reason == "continued":
            return f"The training went on and gained {size}: epoch {self.epoch} of {self.n_epochs}."
        if self.reason == "gain":
            weights = (
                f"epoch {self.epoch} of {self.n_epochs} was kept"
                if self.epoch > 0
                else f"of {epochs}, none improved on the weights that training began with"
            )
            return f"The flows gained {size} over the Gaussian mixture of the start: {weights}."
        if abs(self.gain) < SMALLEST_GAIN:
            return "The flows gained nothing on the held-out rows: the Gaussian mixture was kept."
        if self.gain < 0:
            return f"The flows lost {size}: the Gaussian mixture was kept."
        return f"The flows gained {size}, perhaps by chance: the Gaussian mixture was kept."


def compare(log_prob: Array, reference: Array, weight: Array) -> Comparison:
    """Compare two densities by their log densities of the same rows.

    Parameters
    ----------
    log_prob, reference : array of shape (n,)
        Log densities of the rows, in nats.
    weight : array of shape (n,)
        Weight of each row. If only one row has any, the standard error is infinite.
    """
    values = log_prob - reference
    share = weight / weight.sum()
    mean = float(share @ values)
    n_effective = 1 / float(share @ share)
    if n_effective < 1 + 1e-9:
        return Comparison(mean, math.inf)
    variance = float(np.square(share) @ np.square(values - mean))
    return Comparison(mean, math.sqrt(variance * n_effective / max(1.0, n_effective - 1)))


def judge(
    flows: Array | None,
    gaussians: Array,
    weight: Array,
    *,
    held_out: bool,
    epoch: int,
    n_epochs: int,
    standard_errors: float = STANDARD_ERRORS_OF_GAIN,
) -> Verdict:
    """Decide between trained flows and the Gaussian mixture.

    Parameters
    ----------
    flows : array of shape (n,) or None
        Log density of each judged row under the flows, in nats; None if nothing was trained.
    gaussians : array of shape (n,)
        The same under the Gaussian mixture.
    weight : array of shape (n,)
        Weight of each row.
    held_out : bool
        Whether these rows were held out from the training.
    epoch, n_epochs : int
        The epoch whose weights the flows have, and the number of epochs trained.
    standard_errors : float
        The flows are kept if they gain more than this many standard errors.
    """
    of_gaussians = float(weight @ gaussians / weight.sum()) if held_out else math.nan
    if flows is None:
        nan = math.nan
        return Verdict("gaussian mixture", "not trained", nan, nan, of_gaussians, 0, 0)
    comparison = compare(flows, gaussians, weight)
    if not held_out:
        return Verdict("flows", "not judged", *comparison, math.nan, epoch, n_epochs)
    if comparison.exceeds_chance(standard_errors):
        of_flows = of_gaussians + comparison.gain
        return Verdict("flows", "gain", *comparison, of_flows, epoch, n_epochs)
    return Verdict("gaussian mixture", "no gain", *comparison, of_gaussians, 0, n_epochs)
