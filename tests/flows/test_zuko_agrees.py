"""zuko, an independent implementation, gives the same numbers from the same parameters."""

import numpy as np
import pytest
import torch

from vmonf.flows import Whitening
from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.bijections import Affine, RationalQuadraticSpline
from vmonf.flows.coupling import Coupling
from vmonf.flows.mixing import LUMixing, Permutation


@pytest.fixture(scope="module")
def zuko():
    """zuko, which on import changes torch.distributions for everyone: undone at the end."""
    from torch.distributions import Distribution, transforms

    inverse = transforms._InverseTransform
    validates, name = Distribution._validate_args, inverse.__name__
    constraints = vars(Distribution)["arg_constraints"]
    import zuko

    # What its import did, or would have done, had not another module imported it already.
    Distribution._validate_args, Distribution.arg_constraints = False, {}
    yield zuko
    Distribution._validate_args, Distribution.arg_constraints = validates, constraints
    inverse.__name__ = name


# Univariate bijections


def assert_same_map(ours, theirs, x, parameters, tolerance):
    z, log_slope = ours.forward(x, parameters)
    their_z, their_log_slope = theirs.call_and_ladj(x)
    torch.testing.assert_close(z, their_z, rtol=0, atol=tolerance)
    torch.testing.assert_close(log_slope, their_log_slope.expand_as(log_slope), rtol=0, atol=1e-9)
    again, _ = ours.inverse(z, parameters)
    torch.testing.assert_close(again, theirs.inv(z), rtol=0, atol=tolerance)


def test_affine_is_zukos_monotonic_affine_transform(zuko):
    x = 10 * torch.randn(200, 3, dtype=torch.float64)
    shift, log_scale = 4 * torch.randn(2, 200, 3, dtype=torch.float64)
    theirs = zuko.transforms.MonotonicAffineTransform(shift, log_scale, slope=1e-3)
    assert_same_map(Affine(), theirs, x, torch.cat([shift, log_scale], dim=-1), 1e-9)


@pytest.mark.parametrize("n_bins", [2, 8])
@pytest.mark.parametrize("size", [0.5, 2.0])
def test_spline_is_zukos_monotonic_rqs_transform(zuko, n_bins, size):
    x = 3 * torch.randn(500, 2, dtype=torch.float64)  # one in ten outside the box
    widths, heights = size * torch.randn(2, 500, 2, n_bins, dtype=torch.float64)
    slopes = size * torch.randn(500, 2, n_bins - 1, dtype=torch.float64)
    theirs = zuko.transforms.MonotonicRQSTransform(widths, heights, slopes, bound=5, slope=1e-3)
    ours = RationalQuadraticSpline(n_bins, 5.0)
    parameters = torch.cat([widths, heights, slopes], dim=-1).mT.flatten(start_dim=-2)
    assert_same_map(ours, theirs, x, parameters, 1e-9)


# Whole flows: our weights in zuko's layers


def zuko_flow(zuko, flows, component):
    """One of our components, as a zuko distribution."""
    parts = []
    for layer in flows.chain.transforms:
        parts += zuko_transforms(zuko, layer, component, flows.n_features)
    zeros = torch.zeros(flows.n_features, dtype=torch.float64)
    return zuko.distributions.NormalizingFlow(
        zuko.transforms.ComposedTransform(*parts),
        zuko.distributions.DiagNormal(zeros, torch.ones_like(zeros)),
    )


