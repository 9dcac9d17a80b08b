"""The affine bijection's arithmetic, with its backward by hand: few passes, few tensors."""

import math
from typing import Any

import torch
from torch import Tensor

LOG_SCALE_LIMIT = math.log(1e3)


class AffineForward(torch.autograd.Function):
    """z = x exp(s) + t and s, from x and the parameters (t, r): s is r soft-clipped.

    With u = 1 + |r| / limit, s = r / u and ds/dr = 1 / u^2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Values and log-scales."""
        shift, raw = parameters.chunk(2, dim=-1)
        softness = raw.abs().div_(LOG_SCALE_LIMIT).add_(1)
        log_scale = raw / softness
        scale = log_scale.exp()
        ctx.save_for_backward(x, parameters, scale, softness)
        return torch.addcmul(shift, x, scale), log_scale

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_log_scale: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of x and of the parameters."""
        x, parameters, scale, softness = ctx.saved_tensors
        if torch.is_grad_enabled():  # of a gradient, a gradient is asked for: left to autograd
            # Of aliases: parameters may themselves come from x, which is not this one's part.
            own = x.view_as(x), parameters.view_as(parameters)
            of_x, of_parameters = torch.autograd.grad(
                affine(*own), own, (grad_z, grad_log_scale), create_graph=True
            )
            return of_x, of_parameters
        x_gradient = grad_z * scale
        gradient = torch.empty_like(parameters)
        shift, raw = gradient.chunk(2, dim=-1)
        shift.copy_(grad_z)
        torch.addcmul(grad_log_scale, x_gradient, x, out=raw).div_(softness).div_(softness)
        return x_gradient, gradient


def affine(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The same as `AffineForward`, its backward left to autograd."""
    shift, raw = parameters.chunk(2, dim=-1)
    log_scale = raw / (1 + raw.abs() / LOG_SCALE_LIMIT)
    return torch.addcmul(shift, x, log_scale.exp()), log_scale
