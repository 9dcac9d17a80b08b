"""The interface of the invertible transforms of K components, and their composition."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn


def soft_clip(values: Tensor, limit: float) -> Tensor:
    """Map values v smoothly into (-limit, limit): v / (1 + |v| / limit), close to v near 0.

    A transform that clips its parameters by this has bounded slopes, whatever a network returns.
    """
    return values / (1 + values.abs() / limit)


class Transform(nn.Module, ABC):
    """K invertible maps side by side, from data to base.

    Values have shape (K, B, D): components first, then rows, then features. In memory
    features come before rows, so that vectorised arithmetic runs along the rows even where
    there are few features. A transform is faster if it returns its values in this layout, but
    no transform relies on it.

    Every parameter of a transform has a leading component axis of length K, so that a subset of
    the components is a subset of each parameter's rows. A fresh transform is the identity, up
    to the order of the features.
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

    def randomise(self, generator: torch.Generator | None = None) -> None:
        """Draw the transform at random, so that the components differ from the start.

        A transform without networks stays as it is.
        """
        return

    @property
    def is_identity(self) -> bool:
        """Whether the transform is known to be the identity, which is then left out."""
        return False

    @property
    def n_free_parameters(self) -> int:
        """How many numbers can be trained, over all components."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class Chain(nn.Module):
    """Transforms applied one after the other; their log-determinants are added up."""

    def __init__(self, transforms: Iterable[Transform]) -> None:
        super().__init__()
        self.transforms = nn.ModuleList(transforms)

    def forward(self, values: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
        """Map data to base, or base to data with ``inverse=True``; shapes as in `Transform`."""
        total = values.new_zeros(values.shape[:2])
        for module in reversed(self.transforms) if inverse else self.transforms:
            transform = cast(Transform, module)
            # A gradient would be that of the parameters by which it leaves the identity.
            if not torch.is_grad_enabled() and transform.is_identity:
                continue
            values, log_det = transform.inverse(values) if inverse else transform(values)
            total = total + log_det
        return values, total
