"""Unbiased estimates of the ELBO from a few components for each row.

They reduce the cost of training with many components. The ELBO is sum_c q(c|x) log p(x, c) plus
the entropy of q. The entropy is cheap and is computed exactly. The sum is estimated from the
likeliest components under q, up to a given number, and one other component. The other is drawn at
random and weighted by the inverse of its probability. A component of small q is therefore still
evaluated on some rows, and its expected gradient is that of the full sum.
"""

from typing import NamedTuple

import torch
from torch import Tensor

#: Of the likeliest components, the first and those of at least this q(c|x) are always evaluated.
LIKELY = 0.01
#: The other component is drawn from a mixture of the uniform distribution, with this share, and q.
EXPLORATION = 0.25


class Pairs(NamedTuple):
    """P pairs of a row and a component to evaluate.

    Attributes
    ----------
    row, component : Tensor of shape (P,), int64
    chance : Tensor of shape (P,)
        Probability that the pair is included: 1, or less for the pairs drawn at random.
    """

    row: Tensor
    component: Tensor
    chance: Tensor


class SparseTerms(NamedTuple):
    """Terms of the objective for P pairs of B rows and K components, in nats.

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
        """An unbiased estimate of the ELBO of each row: shape (B,)."""
        row, component, chance = self.pairs
        posterior = self.log_posterior.exp()
        entropy = -(posterior * self.log_posterior).sum(dim=-1)
        share = posterior[row, component]
        # Subtracting a level b reduces the variance of the estimate. It adds no bias, since
        # sum_c q(c) (f(c) - b) + b is the same for every b that does not depend on the draw.
        certain = share.detach() * (chance == 1)
        level = self._by_row(certain * self.pair_log_joint.detach()) / self._by_row(certain)
        expected = self._by_row(share / chance * (self.pair_log_joint - level[row]))
        return level + expected + entropy

    def joint_with(self, component: Tensor) -> Tensor:
        """Log p(x, c) of each row with the given component: (B,) to (B,).

        It is 0 where that pair was not evaluated.
        """
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
    """Choose the components that each row is evaluated with.

    Parameters
    ----------
    log_posterior : Tensor of shape (B, K)
        log q(c given x), in nats.
    known : Tensor of shape (B,), int64
        The component of a labelled row, which is evaluated with this component only; -1 if the
        row is not labelled.
    n_likely : int
        Each row is evaluated with at most this many of its likeliest components, and with one
        other.
    generator : torch.Generator
        Draws the other components. It must be on the CPU.
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
    # A labelled row draws no other component. The other conditions exclude components of
    # probability zero, which rounding could select.
    drawing = (other_chance > 0) & ~labelled[:, 0] & others.gather(1, other)[:, 0].bool()
    other_row = drawing.nonzero()[:, 0]
    return Pairs(
        torch.cat([row, other_row]),
        torch.cat([component, other[other_row, 0]]),
        torch.cat([torch.ones_like(row, dtype=chance.dtype), other_chance[other_row]]),
    )
