"""Tests that K Gaussians evaluated together equal one after the other."""

import tracemalloc

import numpy as np
import pytest
from scipy.special import logsumexp, softmax
from scipy.stats import multivariate_normal

import vmonf.start.gaussians
from vmonf.start.gaussians import log_joint, moments_of, normalise

#: Numbers of components and features that lead to one product for all, the same with one component,
#: and one product for each component.
SHAPES = [(6, 3), (1, 1), (2, 5)]


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _several_blocks(monkeypatch):
    monkeypatch.setattr(vmonf.start.gaussians, "BLOCK_SIZE", 100)


def rows_around(random, n_components, n_features, far):
    means = random.normal(size=(n_components, n_features))
    means[-1] += far
    factors = 0.01 * random.normal(size=(n_components, n_features, n_features))
    of = np.arange(300) % n_components
    noise = random.normal(size=(300, 1, n_features))
    return means[of] + (noise @ factors[of])[:, 0], means, factors @ factors.swapaxes(1, 2)


@pytest.mark.parametrize("far", [0.0, 1e6])
@pytest.mark.parametrize(("n_components", "n_features"), SHAPES)
@pytest.mark.parametrize("diagonal", [False, True])
def test_log_joint_is_scipys(random, n_components, n_features, far, diagonal):
    Z, means, covariances = rows_around(random, n_components, n_features, far)
    covariances += 1e-4 * np.eye(n_features)
    if diagonal:
        covariances *= np.eye(n_features)
    weights = random.dirichlet(np.ones(n_components))
    expected = [
        np.log(weight) + multivariate_normal(mean, covariance).logpdf(Z)
        for weight, mean, covariance in zip(weights, means, covariances, strict=True)
    ]
    given = np.diagonal(covariances, axis1=1, axis2=2) if diagonal else covariances
    np.testing.assert_allclose(log_joint(Z, weights, means, given), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("far", [0.0, 1e6])
@pytest.mark.parametrize(("n_components", "n_features"), SHAPES)
@pytest.mark.parametrize("diagonal", [False, True])
def test_moments_are_numpys(random, n_components, n_features, far, diagonal):
    Z, _, _ = rows_around(random, n_components, n_features, far)
    weight = random.random((n_components, 300)) * (
        np.arange(n_components)[:, None] == np.arange(300) % n_components
    )
    moments = moments_of(Z, weight, diagonal=diagonal)
    for c in range(n_components):
        covariance = np.atleast_2d(np.cov(Z, rowvar=False, aweights=weight[c], ddof=0))
        np.testing.assert_allclose(moments.counts[c], weight[c].sum())
        np.testing.assert_allclose(moments.means[c], np.average(Z, axis=0, weights=weight[c]))
        np.testing.assert_allclose(
            moments.scatters[c] / weight[c].sum(),
            np.diag(covariance) if diagonal else covariance,
            rtol=1e-5,
            atol=1e-12,
        )


@pytest.mark.parametrize("n_components", [2, 5])
def test_a_component_without_rows_is_at_the_mean_of_all(random, n_components):
    Z = random.normal(size=(50, 3))
    weight = np.zeros((n_components, 50))
    weight[0], weight[1] = 1.0, 1e-200
    moments = moments_of(Z, weight, diagonal=False)
    np.testing.assert_allclose(moments.means, np.tile(Z.mean(axis=0), (n_components, 1)))
    assert (moments.scatters[1:] < 1e-190).all()


def test_responsibilities_are_the_softmax(random):
    joint = 1000 * random.normal(size=(4, 20))
    weight = random.random(20)
    log_prob, responsibilities = normalise(joint.copy(), weight)
    np.testing.assert_allclose(log_prob, logsumexp(joint, axis=0))
    np.testing.assert_allclose(responsibilities, weight * softmax(joint, axis=0), atol=1e-200)
    assert (responsibilities > np.finfo(float).tiny).all()


@pytest.mark.parametrize(("n_components", "n_features"), [(20, 10), (8, 40)])
def test_memory_is_that_of_the_result(random, monkeypatch, n_components, n_features):
    monkeypatch.undo()
    Z = random.normal(size=(20_000, n_features))
    weights = np.full(n_components, 1 / n_components)
    covariances = np.tile(np.eye(n_features), (n_components, 1, 1))
    tracemalloc.start()
    joint = log_joint(Z, weights, np.zeros((n_components, n_features)), covariances)
    moments_of(Z, normalise(joint)[1], diagonal=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < joint.nbytes + 4 * 8 * vmonf.start.gaussians.BLOCK_SIZE + 1e6
    assert peak < 0.5 * n_components * Z.nbytes
