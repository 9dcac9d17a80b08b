"""A term that makes the posterior agree between a row and a perturbed row."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor

from vmonf.parameters import ParameterError
from vmonf.training.objective import Evaluation, Term

#: A function of a batch of rows (B, D), in the user's units, and a generator on the CPU. It
#: returns the perturbed rows (B, D).
PerturbRows: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Perturbation:
    """A way to perturb the rows of a batch.

    Attributes
    ----------
    function : callable
        A function of an `Evaluation` and of a size. It returns the perturbed rows (B, D), in the
        user's units.
    size : float
        The default size.
    largest : float
        The size must be at most this.
    needs_spacing : bool
        Whether the rows must have their `spacing`.
    least_features : int
        Least number of features.
    """

    function: Callable[[Evaluation, float], Tensor]
    size: float
    largest: float = math.inf
    needs_spacing: bool = False
    least_features: int = 1


def _noise(evaluation: Evaluation, size: float) -> Tensor:
    """Rows plus Gaussian noise whose root mean square length is `size` times their spacing."""
    x, spacing = evaluation.batch.x, evaluation.batch.spacing
    if spacing is None:
        raise ValueError("The rows of the training have no spacing, which the noise needs.")
    noise = torch.randn(x.shape, generator=evaluation.generator, dtype=x.dtype).to(x.device)
    length = size / math.sqrt(x.shape[1]) * spacing[:, None]
    standardizer = evaluation.model.standardizer
    return standardizer.inverse(standardizer(x) + noise * length)


def _features_left_out(evaluation: Evaluation, size: float) -> Tensor:
    """Rows in which a share of the features has the values of other rows of the batch.

    A value of another row, unlike zero or the mean, is one that the feature can have. At least
    one feature of each row stays. Source: Bahri et al., "SCARF" (2022).
    """
    x, generator = evaluation.batch.x, evaluation.generator
    is_left_out = torch.rand(x.shape, generator=generator) < size
    kept = torch.randint(x.shape[1], (len(x), 1), generator=generator)
    is_left_out = is_left_out.scatter(1, kept, False).to(x.device)
    others = torch.randint(len(x), x.shape, generator=generator).to(x.device)
    return x.gather(0, others).where(is_left_out, x)


#: The names that the setting `consistency` accepts.
PERTURBATIONS: dict[str, Perturbation] = {
    "noise": Perturbation(_noise, size=1.0, needs_spacing=True),
    "features": Perturbation(_features_left_out, size=0.2, largest=1.0, least_features=2),
}


@dataclass(frozen=True)
class Consistency(Term):
    """Minus the divergence of q(c|x) and q(c|x'), where x' is the row x after a perturbation.

    The divergence is the mean of KL(q(c|x), q(c|x')) and KL(q(c|x'), q(c|x)), each with its first
    distribution held fixed. The gradient is thus that of two cross-entropies: it is bounded, does
    not vanish where q is certain and contradicts itself, and does not itself make q more or less
    certain. No gradient reaches the flows. All rows count, labelled or not.

    Sources: Sajjadi et al., "Regularization with stochastic transformations and perturbations"
    (2016); Miyato et al., "Virtual adversarial training" (2018), whose target is held fixed; Hu
    et al., "Learning discrete representations via information maximizing self-augmented training"
    (2017), whose perturbations are scaled to the distance of the tenth neighbour.

    Attributes
    ----------
    perturbation : {"noise", "features"} or callable
        A name in `PERTURBATIONS`, or a function of rows and a generator; see `PerturbRows`.
    size : float
        The size of the perturbation. A function does not use it.
    weight : float
        Factor of the divergence.
    """

    # A function is left out, since its representation differs between runs.
    perturbation: str | PerturbRows = field(repr=False)
    size: float
    weight: float

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """See `Term.__call__`."""
        perturbed = self._perturbed(evaluation)
        first = evaluation.terms.log_posterior
        second = evaluation.model.log_posterior(perturbed, evaluation.temperature)
        return -0.5 * self.weight * (_to_fixed(first, second) + _to_fixed(second, first))

    @torch.no_grad()
    def _perturbed(self, evaluation: Evaluation) -> Tensor:
        if isinstance(self.perturbation, str):
            return PERTURBATIONS[self.perturbation].function(evaluation, self.size)
        x = evaluation.batch.x
        perturbed = self.perturbation(x.clone(), evaluation.generator)
        if not isinstance(perturbed, Tensor) or perturbed.shape != x.shape:
            found = getattr(perturbed, "shape", None)
            returned = type(perturbed).__name__ if found is None else f"shape {tuple(found)}"
            raise ParameterError(
                "training__consistency",
                f" must return a tensor of the shape {tuple(x.shape)} of its rows, and returned "
                f"{returned}.",
            )
        if not bool(torch.isfinite(perturbed).all()):
            raise ParameterError(
                "training__consistency", " returned NaN or infinite values: return finite rows."
            )
        return perturbed.to(x)


def _to_fixed(log_posterior: Tensor, fixed: Tensor) -> Tensor:
    """KL(fixed, posterior) of each row, without gradient for the first: (B, K) to (B,), in nats."""
    fixed = fixed.detach()
    return (fixed.exp() * (fixed - log_posterior)).sum(dim=-1)