def zuko_transforms(zuko, layer, component, n_features):
    if isinstance(layer, Whitening):
        matrix = torch.diag(layer.log_diagonal[component, 0].exp())
        if not layer.diagonal:
            matrix = (matrix + layer.upper[component].triu(1).mT) @ layer.rotation[component].mT
        # Theirs is the product of a lower and a unit upper triangle, which takes a transpose.
        swaps, lower, upper = torch.linalg.lu(matrix.mT)
        return [
            zuko.transforms.AdditiveTransform(-layer.mean[component, 0]),
            zuko.transforms.PermutationTransform(swaps.argmax(dim=0)),
            zuko.transforms.LULinearTransform(upper.mT + lower.mT.triu(1)),
        ]
    if isinstance(layer, Permutation):
        return [zuko.transforms.PermutationTransform(layer.order)]
    if isinstance(layer, LUMixing):
        # Ours multiplies rows by L, then by U: columns by L's transpose, then by U's.
        first = layer.lower[component].tril(-1).mT
        second = layer.upper[component].triu(1).mT
        return [
            zuko.transforms.PermutationTransform(layer.order),
            zuko.transforms.LULinearTransform(first + torch.eye(n_features)),
            zuko.transforms.LULinearTransform(
                second + torch.diag(layer.log_diagonal[component].exp())
            ),
        ]
    bijection = getattr(layer, "bijection", None)
    if not isinstance(bijection, Affine | RationalQuadraticSpline):
        pytest.skip(f"zuko has no counterpart of {type(bijection or layer).__name__}")
    if isinstance(bijection, Affine):
        univariate, shapes = zuko.transforms.MonotonicAffineTransform, [(), ()]
    else:
        n_bins = bijection.n_bins
        univariate = zuko.transforms.MonotonicRQSTransform
        shapes = [(n_bins,), (n_bins,), (n_bins - 1,)]
    options = {"univariate": univariate, "shapes": shapes, "hidden_features": HIDDEN}
    if isinstance(layer, MaskedAutoregressive):
        places = torch.tensor(layer.order).argsort()
        lazy = zuko.flows.MaskedAutoregressiveTransform(n_features, order=places, **options)
    else:
        assert isinstance(layer, Coupling)
        first = torch.arange(n_features) < n_features // 2
        passes = ~first if layer.reverse else first
        lazy = zuko.flows.coupling.GeneralCouplingTransform(n_features, mask=passes, **options)
    copy_weights(layer, component, lazy.double().hyper)
    lazy.hyper = torch.nn.Sequential(BoundedInput(), *lazy.hyper)
    return [lazy()]


class BoundedInput(torch.nn.Module):
    """What our networks do to their inputs, and zuko's do not."""

    def forward(self, x):
        return x / (1 + x.abs() / 10)


HIDDEN = (16, 16)


@torch.no_grad()
def copy_weights(layer, component, hyper):
    linears = [module for module in hyper if hasattr(module, "weight")]
    for ours, theirs in zip(layer.network.layers, linears, strict=True):
        order = torch.arange(ours.weight.shape[-1])
        if ours is layer.network.layers[-1]:
            # Ours: the first parameter of every feature, then the second; theirs by feature.
            order = order.reshape(layer.bijection.n_parameters, -1).mT.flatten()
        theirs.weight.copy_(ours.weight[component, :, order].mT)
        theirs.bias.copy_(ours.bias[component, 0, order])
        if ours.mask is not None:
            theirs.mask = ours.mask[:, order].mT.bool()


@pytest.mark.parametrize("n_features", [2, 7], ids="D={}".format)
@pytest.mark.parametrize(
    ("mixing", "diagonal"), [("permutation", False), ("lu", True)], ids=["permutation", "lu"]
)
def test_whole_flow_is_zukos_with_our_weights(
    zuko, family, n_features, make_flows, mixing, diagonal
):
    flows = make_flows(
        family, 2, n_features, hidden=HIDDEN, mixing=mixing, diagonal_whitening=diagonal
    )
    with torch.no_grad():
        z = torch.randn(2, 20, n_features, dtype=torch.float64)
        x, _ = flows.from_base(z)
        log_prob = flows.log_prob(x)
        for component in range(2):
            theirs = zuko_flow(zuko, flows, component)
            np.testing.assert_allclose(
                log_prob[component].numpy(), theirs.log_prob(x[component]).numpy(), rtol=1e-9
            )
            np.testing.assert_allclose(
                x[component].numpy(), theirs.transform.inv(z[component]).numpy(), atol=1e-8
            )
