"""Tests of columns with bounds or a period: the maps, and the densities of mixtures with them."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from vmonf.flows import family_of
from vmonf.model import (
    Domain,
    MixtureModel,
    PosteriorMLP,
    PosteriorNetwork,
    Standardizer,
    build_model,
)

INF = math.inf


def domain(low=(-INF,), high=(INF,), margin=0.01, period=(0.0,), cut=(0.0,), first=(0.0,)):
    n_features = max(len(low), len(high), len(period))
    fields = [
        torch.tensor(values * (n_features // len(values)), dtype=torch.float64)
        for values in (low, high, (margin,), period, cut, first)
    ]
    return Domain(*fields)


KINDS = {
    "lower": domain(low=(-3.0,)),
    "upper": domain(high=(2.0,)),
    "both": domain(low=(-3.0,), high=(2.0,)),
    "none": domain(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_inverse_undoes_the_map(kind):
    x = torch.linspace(-3, 2, 201, dtype=torch.float64)[:, None]
    torch.testing.assert_close(KINDS[kind].inverse(KINDS[kind](x)), x, atol=1e-9, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_log_det_is_that_of_the_jacobian(kind):
    x = torch.linspace(-2.99, 1.99, 50, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(KINDS[kind](x[:, None]).sum(), x)
    torch.testing.assert_close(KINDS[kind].log_det(x[:, None]), slope.log())


def test_a_uniform_distribution_between_bounds_becomes_normal():
    x = torch.linspace(0, 1, 1001, dtype=torch.float64)[:, None]
    between = domain(low=(0.0,), high=(1.0,), margin=1e-9)
    normal = stats.norm.logpdf(between(x).numpy())[:, 0]
    np.testing.assert_allclose(normal + between.log_det(x).numpy(), 0, atol=1e-6)


def test_values_beyond_a_bound_are_outside_and_mapped_as_on_it():
    both = domain(low=(-3.0, -INF), high=(2.0, INF))
    x = torch.tensor([[-3.0, 9.0], [2.0, 9.0], [-3.1, 9.0], [2.5, 9.0]], dtype=torch.float64)
    assert both.is_outside(x).tolist() == [False, False, True, True]
    assert torch.equal(both(x[2:]), both(x[:2]))
    assert torch.equal(both.log_det(x[2:]), both.log_det(x[:2]))


def test_angles_are_cut_in_one_place_and_come_back_to_the_interval_asked_for():
    angle = domain(period=(360.0,), cut=(90.0,), first=(-180.0,))
    x = torch.tensor([[0.0], [89.0], [90.0], [-200.0], [900.0]], dtype=torch.float64)
    assert angle(x)[:, 0].tolist() == [360.0, 449.0, 90.0, 160.0, 180.0]
    assert angle.inverse(angle(x))[:, 0].tolist() == [0.0, 89.0, 90.0, 160.0, -180.0]
    assert not angle.log_det(x).any()


def test_images_are_one_period_to_either_side_in_each_periodic_feature():
    angles = Domain(
        *torch.tensor([[-INF] * 3, [INF] * 3, [1.0] * 3, [2.0, 0, 5], [0.0] * 3, [0.0] * 3])
    )
    found = {tuple(image) for image in angles.images.tolist()}
    assert found == {(a, 0.0, b) for a in (-2.0, 0.0, 2.0) for b in (-5.0, 0.0, 5.0)}


SHARE_AND_ANGLE = domain(
    low=(0.0, -INF),
    high=(1.0, INF),
    margin=1e-6,
    period=(0.0, 6.0),
    cut=(0.0, 1.0),
    first=(0.0, -3.0),
)
OF_A_SHARE_AND_AN_ANGLE = Standardizer(torch.zeros(2), torch.tensor([0.7, 1.5]), SHARE_AND_ANGLE)


def drawn_at_random(standardizer, flow="nsf", n_components=3, seed=0):
    """A mixture whose flows and posterior are drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    model = build_model(
        family_of(flow),
        PosteriorMLP((8,)),
        n_components,
        len(standardizer.shift),
        standardizer=standardizer,
        identity=False,
        generator=generator,
    )
    return model.double()


