"""Kernels give what automatic differentiation of the plain formulas gives.

Autograd takes the gradients of the kernels. The transforms of torch.func take the plain formulas,
and so does a flow whose kernels are replaced.
"""

import pytest
import torch
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap

from vmonf.flows import bijections, networks
from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.bijections import Affine
from vmonf.flows.kernels.perceptron import BLOCK_WIDTH

#: From within torch, where forward-mode derivatives are first asked for.
torchs_own_warning = pytest.mark.filterwarnings("ignore:`torch.jit.script`:DeprecationWarning")


@pytest.fixture
def flows(family, n_features, make_flows):
    return make_flows(family, 3, n_features, mixing="lu")


@pytest.fixture
def x(n_features):
    return 2 * torch.randn(20, n_features, dtype=torch.float64)


def total(flows, parameters, x):
    """A scalar in which rows and components count differently."""

    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.flows = flows

        def forward(self, x):
            log_prob = self.flows.log_prob(x)
            return (log_prob * torch.linspace(0.5, 1.5, log_prob.numel()).view_as(log_prob)).sum()

    named = {f"flows.{name}": value for name, value in parameters.items()}
    return functional_call(Wrapped(), named, (x,))


def free_parameters(flows):
    return {name: p.detach().clone() for name, p in flows.named_parameters() if p.requires_grad}


@pytest.fixture
def without_kernels(monkeypatch):
    """Makes all that follows take the plain formulas alone."""

    def replace():
        for module in (bijections, networks):
            monkeypatch.setattr(module, "call", lambda kernel, *tensors: kernel.plain(*tensors))

    return replace


