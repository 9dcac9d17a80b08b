"""The affine bijection, evaluated and differentiated in few passes over few tensors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vmonf.flows.kernels.function import Tensors


class AffineKernel:
    """z = x exp(s) + t, where the parameters are (t, r) and s = r / (1 + |r| / limit).

    See `BijectionKernel`. With u = 1 + |r| / limit, ds/dr = 1 / u^2.
    """

    def __init__(self, log_scale_limit: float) -> None:
        self.limit = log_scale_limit

    def evaluate(self, x: Tensor, parameters: Tensor, out: Tensor) -> tuple[Tensor, Tensors]:
        """Returns s, and for the gradients exp(s) and u; see `BijectionKernel.evaluate`."""
        n_features = x.shape[1]
        raw = parameters[:, n_features:]
        softness = raw.abs().mul_(1 / self.limit).add_(1)
        log_scale = raw / softness
        scale = log_scale.exp()
        torch.addcmul(parameters[:, :n_features], x, scale, out=out)
        return log_scale, (scale, softness)

    def gradients(
        self,
        x: Tensor,
        kept: Sequence[Tensor],
        grad_z: Tensor,
        grad_log_slopes: Tensor,
        out: Tensor,
    ) -> Tensor:
        """See `BijectionKernel.gradients`."""
        scale, softness = kept
        n_components, n_features, n_rows = x.shape
        torch.mul(grad_z, scale, out=out)
        gradient = x.new_empty(n_components, 2 * n_features, n_rows)
        gradient[:, :n_features] = grad_z
        raw = gradient[:, n_features:]
        torch.addcmul(grad_log_slopes, out, x, out=raw).div_(softness).div_(softness)
        return gradient
