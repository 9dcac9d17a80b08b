"""What every invertible transform of K components looks like."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn


def in_function_transform() -> bool:
    """Whether a transform of torch.func, such as vmap or jacrev, is at work.

    They take the plain formulas; the backwards by hand are for autograd.
    """
    return torch._C._are_functorch_transforms_active()


def soft_clip(values: Tensor, limit: float) -> Tensor:
    """Squash to (-limit, limit): v / (1 + |v| / limit), which is the identity near 0.

    A slope can then neither vanish nor explode, whatever a network puts out.
    """
    return values / (1 + values.abs() / limit)


class Transform(nn.Module, ABC):
    """K invertible maps side by side, from data to base.

    Values have shape (K, B, D): components first, then rows, then features. In memory
    features come before rows, so that arithmetic runs along rows, however few the features:
    what a transform returns is best laid so too, but none relies on it.
    Every parameter of a transform has a leading component axis of length K, so a
    subset of the components is a subset of each parameter's rows.
    """

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map data to base.

        Parameters
        ----------
        x : Tensor of shape (K, B, D)

        Returns
        -------
        z : Tensor of shape (K, B, D)
        log_det : Tensor of shape (K, B)
            log |det dz/dx| of each row, in nats.
        """

    @abstractmethod
    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Map base to data.

        Parameters
        ----------
        z : Tensor of shape (K, B, D)

        Returns
        -------
        x : Tensor of shape (K, B, D)
        log_det : Tensor of shape (K, B)
            log |det dx/dz| of each row, in nats: minus what `forward` gives at x.
        """


class Chain(nn.Module):
    """Transforms applied one after the other, log-determinants added up.

    One `forward` serves both directions, since `torch.func.functional_call`, by which
    `ComponentFlows` evaluates a subset of its components, calls `forward` alone.
    """

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, values: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Map data to base, or base to data with ``inverse=True``; shapes as in `Transform`."""
        total = values.new_zeros(values.shape[:2])
        for module in reversed(self.transforms) if inverse else self.transforms:
            transform = cast(Transform, module)
            values, log_det = transform.inverse(values) if inverse else transform(values)
            total = total + log_det
        return values, total