def test_a_wrapped_density_is_the_sum_over_images_and_smooth_at_the_seam():
    angle = domain(period=(6.0,), cut=(1.0,), first=(0.0,))
    one = torch.ones(1)
    model = drawn_at_random(Standardizer(4 * one, 1.5 * one, angle))
    plain = MixtureModel(
        Standardizer(4 * one, 1.5 * one), model.flows, torch.nn.Linear(1, 3), torch.ones(3) / 3
    ).double()
    x = torch.linspace(1, 6.99, 100, dtype=torch.float64)[:, None]
    images = [plain.component_log_prob(x + turn * 6.0) for turn in (-1, 0, 1)]
    torch.testing.assert_close(model.component_log_prob(x), torch.stack(images).logsumexp(0))
    torch.testing.assert_close(model.log_prob(x + 12), model.log_prob(x))
    torch.testing.assert_close(model.log_posterior(x - 6), model.log_posterior(x))
    seam = torch.tensor([[1 - 1e-9], [1.0]], dtype=torch.float64)
    for function in (model.log_prob, model.log_posterior):
        before, after = function(seam)
        torch.testing.assert_close(before, after, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", ["lower", "both", "periodic"])
@pytest.mark.long
def test_densities_integrate_to_one(kind):
    where = domain(period=(6.0,), cut=(1.0,)) if kind == "periodic" else KINDS[kind]
    if kind != "periodic":
        where = domain(low=(-3.0,), high=(2.0,) if kind == "both" else (INF,), margin=1e-9)
    one = torch.ones(1)
    model = drawn_at_random(Standardizer(0.4 * one, 0.9 * one, where))
    # Points that are even on the real line, and so dense near the bounds.
    z = torch.linspace(-12, 12, 200_001, dtype=torch.float64)[:, None]
    x = where.inverse(z) if kind != "periodic" else torch.linspace(1, 7, 20_001).double()[:, None]
    density = model.log_prob(x).exp().detach().numpy()
    mass = integrate.trapezoid(density, x[:, 0].numpy())
    assert mass == pytest.approx(1, abs=2e-3)


def test_samples_are_inside_and_follow_the_density():
    model = drawn_at_random(OF_A_SHARE_AND_AN_ANGLE)
    x, _ = model.sample(20_000, generator=torch.Generator().manual_seed(0))
    assert x[:, 0].min() >= 0
    assert x[:, 0].max() <= 1
    assert x[:, 1].min() >= -3
    assert x[:, 1].max() < 3
    # The mean of 1 / p(x) over samples is the area of the support, where p is above zero.
    area = (-model.log_prob(x)).exp().detach()
    inside = (x[:, 0] > 0.05) & (x[:, 0] < 0.95)
    found = float((area * inside).mean())
    assert found == pytest.approx(0.9 * 6, rel=0.1)


def test_beyond_a_bound_the_density_is_zero_and_clusters_are_those_on_it():
    model = drawn_at_random(Standardizer(torch.zeros(1), torch.ones(1), domain(low=(0.0,))))
    on, beyond = torch.tensor([[0.0], [-1.0]], dtype=torch.float64)[:, None, :]
    for function in (model.log_prob, model.log_joint, model.component_log_prob, model.elbo):
        assert function(on).isfinite().all()
        assert (function(beyond) == -INF).all()
    for function in (model.log_posterior, model.log_responsibilities):
        assert torch.equal(function(beyond), function(on))
    assert torch.equal(model.terms(beyond).gap, model.terms(on).gap)


def test_terms_of_a_few_components_are_those_of_all():
    model = drawn_at_random(OF_A_SHARE_AND_AN_ANGLE)
    x, _ = model.sample(50, generator=torch.Generator().manual_seed(0))
    nowhere = torch.full((50,), -1)
    sparse = model.sparse_terms(x, nowhere, 2, torch.Generator().manual_seed(1))
    log_joint = model.terms(x).log_joint[sparse.pairs.row, sparse.pairs.component]
    torch.testing.assert_close(sparse.pair_log_joint, log_joint)


def test_the_posterior_network_has_an_input_more_for_each_angle():
    angle = domain(period=(6.0, 0.0), low=(-INF, -INF), high=(INF, INF), cut=(0.0, 0.0))
    angle = Domain(
        *torch.tensor([[-INF] * 2, [INF] * 2, [1.0] * 2, [6.0, 0], [0.0] * 2, [0.0] * 2])
    )
    model = drawn_at_random(Standardizer(torch.zeros(2), torch.ones(2), angle))
    assert isinstance(model.posterior_network, PosteriorNetwork)
    assert model.posterior_network.layers[0].in_features == 3
