"""Tests of the base distributions: a mixture of Gaussians for each flow, and its broad part."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, multivariate_t

from vmonf.flows import FAMILIES, GaussianMixtureBase, StandardNormal, build_flows

K, M, D = 3, 4, 2
COMPONENT = np.array([0, 0, 0, 0, 1, 2, 2])  # four atoms, one and two


@pytest.fixture
def atoms():
    """Means, covariances and weights of seven atoms: (7, D), (7, D, D), (7,)."""
    random = np.random.default_rng(0)
    root = random.normal(size=(7, D, D))
    covariances = root @ root.swapaxes(1, 2) / 5 + 0.05 * np.eye(D)
    return 2 * random.normal(size=(7, D)), covariances, random.dirichlet(np.ones(7))


def by_scipy(X, means, covariances, weights, broad_weight=0.0):
    """Log p(x given c) from scipy's distributions: (n, K)."""
    result = []
    for c in range(K):
        mine = np.flatnonzero(c == COMPONENT)
        share = weights[mine] / weights[mine].sum()
        density = sum(
            w * multivariate_normal(means[a], covariances[a]).pdf(X)
            for w, a in zip(share, mine, strict=True)
        )
        mean = share @ means[mine]
        apart = means[mine] - mean
        covariance = np.einsum("a,aij->ij", share, covariances[mine])
        covariance += np.einsum("a,ai,aj->ij", share, apart, apart)
        broad = multivariate_t(mean, covariance, df=3).pdf(X)
        result.append(np.log((1 - broad_weight) * density + broad_weight * broad))
    return np.stack(result, axis=1)


def fresh_flows(atoms, family="realnvp", broad_weight=0.0):
    flows = build_flows(
        family,
        K,
        D,
        n_atoms=M,
        broad_weight=broad_weight,
        generator=torch.Generator().manual_seed(0),
    ).double()
    means, covariances, weights = map(torch.from_numpy, atoms)
    flows.set_gaussians(means, covariances, weights, torch.from_numpy(COMPONENT))
    return flows


@pytest.mark.parametrize("broad_weight", [0.0, 0.02])
@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_flows_are_the_mixtures_of_their_atoms(family, broad_weight, atoms):
    flows = fresh_flows(atoms, family, broad_weight)
    X = 3 * np.random.default_rng(1).normal(size=(200, D))
    # Beyond its box, a spline is the identity, and within it so is a fresh one.
    expected = by_scipy(X, *atoms, broad_weight)
    found = flows.log_prob(torch.from_numpy(X)).detach().numpy().T
    np.testing.assert_allclose(found, expected, atol=1e-4)
    some = flows.log_prob(torch.from_numpy(X), torch.tensor([2, 0])).detach().numpy().T
    np.testing.assert_allclose(some, expected[:, [2, 0]], atol=1e-4)


@pytest.mark.parametrize("n_features", [1, 3, 5])
def test_atoms_follow_the_order_of_the_features(n_features):
    random = np.random.default_rng(0)
    flows = build_flows(
        "realnvp", 1, n_features, n_atoms=2, generator=torch.Generator().manual_seed(3)
    ).double()
    means = random.normal(size=(2, n_features))
    covariances = np.stack([np.diag(random.uniform(0.5, 2, n_features)) for _ in range(2)])
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    both = torch.tensor([0, 0])
    flows.set_gaussians(torch.from_numpy(means), torch.from_numpy(covariances), weights, both)
    X = random.normal(size=(50, n_features))
    expected = np.log(
        sum(
            w * multivariate_normal(m, v).pdf(X)
            for w, m, v in zip((0.25, 0.75), means, covariances, strict=True)
        )
    )
    found = flows.log_prob(torch.from_numpy(X)).detach().numpy()[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_trained_base_integrates_to_one():
    base = GaussianMixtureBase(2, 1, 3, broad_weight=0.05).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in (base.logits, base.shift, base.log_diagonal):
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.5 * noise)
    grid = torch.linspace(-2000, 2000, 400_001, dtype=torch.float64)
    density = base(grid.expand(2, -1)[..., None]).exp()
    total = torch.trapezoid(density, grid, dim=1)
    np.testing.assert_allclose(total.detach().numpy(), 1.0, atol=1e-5)


@pytest.mark.parametrize("broad_weight", [0.0, 0.3])
def test_draws_have_the_moments_and_the_tails_of_the_density(atoms, broad_weight):
    flows = fresh_flows(atoms, broad_weight=broad_weight)
    counts = torch.tensor([40_000, 0, 40_000])
    with torch.no_grad():
        drawn = flows.sample(counts, torch.Generator().manual_seed(0)).numpy()
    means, covariances, weights = atoms
    for c, rows in ((0, drawn[:40_000]), (2, drawn[40_000:])):
        mine = np.flatnonzero(c == COMPONENT)
        share = weights[mine] / weights[mine].sum()
        np.testing.assert_allclose(rows.mean(axis=0), share @ means[mine], atol=0.1)
        # The mean log density of draws is minus the entropy, here from scipy's own draws.
        reference = by_scipy(rows[:4000], *atoms, broad_weight)[:, c].mean()
        random = np.random.default_rng(c)
        mean = share @ means[mine]
        apart = means[mine] - mean
        covariance = np.einsum("a,aij->ij", share, covariances[mine])
        covariance += np.einsum("a,ai,aj->ij", share, apart, apart)
        atom = random.choice(mine, p=share, size=4000)
        others = np.stack([random.multivariate_normal(means[a], covariances[a]) for a in atom])
        broad = multivariate_t(mean, covariance, df=3).rvs(4000, random_state=c)
        others = np.where(random.uniform(size=(4000, 1)) < broad_weight, broad, others)
        expected = by_scipy(others, *atoms, broad_weight)[:, c].mean()
        assert reference == pytest.approx(expected, abs=0.08)


def test_absent_atoms_stay_absent_and_constants_have_no_gradient(atoms):
    flows = fresh_flows(atoms)
    flows.log_prob(torch.randn(50, D, dtype=torch.float64)).sum().backward()
    base = flows.base
    assert base.mean.grad is None
    assert base.factor.grad is None
    assert (base.logits.grad[1, 1:] == 0).all()
    assert (base.shift.grad[1, 1:] == 0).all()
    assert (base.shift.grad[0] != 0).all()


def test_the_number_of_free_parameters_is_that_of_gaussian_mixtures(atoms):
    # Four, one and two atoms, each of a weight, two means and three covariances; the weights of
    # each component sum to one.
    assert fresh_flows(atoms).base.n_free_parameters == 7 * 6 - 3
    assert StandardNormal(K, D).n_free_parameters == 0


def test_the_broad_part_bounds_the_cost_of_a_far_row():
    narrow, broad = StandardNormal(1, 2), StandardNormal(1, 2, broad_weight=0.002)
    far = torch.full((1, 1, 2), 40.0)
    near = torch.zeros(1, 1, 2)
    assert float(narrow(far)) < -1500
    assert float(broad(far)) > -30
    assert float(broad(near)) == pytest.approx(float(narrow(near)), abs=0.003)
