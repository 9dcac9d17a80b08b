"""The objective of the training: a sum of terms for each row, in nats."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vmonf.model import MixtureModel, SparseTerms, Terms
from vmonf.rows import Rows


@dataclass(frozen=True)
class Evaluation:
    """A batch of B rows and its evaluation by the model, from which the terms are computed.

    Attributes
    ----------
    model : MixtureModel
        The model, for terms that evaluate further rows, such as perturbed rows.
    batch : Rows
    terms : Terms or SparseTerms
        log p(x, c) and log q(c given x) of the rows of the batch, in nats.
    temperature : float
        Temperature of the posterior.
    generator : torch.Generator
        Generator for terms that draw random numbers, on the CPU.
    """

    model: MixtureModel
    batch: Rows[Tensor]
    terms: Terms | SparseTerms
    temperature: float
    generator: torch.Generator

    @cached_property
    def has_labels(self) -> bool:
        """Whether any row of the batch has a label."""
        return bool(self.batch.labelled.any())


class Term(ABC):
    """One summand of the objective.

    Attributes
    ----------
    takes_sparse_terms : bool
        Whether the term can be computed, or estimated without bias, from a few components for
        each row.
    """

    takes_sparse_terms = True

    @abstractmethod
    def __call__(self, evaluation: Evaluation) -> Tensor:
        """The contribution of each row, in nats: shape (B,)."""


@dataclass(frozen=True)
class Elbo(Term):
    """sum_c q(c|x) [log p(x, c) - log q(c|x)] of each row without a label.

    With sparse terms it is an unbiased estimate. Source: Pires & Figueiredo (2020), equation 6.
    """

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """See `Term.__call__`."""
        return _of_unlabelled(evaluation.terms.elbo, evaluation)


@dataclass(frozen=True)
class Marginal(Term):
    """log p(x) + sum_c r(c|x) log q(c|x) of each row without a label.

    No gradient passes through the responsibilities r. The flows therefore maximise the exact
    log-likelihood, and q is fitted to r.
    """

    takes_sparse_terms = False

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """See `Term.__call__`."""
        terms = evaluation.terms
        if isinstance(terms, SparseTerms):
            raise TypeError(
                "The marginal objective needs every component of every row: use "
                "components_per_row=None."
            )
        responsibilities = terms.log_responsibilities.detach().exp()
        value = terms.log_prob + (responsibilities * terms.log_posterior).sum(dim=-1)
        return _of_unlabelled(value, evaluation)


@dataclass(frozen=True)
class Labels(Term):
    """log p(x, y) + log q(y|x) of each row whose label y is known."""

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """See `Term.__call__`."""
        terms, component = evaluation.terms, evaluation.batch.component
        if not evaluation.has_labels:
            return torch.zeros_like(evaluation.batch.weight)
        label = component.clamp(min=0)
        log_posterior = terms.log_posterior.gather(1, label[:, None])[:, 0]
        return (terms.joint_with(label) + log_posterior).where(component >= 0, 0.0)


#: The names that the parameter `objective` of `FlowMixture` accepts.
BOUNDS: dict[str, Term] = {"elbo": Elbo(), "marginal": Marginal()}


@dataclass(frozen=True)
class Objective:
    """A sum of terms, which the training maximises.

    Attributes
    ----------
    terms : tuple of Term
    components_per_row : int or None
        Each row is evaluated with at most this many of its likeliest components under q and with
        one other; see `vmonf.model.sparse`. None evaluates each row with every component, and so
        do batches whose rows have gaps.
    """

    terms: tuple[Term, ...]
    components_per_row: int | None = None

    def __call__(
        self,
        model: MixtureModel,
        batch: Rows[Tensor],
        temperature: float,
        generator: torch.Generator,
    ) -> tuple[Tensor, Terms | SparseTerms]:
        """Evaluate a model on a batch.

        Returns
        -------
        value : Tensor
            Weighted mean over rows of the sum of the terms, in nats: a scalar.
        terms : Terms or SparseTerms
            The log probabilities from which the value was computed.
        """
        n_likely = self.components_per_row
        evaluated: Terms | SparseTerms
        if n_likely is None or n_likely + 1 >= model.n_components or batch.draws is not None:
            evaluated = terms_of(model, batch, temperature)
        else:
            evaluated = model.sparse_terms(
                batch.x, batch.component, n_likely, generator, temperature
            )
        return self.value(Evaluation(model, batch, evaluated, temperature, generator)), evaluated

    def value(self, evaluation: Evaluation) -> Tensor:
        """Weighted mean over rows of the sum of the terms, in nats: a scalar."""
        of_rows = [term(evaluation) for term in self.terms]
        return (sum(of_rows[1:], start=of_rows[0]) * evaluation.batch.weight).mean()


def terms_of(model: MixtureModel, rows: Rows[Tensor], temperature: float) -> Terms:
    """All terms of rows; those of their known values if the rows have draws of the others."""
    if rows.draws is None:
        return model.terms(rows.x, temperature)
    return model.terms_of_draws(rows.draws, temperature)


def bound_objective(
    bound: str, components_per_row: int | None = None, further: tuple[Term, ...] = ()
) -> Objective:
    """The objective with the given name in `BOUNDS`, the term of the labels, and further terms."""
    return Objective((BOUNDS[bound], Labels(), *further), components_per_row)


def _of_unlabelled(value: Tensor, evaluation: Evaluation) -> Tensor:
    return value.where(~evaluation.batch.labelled, 0.0) if evaluation.has_labels else value
