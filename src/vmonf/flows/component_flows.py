"""K normalizing flows side by side: their densities and samples."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vmonf.flows.base import Base, GaussianMixtureBase, StandardNormal
from vmonf.flows.transform import Chain, Transform
from vmonf.flows.whitening import Whitening

#: Values in the widest layer when rows are evaluated in parts. On a CPU a part then stays in the
#: cache; on other devices it takes 64 MiB in float32.
CACHED_VALUES, VALUES_AT_ONCE = 2**20, 2**24

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class ComponentFlows(nn.Module):
    """K flows of one architecture, each from data to its base distribution.

    Parameters
    ----------
    whitening : Whitening
        The affine start of each flow, applied to the data first.
    layers : iterable of Transform
        The other transforms, in order from data to base. Each starts as the identity up to the
        order of the features, so that fresh flows are the Gaussians of the whitening.
    base : Base, optional
        The base distributions. None is the standard normal for every flow.

    Notes
    -----
    Methods take rows as (B, D), shared by all components, or as (K, B, D), with rows for each
    component. ``components``, a tensor of C component indices, restricts a method to these
    components: the component axis then has length C, the cost is that of C components, and
    gradients are those of the full parameters.
    """

    base: Base

    def __init__(
        self, whitening: Whitening, layers: Iterable[Transform], base: Base | None = None
    ) -> None:
        super().__init__()
        self.n_components, _, self.n_features = whitening.mean.shape
        self.chain = Chain([whitening, *layers])
        self.base = StandardNormal(self.n_components, self.n_features) if base is None else base

    def only(self, components: Tensor) -> ComponentFlows:
        """A copy with these components alone, in this order: C indices, int64."""
        flows = copy.deepcopy(self)
        for module in flows.modules():
            for name, p in list(module.named_parameters(recurse=False)):
                kept = p.detach()[components].clone()
                setattr(module, name, nn.Parameter(kept, requires_grad=p.requires_grad))
        flows.n_components = flows.base.n_components = len(components)
        return flows

    @property
    def whitening(self) -> Whitening:
        """The affine start of each flow."""
        return cast(Whitening, self.chain.transforms[0])

    @property
    def values_per_row(self) -> int:
        """How many values the widest layer holds for one row, over all components."""
        widths = [p.shape[0] * p.shape[-1] for p in self.chain.parameters()]
        if isinstance(self.base, GaussianMixtureBase):
            widths.append(self.base.mean.numel())
        return max(widths)

    @property
    def values_at_once(self) -> int:
        """How many values a layer should hold at once, in evaluation in parts."""
        return CACHED_VALUES if self.whitening.mean.device.type == "cpu" else VALUES_AT_ONCE

    def log_prob(self, x: Tensor, components: Tensor | None = None) -> Tensor:
        """Log density of rows under each component.

        Parameters
        ----------
        x : Tensor of shape (B, D) or (K, B, D)
        components : Tensor of shape (C,), optional
            Evaluate these components alone.

        Returns
        -------
        Tensor of shape (K, B)
            log p(x given c) in nats.
        """
        z, log_det = self.to_base(x, components)
        of_base: Tensor = _restricted(self.base, components)(z)
        return log_det + of_base

    @torch.no_grad()
    def set_gaussians(
        self, means: Tensor, covariances: Tensor, weights: Tensor, component: Tensor
    ) -> None:
        """Make fresh flows the Gaussian mixtures of the atoms of their components.

        Parameters
        ----------
        means : Tensor of shape (A, D)
        covariances : Tensor of shape (A, D, D), or (A, D) of variances
        weights : Tensor of shape (A,)
            Only their ratios within a component count.
        component : Tensor of shape (A,), int64
            The component of each atom, in ascending order.

        Raises
        ------
        torch.linalg.LinAlgError
            If a covariance is not positive definite.
        """
        if not isinstance(self.base, GaussianMixtureBase):
            self.whitening.set_gaussians(means, covariances)
            return
        n_atoms = component.bincount(minlength=self.n_components)
        place = torch.arange(len(component)) - (n_atoms.cumsum(0) - n_atoms)[component]
        dense = (self.n_components, self.base.logits.shape[1])
        share = weights.new_zeros(dense).index_put((component, place), weights)
        share = share / share.sum(dim=1, keepdim=True)
        mean = means.new_zeros(*dense, self.n_features).index_put((component, place), means)
        eye = torch.eye(self.n_features, dtype=means.dtype)
        covariance = eye.repeat(*dense, 1, 1).index_put((component, place), covariances)
        # Whiten by the mean and the covariance of each whole component.
        centre = (share[..., None] * mean).sum(dim=1)
        apart = mean - centre[:, None, :]
        spread = covariance + apart[..., :, None] * apart[..., None, :]
        self.whitening.set_gaussians(centre, (share[..., None, None] * spread).sum(dim=1))
        # Fresh flows are affine: rows z = (x - centre) @ matrix.
        in_double = {name: p.double() for name, p in self.chain.named_parameters()}
        points = torch.cat([centre[:, None, :] + eye, centre[:, None, :]], dim=1)
        z, _ = functional_call(self.chain, in_double, (points,))
        matrix = (z[:, :-1] - z[:, -1:])[:, None]
        self.base.set_atoms(
            share, (apart[..., None, :] @ matrix)[..., 0, :], matrix.mT @ covariance @ matrix
        )

    def log_prob_of_pairs(self, x: Tensor, row: Tensor, component: Tensor) -> Tensor:
        """Log density of some rows under some components, at the cost of these pairs.

        Parameters
        ----------
        x : Tensor of shape (B, D)
        row, component : Tensor of shape (P,), int64

        Returns
        -------
        Tensor of shape (P,)
            log p(x[row[i]] given component[i]) in nats.
        """
        counts = component.bincount(minlength=self.n_components)
        component, order = component.sort(stable=True)
        row = row[order]
        place = torch.arange(len(row), device=x.device) - (counts.cumsum(0) - counts)[component]
        # The rows of each component side by side, padded with row 0.
        slots = row.new_zeros(self.n_components, int(counts.max()))
        slots[component, place] = row
        log_prob = x.new_zeros(len(row))
        for members in _like_counts(counts.tolist()):
            chosen = torch.tensor(members, device=x.device)
            values = x[slots[chosen, : int(counts[chosen].max())]]
            is_all = len(members) == self.n_components
            found = self.log_prob(values, None if is_all else chosen)
            index = counts.new_full((self.n_components,), -1)
            index[chosen] = torch.arange(len(members), device=x.device)
            mine = (index[component] >= 0).nonzero()[:, 0]
            log_prob = log_prob.index_put((mine,), found[index[component[mine]], place[mine]])
        return torch.empty_like(log_prob).index_put((order,), log_prob)

    def to_base(self, x: Tensor, components: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to base: z (K, B, D) and log |det dz/dx| (K, B)."""
        return self._run(x, components, inverse=False)

    def from_base(self, z: Tensor, components: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map base to data: x (K, B, D) and log |det dx/dz| (K, B)."""
        return self._run(z, components, inverse=True)

    def sample(self, counts: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``counts[c]`` rows from component c.

        Components with similar counts are drawn together, as many as fit `values_at_once`,
        padded to the largest of their group, which is less than twice the smallest: the work
        is less than twice the number of rows asked for, whatever K is, and no parameter is
        copied per row.

        Parameters
        ----------
        counts : Tensor of shape (K,), integer
        generator : torch.Generator, optional

        Returns
        -------
        Tensor of shape (sum of counts, D)
            The rows of component 0, then those of component 1, ...
        """
        parameter = self.whitening.mean
        everyone = torch.arange(self.n_components, device=counts.device)
        of_rows = everyone.repeat_interleave(counts).to(parameter.device)
        blocks = list(self.base.sample(of_rows, parameter, generator).split(counts.tolist()))
        groups: dict[int, list[int]] = {}
        for component, count in enumerate(counts.tolist()):
            if count:
                groups.setdefault(count.bit_length(), []).append(component)
        for group in groups.values():
            group.sort(key=lambda component: len(blocks[component]))
            values = len(blocks[group[-1]]) * self.values_per_row // self.n_components
            at_once = max(1, self.values_at_once // values)
            for first in range(0, len(group), at_once):
                members = group[first : first + at_once]
                padded = nn.utils.rnn.pad_sequence([blocks[c] for c in members], batch_first=True)
                rows, _ = self.from_base(padded, torch.tensor(members, device=parameter.device))
                for component, drawn in zip(members, rows, strict=True):
                    blocks[component] = drawn[: len(blocks[component])]
        return torch.cat(blocks)

    def _run(
        self, values: Tensor, components: Tensor | None, *, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        n_evaluated = self.n_components if components is None else len(components)
        values = values.mT.contiguous().mT  # in memory features first; see `Transform`
        if values.dim() == 2:
            values = values.expand(n_evaluated, *values.shape)
        result: tuple[Tensor, Tensor] = _restricted(self.chain, components)(values, inverse=inverse)
        return result


def _restricted(module: AnyModule, components: Tensor | None) -> AnyModule:
    """A module with the parameters of some components, or the module itself for all of them.

    The module is not changed, since another thread may use it at the same time. All but the
    parameters is shared with it, and gradients reach its parameters.
    """
    if components is None:
        return module
    restricted = copy.copy(module)
    restricted._parameters = {
        name: None if p is None else cast(nn.Parameter, p[components])
        for name, p in module._parameters.items()
    }
    restricted._modules = {
        name: None if part is None else _restricted(part, components)
        for name, part in module._modules.items()
    }
    return restricted


#: The cost of another pass over the layers, in rows of one component.
PASS_OVERHEAD = 1024


def _like_counts(counts: list[int]) -> list[list[int]]:
    """Split components into those of many rows and those of few, or not, whichever is less work.

    Every member of a group costs as much as its largest member. A second group costs another
    pass over the layers.
    """
    everyone = list(range(len(counts)))
    order = sorted(everyone, key=lambda component: -counts[component])
    order = [component for component in order if counts[component]]
    best, best_cost = [everyone], len(counts) * max(counts)
    for n_many in range(1, len(order) + 1):
        few = len(order) - n_many
        cost = n_many * counts[order[0]] + PASS_OVERHEAD
        cost += few * counts[order[n_many]] + PASS_OVERHEAD if few else 0
        if cost < best_cost:
            best = [sorted(part) for part in (order[:n_many], order[n_many:]) if part]
            best_cost = cost
    return best
