"""A few components a row: what makes training with many components affordable.

The ELBO is sum_c q(c|x) log p(x, c) plus the entropy of q. The entropy costs next to nothing;
the sum is estimated without bias from the components that q thinks likely, all of them, and one
of the others, drawn at random and weighted by one over its chance. Components that q forgot
are so still seen by some rows, and none is starved that the whole sum would not starve.
"""

from typing import NamedTuple

import torch
from torch import Tensor

#: A component of less q(c|x) than this is not evaluated for sure.
LIKELY = 0.01
#: How much of the chance of being drawn is spread evenly; the rest follows q.
EXPLORATION = 0.25


class Pairs(NamedTuple):
    """Rows and components to evaluate together.

    Attributes
    ----------
    row, component : Tensor of shape (P,), int64
    chance : Tensor of shape (P,)
        With which the pair was to be here: 1, but for those drawn at random.
    """

    row: Tensor
    component: Tensor
    chance: Tensor


class SparseTerms(NamedTuple):
    """What the objective takes of B rows, K components and P pairs of both, in nats.

    Attributes
    ----------
    pairs : Pairs
    pair_log_joint : Tensor of shape (P,)
        log p(x, c) of the pairs.
    log_posterior : Tensor of shape (B, K)
        log q(c given x).
    """

    pairs: Pairs
    pair_log_joint: Tensor
    log_posterior: Tensor

    @property
    def elbo(self) -> Tensor:
        """An estimate of each row's ELBO, whose mean over draws is the ELBO: shape (B,)."""
        row, component, chance = self.pairs
        posterior = self.log_posterior.exp()
        entropy = -(posterior * self.log_posterior).sum(dim=-1)
        share = posterior[row, component]
        # Less a level, the draw moves the estimate little: sum_c q(c) (f(c) - b) + b is the
        # same for every b, as long as b does not depend on the draw.
        certain = share.detach() * (chance == 1)
        level = self._by_row(certain * self.pair_log_joint.detach()) / self._by_row(certain)
        expected = self._by_row(share / chance * (self.pair_log_joint - level[row]))
        return level + expected + entropy

    def joint_with(self, component: Tensor) -> Tensor:
        """Log p(x, c) with one component a row, of those evaluated: (B,) to (B,)."""
        asked = self.pairs.component == component[self.pairs.row]
        return self._by_row(self.pair_log_joint.where(asked, 0.0))

    def non_finite(self) -> list[tuple[int, int, float]]:
        """Row, component and value of each log p(x, c) of the pairs that is not finite."""
        bad = ~torch.isfinite(self.pair_log_joint)
        row, component, values = (
            part[bad].tolist()
            for part in (self.pairs.row, self.pairs.component, self.pair_log_joint)
        )
        return list(zip(row, component, values, strict=True))

    def _by_row(self, values: Tensor) -> Tensor:
        rows = values.new_zeros(len(self.log_posterior))
        return rows.index_add(0, self.pairs.row, values)


@torch.no_grad()
def choose_pairs(
    log_posterior: Tensor, known: Tensor, n_likely: int, generator: torch.Generator
) -> Pairs:
    """The components each row is evaluated with.

    Parameters
    ----------
    log_posterior : Tensor of shape (B, K)
    known : Tensor of shape (B,), int64
        The component of a labelled row, evaluated with it alone; -1 where it is not known.
    n_likely : int
        At most so many of the likeliest components a row, and one of the others.
    generator : torch.Generator
        On the CPU.
    """
    posterior = log_posterior.exp()
    share, component = posterior.topk(n_likely, dim=-1)
    labelled = (known >= 0)[:, None]
    chosen = share >= LIKELY
    chosen[:, 0] = True
    chosen &= ~labelled
    likely = torch.zeros_like(posterior, dtype=torch.bool).scatter(1, component, chosen)
    likely |= torch.nn.functional.one_hot(known.clamp(min=0), posterior.shape[1]).bool() & labelled
    row, component = likely.nonzero(as_tuple=True)

    others = (~likely).to(posterior.dtype)
    of_posterior = posterior * others
    total = of_posterior.sum(dim=-1, keepdim=True)
    followed = torch.where(total > 0, 1 - EXPLORATION, 0.0) * of_posterior / total.clamp(min=1e-30)
    even = others / others.sum(dim=-1, keepdim=True).clamp(min=1)
    chance = followed + (1 - followed.sum(dim=-1, keepdim=True)) * even
    drawn = torch.rand(len(chance), 1, generator=generator, dtype=chance.dtype).to(chance.device)
    reached = chance.cumsum(dim=-1) <= drawn * chance.sum(dim=-1, keepdim=True)
    other = reached.sum(dim=-1, keepdim=True).clamp(max=posterior.shape[1] - 1)
    other_chance = chance.gather(1, other)[:, 0]
    # A labelled row draws none; nor does rounding choose what cannot be.
    drawing = (other_chance > 0) & ~labelled[:, 0] & others.gather(1, other)[:, 0].bool()
    other_row = drawing.nonzero()[:, 0]
    return Pairs(
        torch.cat([row, other_row]),
        torch.cat([component, other[other_row, 0]]),
        torch.cat([torch.ones_like(row, dtype=chance.dtype), other_chance[other_row]]),
    )
