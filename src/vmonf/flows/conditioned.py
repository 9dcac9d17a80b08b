"""A layer: a network gives some features their bijections, from features it is given.

It is one function for autograd, with its backward by hand, since with few features the calls
into torch and what autograd keeps between them are most of a training step.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from vmonf.flows.bijections import Bijection
from vmonf.flows.perceptron import Wiring, backward_pass, forward_pass, perceptrons
from vmonf.flows.transform import in_function_transform


class Layer(NamedTuple):
    """What is fixed of a layer.

    Attributes
    ----------
    given, moved : slice
        Features that the network is given, and those that are transformed: two halves, or
        both all of them.
    bijection : Bijection
        What is applied to those transformed.
    wiring : Wiring
        Of the network.
    """

    given: slice
    moved: slice
    bijection: Bijection
    wiring: Wiring

    @property
    def is_split(self) -> bool:
        """Whether the given features pass as they are."""
        return self.given != self.moved


def transform(x: Tensor, layer: Layer, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Map (K, B, D) by the layer.

    Returns z (K, B, D) and log |det dz/dx| (K, B).
    """
    if in_function_transform():
        return plain(x, layer, parameters)
    z, log_det = Conditioned.apply(x, layer, *parameters)  # type: ignore[no-untyped-call]
    return z, log_det


def plain(x: Tensor, layer: Layer, parameters: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The same as `transform`, its backward left to autograd."""
    given = x[..., layer.given]
    network_output = perceptrons(given, layer.wiring, parameters)
    z, log_slopes = layer.bijection.forward(x[..., layer.moved], network_output)
    if layer.is_split:
        z = join(given, z, layer)
    return z, log_slopes.sum(dim=-1)


def join(given: Tensor, moved: Tensor, layer: Layer) -> Tensor:
    """Two halves of the features, (..., B, D), back in their order."""
    halves = (given, moved) if layer.moved.start > 0 else (moved, given)
    return torch.cat([half.mT for half in halves], dim=-2).mT


class Conditioned(Function):
    """`transform`, of x, the layer and the parameters one by one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Layer, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Values and log-determinants."""
        values = x.mT
        z = torch.empty_like(values, memory_format=torch.contiguous_format)
        given = values[:, layer.given]
        network_output, inputs = forward_pass(given, layer.wiring, parameters)
        log_slopes, kept = layer.bijection.evaluate(
            values[:, layer.moved], network_output, out=z[:, layer.moved]
        )
        if layer.is_split:
            z[:, layer.given] = given
        ctx.layer, ctx.n_parameters, ctx.n_inputs = layer, len(parameters), len(inputs)
        ctx.save_for_backward(x, *parameters, *inputs, *kept)
        return z.mT, log_slopes.sum(dim=1)

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and of the parameters."""
        layer: Layer = ctx.layer
        x, *saved = ctx.saved_tensors
        parameters, saved = saved[: ctx.n_parameters], saved[ctx.n_parameters :]
        if torch.is_grad_enabled():  # of a gradient, a gradient is asked for: left to autograd
            # Of aliases, since these are partial gradients: what comes in may depend on x too.
            own = [tensor.view_as(tensor) for tensor in (x, *parameters)]
            by_autograd = torch.autograd.grad(
                plain(own[0], layer, own[1:]),
                own,
                (grad_z, grad_log_det),
                create_graph=True,
                materialize_grads=True,
            )
            return by_autograd[0], None, *by_autograd[1:]
        inputs, kept = saved[: ctx.n_inputs], saved[ctx.n_inputs :]
        values, gradient = x.mT, grad_z.mT
        grad_x = torch.empty_like(values, memory_format=torch.contiguous_format)
        grad_output = layer.bijection.gradients(
            values[:, layer.moved],
            kept,
            gradient[:, layer.moved],
            grad_log_det.unsqueeze(1),
            out=grad_x[:, layer.moved],
        )
        grad_given, grad_parameters = backward_pass(grad_output, inputs, layer.wiring, parameters)
        if layer.is_split:
            torch.add(gradient[:, layer.given], grad_given, out=grad_x[:, layer.given])
        else:
            grad_x.add_(grad_given)
        return grad_x.mT, None, *grad_parameters
