"""The affine bijection's arithmetic, forward and backward: few passes, few tensors."""

import math

import torch
from torch import Tensor

from vmonf.flows.transform import soft_clip

LOG_SCALE_LIMIT = math.log(1e3)


def affine(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """For autograd, z = x exp(s) + t and s, where parameters are (t, r) and s is r soft-clipped.

    x is (..., D), parameters (..., 2 D).
    """
    shift, raw = parameters.chunk(2, dim=-1)
    log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
    return torch.addcmul(shift, x, log_scale.exp()), log_scale


def affine_inverse(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Undo `affine`: x = (z - t) exp(-s) and -s."""
    shift, raw = parameters.chunk(2, dim=-1)
    log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
    return (z - shift) * (-log_scale).exp(), -log_scale


def affine_forward(x: Tensor, parameters: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same, features first: x (K, D, B), parameters (K, 2 D, B), z to `out`.

    Returns the log-scales, and for the backward scale and u.
    With u = 1 + |r| / limit, s = r / u and ds/dr = 1 / u^2.
    """
    n_features = x.shape[1]
    raw = parameters[:, n_features:]
    softness = raw.abs().mul_(1 / LOG_SCALE_LIMIT).add_(1)
    log_scale = raw / softness
    scale = log_scale.exp()
    torch.addcmul(parameters[:, :n_features], x, scale, out=out)
    return log_scale, scale, softness


def affine_backward(
    x: Tensor,
    scale: Tensor,
    softness: Tensor,
    grad_z: Tensor,
    grad_log_scale: Tensor,
    out: Tensor,
) -> Tensor:
    """Gradient of the parameters (K, 2 D, B); that of x goes to `out`."""
    n_components, n_features, n_rows = x.shape
    torch.mul(grad_z, scale, out=out)
    gradient = x.new_empty(n_components, 2 * n_features, n_rows)
    gradient[:, :n_features] = grad_z
    raw = gradient[:, n_features:]
    torch.addcmul(grad_log_scale, out, x, out=raw).div_(softness).div_(softness)
    return gradient
