"""Modules whose buffers stay in double precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn


class InDouble(nn.Module):
    """A module whose buffers, and those of its parts, are in double precision in every model."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Move to the device of the model, but keep double precision when it becomes float32.
        device = fn(torch.empty(0, device=next(self.buffers()).device)).device
        for module in self.modules():
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))
        return self
