"""The spline's formulas, its blocks and its gradients written by hand.

They are held against finite differences, autograd, and a formula of the tests' own.
"""

import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from vmonf.flows.bijections import RationalQuadraticSpline
from vmonf.flows.kernels import spline as spline_kernels
from vmonf.flows.spline import inverse_spline
from vmonf.flows.spline import spline as plain_spline

BOUND = 5.0
LIMIT = math.log(1e3)

both_ways = pytest.mark.parametrize("inverse", [False, True], ids=["forward", "inverse"])
bins = pytest.mark.parametrize("n_bins", [1, 2, 3, 8], ids="bins={}".format)


@pytest.fixture(params=["kernel", "plain"])
def apply(request):
    """The splines, or with ``inverse=True`` their inverses, by kernel or by plain formula."""

    def by_plain_formula(values, parameters, *, inverse=False):
        return (inverse_spline if inverse else plain_spline)(values, parameters, BOUND)

    def by_kernel(values, parameters, *, inverse=False):
        spline = RationalQuadraticSpline(bound=BOUND)  # the number of bins is the parameters'
        return (spline.inverse if inverse else spline.forward)(values, parameters)

    return by_kernel if request.param == "kernel" else by_plain_formula


def own_spline(x, parameters):
    """Durkan et al. (2019), equations 4 and 5, left to autograd: x (N,), parameters (N, P)."""
    n_bins = (parameters.shape[-1] + 1) // 3

    def clip(raw, limit):
        return raw / (1 + raw.abs() / limit)

    knots = []
    for raw in (parameters[:, :n_bins], parameters[:, n_bins : 2 * n_bins]):
        inner = 2 * BOUND * clip(raw, LIMIT / 2).softmax(dim=-1).cumsum(dim=-1)[:, :-1] - BOUND
        ends = torch.full_like(x[:, None], BOUND)
        knots.append(torch.cat([-ends, inner, ends], dim=-1))
    ones = torch.ones_like(x[:, None])
    delta = torch.cat([ones, clip(parameters[:, 2 * n_bins :], LIMIT).exp(), ones], dim=-1)

    inside = x.abs() < BOUND
    clamped = x.clamp(-BOUND, BOUND)
    k = (knots[0][:, 1:-1] <= clamped[:, None]).sum(dim=-1, keepdim=True)
    x_k, x_next, y_k, y_next, d_k, d_next = (
        values.gather(-1, index)[:, 0] for values in (*knots, delta) for index in (k, k + 1)
    )
    s = (y_next - y_k) / (x_next - x_k)
    xi = (clamped - x_k) / (x_next - x_k)
    beta = s + (d_next + d_k - 2 * s) * xi * (1 - xi)
    z = y_k + (y_next - y_k) * (s * xi**2 + d_k * xi * (1 - xi)) / beta
    slope = s**2 * (d_next * xi**2 + 2 * s * xi * (1 - xi) + d_k * (1 - xi) ** 2) / beta**2
    return torch.where(inside, z, x), torch.where(inside, slope.log(), 0.0)


def knots_of(parameters, inverse):
    """The knots of each row's spline on the axis that values are searched on: (N, bins + 1)."""
    n_bins = (parameters.shape[-1] + 1) // 3
    raw = parameters[:, n_bins : 2 * n_bins] if inverse else parameters[:, :n_bins]
    sizes = (raw / (1 + raw.abs() / (LIMIT / 2))).softmax(dim=-1)
    return torch.nn.functional.pad(2 * BOUND * sizes.cumsum(dim=-1), (1, 0)) - BOUND


def places(n_bins, inverse, beside=1e-3):
    """Values (N, 1) in each bin, on both sides of each knot and outside, parameters (N, P)."""
    parameters = 1.5 * torch.randn(1, 3 * n_bins - 1, dtype=torch.float64)
    knots = knots_of(parameters, inverse)[0]
    middles = (knots[1:] + knots[:-1]) / 2
    far = torch.tensor([-7.0, 6.0, 1e3], dtype=torch.float64)
    values = torch.cat([middles, knots - beside, knots + beside, far])[:, None]
    return values, parameters.repeat(len(values), 1)


@bins
@both_ways
def test_gradients_are_those_of_finite_differences(n_bins, inverse, apply):
    values, parameters = places(n_bins, inverse)
    assert gradcheck(
        lambda *inputs: apply(*inputs, inverse=inverse),
        (values.requires_grad_(), parameters.requires_grad_()),
    )


@bins
@both_ways
def test_second_derivatives_are_those_of_finite_differences(n_bins, inverse, apply):
    values, parameters = places(n_bins, inverse)
    assert gradgradcheck(
        lambda *inputs: apply(*inputs, inverse=inverse),
        (values.requires_grad_(), parameters.requires_grad_()),
        fast_mode=True,
    )


@both_ways
def test_second_derivatives_where_parameters_depend_on_values(inverse, apply):
    values, parameters = places(3, inverse)
    weights = torch.randn(parameters.shape[1], dtype=torch.float64)
    assert gradgradcheck(
        lambda values, parameters: apply(
            values, parameters + values.sin() * weights, inverse=inverse
        ),
        (values.clamp(-4, 4).requires_grad_(), parameters.requires_grad_()),
        fast_mode=True,
    )