def test_values_are_those_of_the_plain_formulas(flows, x, without_kernels):
    own = flows.log_prob(x)
    without_kernels()
    torch.testing.assert_close(own, flows.log_prob(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("by_torch_func", [False, True], ids=["plain layers", "torch.func"])
def test_gradients_are_those_of_the_plain_formulas(flows, x, without_kernels, by_torch_func):
    parameters = free_parameters(flows)
    own = {name: p.clone().requires_grad_() for name, p in parameters.items()}
    rows = x.clone().requires_grad_()
    gradients = torch.autograd.grad(total(flows, own, rows), [rows, *own.values()])
    if by_torch_func:
        expected, expected_x = grad(lambda p, x: total(flows, p, x), argnums=(0, 1))(parameters, x)
    else:
        without_kernels()
        plain = torch.autograd.grad(total(flows, own, rows), [rows, *own.values()])
        expected_x, expected = plain[0], dict(zip(own, plain[1:], strict=True))
    torch.testing.assert_close(gradients[0], expected_x, rtol=1e-9, atol=1e-9)
    for name, gradient in zip(own, gradients[1:], strict=True):
        torch.testing.assert_close(gradient, expected[name], rtol=1e-8, atol=1e-8)


def test_second_derivatives_are_those_of_the_plain_formulas(family, n_features, make_flows, x):
    flows = make_flows(family, 3, n_features)
    x = x.requires_grad_()
    (slope,) = torch.autograd.grad(flows.log_prob(x).sum(), x, create_graph=True)
    direction = torch.randn_like(x)
    (curvature,) = torch.autograd.grad(slope, x, direction)

    def of_row(row):
        return flows.log_prob(row[None]).sum()

    expected = torch.stack(
        [jacrev(grad(of_row))(row) @ way for row, way in zip(x.detach(), direction, strict=True)]
    )
    torch.testing.assert_close(curvature, expected, rtol=1e-7, atol=1e-7)


@torchs_own_warning
@pytest.mark.parametrize("jacobian", [jacrev, jacfwd])
def test_rows_may_be_mapped_by_vmap(family, make_flows, jacobian):
    flows = make_flows(family, 2, 3)
    x = torch.randn(5, 3, dtype=torch.float64)
    slopes = vmap(jacobian(lambda row: flows.log_prob(row[None])[:, 0]))(x)
    for component in range(2):
        own = x.clone().requires_grad_()
        (expected,) = torch.autograd.grad(flows.log_prob(own)[component].sum(), own)
        torch.testing.assert_close(slopes[:, component], expected)


@torchs_own_warning
def test_directional_derivatives_may_be_taken_by_jvp(flows, x):
    way = torch.randn_like(x)
    log_prob, slope = jvp(flows.log_prob, (x,), (way,))
    own = x.requires_grad_()
    torch.testing.assert_close(log_prob, flows.log_prob(own))
    for component in range(3):
        (gradient,) = torch.autograd.grad(flows.log_prob(own)[component].sum(), own)
        torch.testing.assert_close(slope[component], (gradient * way).sum(dim=-1))


def test_samples_may_be_mapped_by_vmap(family, make_flows):
    flows = make_flows(family, 2, 3)
    z = torch.randn(5, 2, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([flows.from_base(own)[0] for own in z])
        torch.testing.assert_close(vmap(lambda own: flows.from_base(own)[0])(z), expected)


class TestBlocks:
    """A wide masked network is multiplied in blocks, which changes nothing."""

    @pytest.fixture
    def layer(self):
        width = 4 * BLOCK_WIDTH + 10
        layer = MaskedAutoregressive(
            2, width, Affine(), (width, width), generator=torch.Generator().manual_seed(0)
        ).double()
        with torch.no_grad():
            for linear in layer.network.layers:
                linear.weight.normal_(std=0.3 / width**0.5)
                linear.apply_mask()
        return layer

    def test_many_products_are_left_out(self, layer):
        for linear in layer.network.layers:
            rows, columns = linear.mask.shape
            done = sum((r.stop - r.start) * (c.stop - c.start) for r, c in linear.blocks)
            assert done < 0.72 * rows * columns
            covered = torch.zeros_like(linear.mask)
            for block in linear.blocks:
                covered[block] = 1
            assert (covered >= linear.mask).all()

    def test_values_and_gradients_are_those_of_the_plain_formula(self, layer):
        x = torch.randn(2, 6, len(layer.order), dtype=torch.float64)
        parameters = {name: p.detach() for name, p in layer.named_parameters()}
        way = torch.randn(2, 6, len(layer.order), dtype=torch.float64)

        def scalar(parameters, x):
            z, log_det = functional_call(layer, parameters, (x,))
            return (z * way).sum() + log_det[0].sum()

        expected, expected_x = grad(scalar, argnums=(0, 1))(parameters, x)
        own = x.clone().requires_grad_()
        gradients = torch.autograd.grad(
            scalar(dict(layer.named_parameters()), own),
            [own, *dict(layer.named_parameters()).values()],
        )
        torch.testing.assert_close(gradients[0], expected_x)
        for name, gradient in zip(parameters, gradients[1:], strict=True):
            torch.testing.assert_close(gradient, expected[name])

    def test_the_network_alone_gives_the_same_with_and_without_gradient(self, layer):
        x = torch.randn(2, 6, len(layer.order), dtype=torch.float64)
        with torch.no_grad():
            own = layer.network(x)
        torch.testing.assert_close(layer.network(x.requires_grad_()).detach(), own)


def test_masked_weights_stay_zero_in_training(make_flows):
    flows = make_flows("maf", 2, 7)
    optimizer = torch.optim.AdamW(flows.parameters(), lr=0.1)
    x = torch.randn(50, 7, dtype=torch.float64)
    before = [p.clone() for p in flows.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        (-flows.log_prob(x).mean()).backward()
        optimizer.step()
    for layer in list(flows.chain.transforms)[1:]:
        if isinstance(layer, MaskedAutoregressive):
            for linear in layer.network.layers:
                assert (linear.weight[:, linear.mask == 0] == 0).all()
    assert any((p != old).any() for p, old in zip(flows.parameters(), before, strict=True))
