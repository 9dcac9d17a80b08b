"""Autoregressive layers: each feature is given those before it, and only those."""

import pytest
import torch

from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.bijections import Affine, RationalQuadraticSpline

N_FEATURES = 7
NARROW = [(1,), (3,), (3, 2), (2, 9), (5, 5)]
WIDE = [(), (6,), (32,), (16, 40)]


def perturbed_layer(bijection, hidden, reverse, n_features=N_FEATURES):
    generator = torch.Generator().manual_seed(0)
    layer = MaskedAutoregressive(
        2, n_features, bijection, hidden, reverse=reverse, generator=generator
    ).double()
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.normal_(std=0.5, generator=generator)
            if name.endswith("weight"):
                # Weights of one sign and units that are on: what is connected is heard.
                parameter.abs_()
            elif name != f"network.layers.{len(hidden)}.bias":
                parameter.abs_().add_(5)
        for linear in layer.network.layers:
            linear.apply_mask()
    return layer


def dependence(layer, jacobian_of):
    """Which output depends on which input, in the layer's order: (K, D, D) largest slopes."""
    n_features = len(layer.order)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 64, n_features, generator=generator, dtype=torch.float64)
    _, _, jacobian = jacobian_of(layer, x)
    return jacobian[:, :, layer.order][..., layer.order].abs().amax(dim=1)


@pytest.mark.parametrize("bijection", [Affine(), RationalQuadraticSpline()], ids=["affine", "rqs"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reversed"])
class TestOrder:
    @pytest.mark.parametrize("hidden", NARROW + WIDE, ids=str)
    def test_no_feature_depends_on_a_later_one(self, bijection, reverse, hidden, jacobian_of):
        slopes = dependence(perturbed_layer(bijection, hidden, reverse), jacobian_of)
        assert (slopes.triu(1) == 0).all()
        assert (slopes.diagonal(dim1=-2, dim2=-1) > 0).all()

    @pytest.mark.parametrize("hidden", WIDE, ids=str)
    def test_every_feature_depends_on_all_earlier_ones(
        self, bijection, reverse, hidden, jacobian_of
    ):
        slopes = dependence(perturbed_layer(bijection, hidden, reverse), jacobian_of)
        below = torch.ones(N_FEATURES, N_FEATURES).tril(-1).bool()
        assert (slopes[:, below] > 0).all()

    def test_a_single_feature_depends_on_itself_alone(self, bijection, reverse, jacobian_of):
        layer = perturbed_layer(bijection, (8,), reverse, n_features=1)
        x = torch.linspace(-3, 3, 50, dtype=torch.float64).repeat(2, 1)[..., None].requires_grad_()
        parameters = layer.network(x)
        of_first_row = parameters[:, :1].expand_as(parameters)
        torch.testing.assert_close(parameters, of_first_row, rtol=1e-14, atol=0)
        (gradient,) = torch.autograd.grad(parameters.sum(), x)
        assert (gradient == 0).all()


@pytest.mark.parametrize("hidden", NARROW, ids=str)
def test_every_feature_but_the_last_is_heard_even_by_narrow_layers(hidden, jacobian_of):
    slopes = dependence(perturbed_layer(Affine(), hidden, False), jacobian_of)
    assert (slopes.tril(-1)[:, :, :-1].amax(dim=1) > 0).all()


def test_first_feature_in_order_is_the_first_or_in_reverse_the_last():
    assert perturbed_layer(Affine(), (8,), False).order == [0, 1, 2, 3, 4, 5, 6]
    assert perturbed_layer(Affine(), (8,), True).order == [6, 5, 4, 3, 2, 1, 0]