@bins
@pytest.mark.parametrize("scale", [0.0, 0.5, 5.0, 1e3], ids="scale={}".format)
def test_values_and_gradients_are_those_of_the_plain_formula(n_bins, scale, apply):
    n_values = 1000
    parameters = scale * torch.randn(n_values, 3 * n_bins - 1, dtype=torch.float64)
    x = 4 * torch.randn(n_values, dtype=torch.float64)
    x[:5] = torch.tensor([BOUND, -BOUND, 1e3, -1e3, 0.0])
    x.requires_grad_()
    parameters.requires_grad_()
    directions = torch.randn(2, n_values, dtype=torch.float64)

    expected = own_spline(x, parameters)
    expected_gradients = torch.autograd.grad(expected, (x, parameters), tuple(directions))
    outputs = apply(x[:, None], parameters)
    gradients = torch.autograd.grad(outputs, (x, parameters), tuple(directions[..., None]))

    for own, plain in zip(outputs, expected, strict=True):
        torch.testing.assert_close(own[:, 0], plain, rtol=1e-8, atol=1e-8)
    for own, plain in zip(gradients, expected_gradients, strict=True):
        # Of rows where bins are as thin as can be, some gradients are of the order 1e7.
        size = plain.abs().reshape(n_values, -1).amax(dim=-1)
        error = (own - plain).abs().reshape(n_values, -1).amax(dim=-1)
        assert (error <= 1e-7 * (1 + size)).all()


def test_gradients_of_the_inverse_undo_those_of_forward(apply):
    parameters = torch.randn(200, 23, dtype=torch.float64)
    x = (2 * torch.randn(200, 1, dtype=torch.float64)).requires_grad_()
    own = parameters.requires_grad_()

    z, log_slope = apply(x, own)
    again, back = apply(z, own, inverse=True)
    directions = torch.randn(2, 200, 1, dtype=torch.float64)
    outputs = (again, log_slope + back)
    grad_x, grad_parameters = torch.autograd.grad(outputs, (x, own), tuple(directions))

    torch.testing.assert_close(grad_x, directions[0], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(grad_parameters, torch.zeros_like(own), rtol=0, atol=1e-7)


@pytest.mark.parametrize("block", [1, 7, 40, 100])
@both_ways
def test_result_depends_on_neither_blocks_nor_layout(block, inverse, monkeypatch, apply):
    values = 3 * torch.randn(3, 20, 2, dtype=torch.float64)
    parameters = torch.randn(3, 20, 46, dtype=torch.float64)
    directions = torch.randn(2, 3, 20, 2, dtype=torch.float64)

    def results(values, parameters):
        inputs = values.requires_grad_(), parameters.requires_grad_()
        outputs = apply(*inputs, inverse=inverse)
        return *outputs, *torch.autograd.grad(outputs, inputs, tuple(directions))

    expected = results(values, parameters)
    monkeypatch.setattr(spline_kernels, "BLOCK", block)
    transposed = [tensor.detach().mT.contiguous().mT for tensor in (values, parameters)]
    for own, whole in zip(results(*transposed), expected, strict=True):
        torch.testing.assert_close(own, whole, rtol=1e-12, atol=1e-12)


def test_gradient_of_one_output_and_of_one_input(apply):
    parameters = torch.randn(50, 23, dtype=torch.float64).requires_grad_()
    x = torch.randn(50, 1, dtype=torch.float64)
    for index in (0, 1):
        (own,) = torch.autograd.grad(apply(x, parameters)[index].sum(), parameters)
        (plain,) = torch.autograd.grad(own_spline(x[:, 0], parameters)[index].sum(), parameters)
        torch.testing.assert_close(own, plain, rtol=1e-8, atol=1e-8)
    with_graph = torch.autograd.grad(apply(x, parameters)[1].sum(), parameters, create_graph=True)
    torch.testing.assert_close(with_graph[0], own, rtol=1e-8, atol=1e-8)


@both_ways
def test_torch_func_differentiates_it(inverse, apply):
    parameters = torch.randn(50, 23, dtype=torch.float64)
    x = torch.randn(50, 1, dtype=torch.float64)

    def way(x, parameters):
        return apply(x, parameters, inverse=inverse)

    own = torch.func.grad(lambda *inputs: way(*inputs)[0].sum(), argnums=(0, 1))(x, parameters)
    inputs = x.requires_grad_(), parameters.requires_grad_()
    expected = torch.autograd.grad(way(*inputs)[0].sum(), inputs)
    for gradient, plain in zip(own, expected, strict=True):
        torch.testing.assert_close(gradient, plain)
    of_x_alone = torch.func.grad(lambda x: way(x, parameters.detach())[0].sum())(x.detach())
    torch.testing.assert_close(of_x_alone, expected[0])


def test_torch_func_maps_it(apply):
    parameters = torch.randn(50, 23, dtype=torch.float64)
    x = torch.randn(50, 1, dtype=torch.float64)
    mapped = torch.func.vmap(lambda *inputs: apply(*inputs))
    expected = apply(x, parameters)
    for own, whole in zip(mapped(x[:, None], parameters[:, None]), expected, strict=True):
        torch.testing.assert_close(own[:, 0], whole)


@both_ways
def test_no_rows_are_no_error(inverse, apply):
    values, parameters = torch.zeros(3, 0, 2), torch.zeros(3, 0, 46).requires_grad_()
    outputs, _ = apply(values, parameters, inverse=inverse)
    assert outputs.shape == values.shape
    outputs.sum().backward()
    assert parameters.grad.shape == parameters.shape


def test_nan_is_not_hidden(apply):
    x = torch.tensor([[0.5], [0.5], [math.nan]])
    parameters = torch.randn(3, 23)
    parameters[0, 3] = math.nan
    outputs, _ = apply(x, parameters)
    assert outputs[:, 0].isnan().tolist() == [True, False, True]


def test_infinite_and_far_values_pass(apply):
    x = torch.tensor([[math.inf], [-math.inf], [3e38]])
    for inverse in (False, True):
        outputs, log_slopes = apply(x, torch.randn(3, 23), inverse=inverse)
        assert torch.equal(outputs, x)
        assert torch.equal(log_slopes, torch.zeros_like(x))
