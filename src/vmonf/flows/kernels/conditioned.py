"""A coupling or autoregressive layer, from data to base, as one kernel.

One kernel for a whole layer makes fewer calls into torch than one for its network and one for
its bijection, and no copies between them.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from vmonf.flows.kernels.function import Kernel, Tensors
from vmonf.flows.kernels.perceptron import Wiring, backward_pass, forward_pass


class BijectionKernel(Protocol):
    """What a bijection offers to be part of the kernel. Features come before rows here."""

    def evaluate(self, x: Tensor, parameters: Tensor, out: Tensor) -> tuple[Tensor, Tensors]:
        """Map (K, D, B) values by (K, D * n_parameters, B) parameters.

        The values go to `out`. Returns the log-derivatives (K, D, B), and new tensors that
        `gradients` needs; `parameters` may be one of them.
        """
        ...

    def gradients(
        self,
        x: Tensor,
        kept: Sequence[Tensor],
        grad_z: Tensor,
        grad_log_slopes: Tensor,
        out: Tensor,
    ) -> Tensor:
        """Gradient of the parameters, (K, D * n_parameters, B); the gradient of x goes to `out`.

        The gradient of the log-derivatives may be (K, 1, B), one for all features.
        """
        ...


class ConditionedLayer(Kernel):
    """Maps x (K, B, D) and the parameters of the network to z (K, B, D) and log_det (K, B).

    Parameters
    ----------
    plain : callable
        The same function, written for autograd.
    given, moved : slice
        The features that the network is given, and the features that are transformed: two
        parts, or both all of the features.
    bijection : BijectionKernel
        What is applied to the transformed features.
    wiring : Wiring
        Of the network.
    """

    n_outputs = 2

    def __init__(
        self,
        plain: Callable[..., Tensors],
        given: slice,
        moved: slice,
        bijection: BijectionKernel,
        wiring: Wiring,
    ) -> None:
        self._plain = plain
        self.given = given
        self.moved = moved
        self.bijection = bijection
        self.wiring = wiring

    def plain(self, *tensors: Tensor) -> Tensors:
        """See `Kernel.plain`."""
        return self._plain(*tensors)

    def evaluate(self, *tensors: Tensor) -> tuple[Tensors, Tensors]:
        """See `Kernel.evaluate`."""
        x, *parameters = tensors
        values = x.mT
        z = torch.empty_like(values, memory_format=torch.contiguous_format)
        given = values[:, self.given]
        network_output, inputs = forward_pass(given, self.wiring, parameters)
        log_slopes, kept = self.bijection.evaluate(
            values[:, self.moved], network_output, out=z[:, self.moved]
        )
        if self.given != self.moved:
            z[:, self.given] = given
        return (z.mT, log_slopes.sum(dim=1)), (*inputs, *kept)

    def gradients(
        self, tensors: Sequence[Tensor], kept: Sequence[Tensor], grad_outputs: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """See `Kernel.gradients`."""
        x, *parameters = tensors
        n_layers = len(self.wiring.masks)
        inputs, kept = kept[:n_layers], kept[n_layers:]
        values, grad_z, grad_log_det = x.mT, grad_outputs[0].mT, grad_outputs[1]
        grad_x = torch.empty_like(values, memory_format=torch.contiguous_format)
        grad_network_output = self.bijection.gradients(
            values[:, self.moved],
            kept,
            grad_z[:, self.moved],
            grad_log_det.unsqueeze(1),
            out=grad_x[:, self.moved],
        )
        grad_given, grad_parameters = backward_pass(
            grad_network_output, inputs, self.wiring, parameters
        )
        if self.given != self.moved:
            torch.add(grad_z[:, self.given], grad_given, out=grad_x[:, self.given])
        else:
            grad_x.add_(grad_given)
        return grad_x.mT, *grad_parameters
