"""Kernels, and how autograd and torch.func see them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

Tensors = tuple[Tensor, ...]


class Kernel(ABC):
    """A function of tensors with a fast evaluation beside its plain formula."""

    #: How many tensors the function returns.
    n_outputs: int

    @abstractmethod
    def plain(self, *tensors: Tensor) -> Tensors:
        """The function, written for autograd."""

    @abstractmethod
    def evaluate(self, *tensors: Tensor) -> tuple[Tensors, Tensors]:
        """The outputs of the function, and the tensors that `gradients` needs.

        Autograd does not see what is done here. No tensor that is returned may be an input or
        a view of one. Where there are no tensors for `gradients`, autograd takes the gradients
        of `plain` instead.
        """

    def gradients(
        self, tensors: Sequence[Tensor], kept: Sequence[Tensor], grad_outputs: Sequence[Tensor]
    ) -> Sequence[Tensor]:
        """Gradients of all inputs, given the gradients of all outputs."""
        raise NotImplementedError


def call(kernel: Kernel, *tensors: Tensor) -> Tensors:
    """Evaluate a kernel such that autograd and torch.func can differentiate it.

    Second derivatives, `torch.func.vmap` and `torch.func.jvp` take the plain formula.
    """
    results: Tensors = _Call.apply(kernel, *tensors)  # type: ignore[no-untyped-call]
    return results[: kernel.n_outputs]


class _Call(Function):
    """The arguments are a kernel and its tensors; the results are its outputs and what it keeps."""

    @staticmethod
    def forward(*arguments: Any) -> Tensors:
        kernel, *tensors = arguments
        outputs, kept = kernel.evaluate(*tensors)
        return *outputs, *kept

    # torch asks for the signature at every call. Stored here, it is not worked out every time.
    forward.__signature__ = signature(forward)  # type: ignore[attr-defined]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        kernel, *tensors = inputs
        kept = output[kernel.n_outputs :]
        ctx.kernel, ctx.n_tensors, ctx.n_kept = kernel, len(tensors), len(kept)
        ctx.shapes = [tensor.shape for tensor in output[: kernel.n_outputs]]
        ctx.mark_non_differentiable(*kept)
        ctx.set_materialize_grads(False)  # otherwise zeros are made for every kept tensor
        ctx.save_for_backward(*tensors, *kept)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        kernel: Kernel = ctx.kernel
        tensors, kept = ctx.saved_tensors[: ctx.n_tensors], ctx.saved_tensors[ctx.n_tensors :]
        grad_outputs = [
            tensors[0].new_zeros(shape) if gradient is None else gradient
            for gradient, shape in zip(grads, ctx.shapes, strict=False)
        ]
        # With gradients enabled, the result of the backward pass is differentiated in its turn.
        if torch.is_grad_enabled() or not kept:
            pullback = torch.func.vjp(kernel.plain, *tensors)[1]
            gradients: Tensors = pullback(tuple(grad_outputs))
            return None, *gradients
        return None, *kernel.gradients(tensors, kept, grad_outputs)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], kernel: Kernel, *tensors: Tensor
    ) -> tuple[Tensors, tuple[int, ...]]:
        mapped = torch.func.vmap(kernel.plain, tuple(in_dims[1:]), randomness=info.randomness)
        return mapped(*tensors), (0,) * kernel.n_outputs

    @staticmethod
    def jvp(ctx: Any, _: None, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        primals = ctx.saved_tensors
        given = tuple(
            torch.zeros_like(primal) if tangent is None else tangent
            for primal, tangent in zip(primals, tangents, strict=True)
        )
        result: Tensors = torch.func.jvp(ctx.kernel.plain, primals, given)[1]
        return *result, *[None] * ctx.n_kept
