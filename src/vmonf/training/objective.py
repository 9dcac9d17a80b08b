"""What is maximised: a value, which knows nothing of batches or optimisers."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vmonf.model import SparseTerms, Terms

Bound = Literal["elbo", "marginal"]


@dataclass(frozen=True)
class Rows:
    """Rows to train on.

    Attributes
    ----------
    x : Tensor of shape (n, D)
        In the user's units.
    weight : Tensor of shape (n,)
        How much each row counts, of mean one over all rows.
    component : Tensor of shape (n,), int64
        The component a row is known to belong to; -1 where it is not known.
    """

    x: Tensor
    weight: Tensor
    component: Tensor

    def take(self, index: Tensor) -> "Rows":
        """Some of the rows."""
        return Rows(self.x[index], self.weight[index], self.component[index])

    @property
    def n_rows(self) -> int:
        """N."""
        return len(self.x)


@dataclass(frozen=True)
class Objective:
    """The mean over rows of a bound, with labelled rows' own terms, in nats.

    An unlabelled row contributes

    - ``"elbo"``: sum_c q(c|x) [log p(x, c) - log q(c|x)], the paper's objective
      (Pires & Figueiredo 2020, equation 6);
    - ``"marginal"``: log p(x) + sum_c r(c|x) log q(c|x), where the responsibilities r are
      held fixed: the flows follow the exact likelihood, q follows the flows.

    A labelled row contributes log p(x, y) + log q(y|x) in both.
    """

    bound: Bound = "elbo"

    def __call__(self, terms: Terms | SparseTerms, rows: Rows) -> Tensor:
        """The objective of a batch: a scalar, to be maximised.

        Of sparse terms an estimate, without bias, of the ELBO.
        """
        if self.bound == "elbo":
            value = terms.elbo
        else:
            if isinstance(terms, SparseTerms):
                raise TypeError("The marginal bound takes every component of every row.")
            responsibilities = terms.log_responsibilities.detach().exp()
            value = terms.log_prob + (responsibilities * terms.log_posterior).sum(dim=-1)
        labelled = rows.component >= 0
        if labelled.any():
            label = rows.component.clamp(min=0)
            log_posterior = terms.log_posterior.gather(1, label[:, None])[:, 0]
            value = (terms.joint_with(label) + log_posterior).where(labelled, value)
        return (value * rows.weight).mean()
