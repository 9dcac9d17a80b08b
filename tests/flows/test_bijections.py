"""Univariate bijections, for whatever parameters a network may put out."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vmonf.flows.bijections import Affine, RationalQuadraticSpline
from vmonf.flows.spline import inverse_spline
from vmonf.flows.spline import spline as plain_spline

BOUND = 5.0
LIMIT = math.log(1e3)
both_precisions = pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64], ids=["float32", "float64"]
)
raw = st.floats(-50, 50, width=32) | st.sampled_from([0.0, 50.0, -50.0, 1e4, -1e4])
inputs = st.floats(-1.5 * BOUND, 1.5 * BOUND, width=32) | st.floats(-1e3, 1e3, width=32)
# A last bin that is as thin and as steep as can be, and a first bin that is thin and flat.
STEEP = np.array([50.0] * 7 + [-50.0] + [-50.0] * 7 + [50.0] + [-50.0] * 7)
FLAT = np.array([50.0] + [-50.0] * 7 + [-50.0] + [50.0] * 7 + [50.0] * 7)


@st.composite
def splines(draw):
    """A spline of 1 to 8 bins and its raw parameters (P,)."""
    spline = RationalQuadraticSpline(draw(st.sampled_from([1, 2, 5, 8])), BOUND)
    return spline, draw(arrays(np.float64, spline.n_parameters, elements=raw))


@pytest.fixture(params=["kernel", "plain"], scope="session")
def ways_of(request):
    """The map of a spline and its inverse, by kernel or by plain formula."""

    def ways(spline):
        if request.param == "kernel":
            return spline.forward, spline.inverse
        return partial(plain_spline, bound=BOUND), partial(inverse_spline, bound=BOUND)

    return ways


def steep_and_flat(test):
    for parameters in (STEEP, FLAT, -STEEP, np.zeros(23)):
        test = example(case=(RationalQuadraticSpline(8, BOUND), parameters))(test)
    return test


def grid(dtype, n_points=401):
    """Points inside, on, next to and outside of the box, in order."""
    points = torch.linspace(-1.2 * BOUND, 1.2 * BOUND, n_points, dtype=dtype)
    edge = torch.tensor(BOUND, dtype=dtype)
    inner, outer = torch.nextafter(edge, edge - 1), torch.nextafter(edge, edge + 1)
    edges = torch.stack([edge, inner, outer])
    far = torch.tensor([1e3, 1e6], dtype=dtype)
    return torch.cat([points, edges, -edges, far, -far]).sort().values[:, None]


def given_to(parameters, points):
    """The same raw parameters for every point: (B, P)."""
    return torch.as_tensor(parameters, dtype=points.dtype).expand(len(points), -1)


@both_precisions
@steep_and_flat
@given(case=splines())
def test_spline_increases(ways_of, dtype, case):
    spline, parameters = case
    forward, _ = ways_of(spline)
    x = grid(dtype)
    z, log_slope = forward(x, given_to(parameters, x))
    assert z.isfinite().all()
    assert log_slope.isfinite().all()
    # Not to the last digit: a value at a knot carries the rounding of the box's size.
    assert (z.diff(dim=0) >= -4 * torch.finfo(dtype).eps * BOUND).all()


@both_precisions
@steep_and_flat
@given(case=splines())
def test_spline_stays_in_its_box(ways_of, dtype, case):
    spline, parameters = case
    x = grid(dtype)
    inside = x.abs() <= BOUND
    rounding = 4 * torch.finfo(dtype).eps * BOUND
    for way in ways_of(spline):
        values, log_slope = way(x, given_to(parameters, x))
        assert (values[inside].abs() <= BOUND + rounding).all()
        assert torch.equal(values[~inside], x[~inside])
        assert (log_slope[~inside] == 0).all()


@both_precisions
@steep_and_flat
@given(case=splines())
def test_spline_is_continuous_at_the_bound(ways_of, dtype, case):
    spline, parameters = case
    edge = torch.tensor([BOUND, -BOUND], dtype=dtype)
    inner = torch.nextafter(edge, torch.zeros_like(edge))[:, None]
    # One step off the bound the slope is that of the end bin near its end, at most the
    # ratio of the largest bin to the smallest.
    ratio = 2 * BOUND / smallest_bin(spline)
    rounding = torch.finfo(dtype).eps * BOUND
    for way in ways_of(spline):
        values, _ = way(inner, given_to(parameters, inner))
        assert (values[:, 0] - edge).abs().max() <= rounding * (4 + ratio)


def smallest_bin(spline):
    """Softmax of soft-clipped values: one at the lower limit, the others at the upper."""
    largest = math.exp(LIMIT / 2)
    share = 1 / largest / (1 / largest + (spline.n_bins - 1) * largest)
    return 2 * BOUND * share


@steep_and_flat
@given(case=splines())
def test_log_slope_of_spline_is_its_derivative(ways_of, case):
    spline, parameters = case
    for way in ways_of(spline):
        x = grid(torch.float64).requires_grad_()
        z, log_slope = way(x, given_to(parameters, x))
        (slope,) = torch.autograd.grad(z.sum(), x)
        # At the bound itself a derivative is one-sided.
        apart = (x.detach().abs() - BOUND).abs() > 1e-9
        torch.testing.assert_close(log_slope.exp()[apart], slope[apart], rtol=1e-5, atol=1e-12)


@both_precisions
@steep_and_flat
@given(case=splines())
def test_spline_forward_undoes_inverse(ways_of, dtype, case):
    spline, parameters = case
    forward, inverse = ways_of(spline)
    z = grid(dtype)
    own = given_to(parameters, z)
    x, _ = inverse(z, own)
    again, log_slope = forward(x, own)
    # A rounding of x, at most that of the bound, is magnified by the slope; the quadratic's
    # coefficients carry the slope at a knot, up to 1000.
    tolerance = 1000 * torch.finfo(dtype).eps * BOUND * (1 + log_slope.double().exp())
    assert ((again - z).double().abs() <= tolerance).all()


@steep_and_flat
@given(case=splines())
def test_spline_inverse_undoes_forward(ways_of, case):
    spline, parameters = case
    forward, inverse = ways_of(spline)
    x = grid(torch.float64)
    own = given_to(parameters, x)
    z, log_slope = forward(x, own)
    again, _ = inverse(z, own)
    # A rounding of z becomes one of x over the slope, which may be as small as 1e-10.
    tolerance = 1000 * torch.finfo(torch.float64).eps * BOUND * (1 + (-log_slope).exp())
    assert ((again - x).abs() <= tolerance).all()


@both_precisions
@pytest.mark.parametrize("widths", [(0.0, 0.0), (50.0, -50.0)], ids=str)
def test_root_of_the_inverse_does_not_cancel_beside_a_steep_knot(ways_of, widths, dtype):
    spline = RationalQuadraticSpline(2, BOUND)
    forward, inverse = ways_of(spline)
    z = torch.linspace(-BOUND, BOUND, 2001, dtype=dtype)[1:-1, None]
    own = given_to(np.array([*widths, 0.0, 0.0, 50.0]), z)
    x, _ = inverse(z, own)
    again, log_slope = forward(x, own)
    tolerance = 20 * torch.finfo(dtype).eps * BOUND * (1 + log_slope.double().exp())
    assert ((again - z).double().abs() <= tolerance).all()


@both_precisions
@steep_and_flat
@given(case=splines())
def test_gradients_of_spline_are_finite(ways_of, dtype, case):
    spline, parameters = case
    for way in ways_of(spline):
        values = grid(dtype).requires_grad_()
        own = given_to(parameters, values).clone().requires_grad_()
        outputs, log_slope = way(values, own)
        (outputs + log_slope).sum().backward()
        assert values.grad.isfinite().all()
        assert own.grad.isfinite().all()


@pytest.mark.parametrize("n_bins", [1, 2, 8])
def test_zero_parameters_make_the_spline_the_identity(ways_of, n_bins, dtype):
    spline = RationalQuadraticSpline(n_bins, BOUND)
    x = grid(dtype)
    for way in ways_of(spline):
        z, log_slope = way(x, given_to(np.zeros(spline.n_parameters), x))
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(z, x, rtol=0, atol=8 * eps * BOUND)
        torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=100 * eps)


@both_precisions
@given(shift=raw, raw_log_scale=raw, x=st.lists(inputs, min_size=1, max_size=10))
def test_affine_is_increasing_invertible_and_its_slope_bounded(dtype, shift, raw_log_scale, x):
    affine = Affine()
    x = torch.tensor(x, dtype=dtype)[:, None]
    parameters = torch.tensor([shift, raw_log_scale], dtype=dtype).expand(len(x), 2)
    z, log_slope = affine.forward(x, parameters)
    again, back = affine.inverse(z, parameters)
    assert (log_slope.abs() < LIMIT).all()
    expected = x.double() * log_slope.double().exp() + torch.tensor(shift, dtype=dtype).double()
    eps = torch.finfo(dtype).eps
    magnitude = x.double().abs() * log_slope.double().exp() + abs(shift)
    assert ((z.double() - expected).abs() <= 10 * eps * magnitude).all()
    assert torch.equal(back, -log_slope)
    assert ((again - x).double().abs() <= 20 * eps * magnitude / log_slope.double().exp()).all()
