"""Tests of the number of Gaussians of each component."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import multivariate_normal, multivariate_t
from sklearn.datasets import make_blobs, make_moons
from sklearn.mixture import GaussianMixture

from vmonf.rows import Rows
from vmonf.start import STARTS, GaussianStart, GaussianStarter, Shrinkage
from vmonf.start.atoms import core_of, number_of_atoms
from vmonf.start.gaussian_mixture import ExpectationMaximisation

KMEANS = STARTS["kmeans"]


def rows_of(Z, cluster=None):
    nowhere = np.full(len(Z), -1)
    return Rows(Z, np.ones(len(Z)), nowhere, nowhere if cluster is None else cluster)


def moons(n, seed=0):
    X, y = make_moons(n, noise=0.07, random_state=seed)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_a_gaussian_has_one_atom(n_features):
    numbers = [
        number_of_atoms(
            rows_of(np.random.default_rng(seed).normal(size=(300, n_features))),
            np.random.default_rng(seed),
        )
        for seed in range(5)
    ]
    assert np.mean(np.equal(numbers, 1)) >= 0.8


def test_far_blobs_have_one_atom_each():
    centres = [[-9, 0], [9, 0], [0, 9], [0, -9]]
    Z, _ = make_blobs(400, centers=centres, random_state=0)
    assert number_of_atoms(rows_of(Z), np.random.default_rng(0)) == 4


def test_many_features_or_few_rows_have_one_atom():
    random = np.random.default_rng(0)
    Z = np.concatenate([random.normal(size=(100, 40)) + 9, random.normal(size=(100, 40))])
    assert number_of_atoms(rows_of(Z), random) == 1
    assert number_of_atoms(rows_of(Z[95:105, :5]), random) == 1


@pytest.mark.parametrize("n_rows", [60, 3000])
def test_a_spike_among_wide_rows_is_a_core(n_rows):
    random = np.random.default_rng(0)
    spike = np.arange(n_rows) < n_rows // 5
    uniform = random.uniform(-1.7, 1.7, (n_rows, 6))
    Z = np.where(spike[:, None], 0.3 + 1e-3 * random.normal(size=uniform.shape), uniform)
    np.testing.assert_array_equal(core_of(Z, random), spike)


def test_a_spike_is_an_atom_also_with_few_rows():
    random = np.random.default_rng(0)
    spike = 0.3 + 1e-3 * random.normal(size=(10, 6))
    Z = np.concatenate([spike, random.uniform(-1.7, 1.7, (50, 6))])
    assert number_of_atoms(rows_of(Z[10:]), random) == 1
    assert number_of_atoms(rows_of(Z), random) == 2


@pytest.mark.parametrize("n_features", [1, 2, 8])
def test_rows_without_a_spike_have_no_core(n_features):
    for seed in range(5):
        random = np.random.default_rng(seed)
        assert core_of(random.normal(size=(200, n_features)), random) is None
        assert core_of(random.uniform(size=(200, n_features)), random) is None
    assert core_of(moons(300)[0], random) is None


def test_moons_keep_their_shape_in_the_grouped_mixture():
    Z, y = moons(400)
    starter = GaussianStarter(2, KMEANS, atoms="auto")
    _, mixture = starter.fit(rows_of(Z, cluster=y), np.random.default_rng(0))
    assert (mixture.n_atoms > 1).all()
    assert (mixture.log_joint(Z).argmax(axis=1) == y).mean() > 0.99
    fresh, labels = moons(2000, seed=1)
    assert (mixture.log_joint(fresh).argmax(axis=1) == labels).mean() > 0.99
    single = GaussianStarter(2, KMEANS).fit(rows_of(Z, cluster=y), np.random.default_rng(0))[1]
    assert mixture.log_prob(fresh).mean() > single.log_prob(fresh).mean() + 0.5


def test_overlapping_gaussians_stay_gaussians():
    """Cut along a line, each half is not Gaussian, but the two components are."""
    random = np.random.default_rng(0)
    Z = np.concatenate([random.normal(size=(600, 2)), np.add(random.normal(size=(600, 2)), [2, 0])])
    cut = (Z[:, 0] > 1).astype(int)
    starter = GaussianStarter(2, KMEANS, atoms="auto")
    _, mixture = starter.fit(rows_of(Z, cluster=cut), random)
    assert mixture.n_atoms.tolist() == [1, 1]


def test_a_given_number_is_kept():
    Z, y = moons(300)
    starter = GaussianStarter(2, KMEANS, atoms=3)
    clusters, mixture = starter.fit(rows_of(Z, cluster=y), np.random.default_rng(0))
    assert mixture.n_atoms.tolist() == [3, 3]
    assert clusters.n_atoms.tolist() == [1, 1]


def test_one_component_of_several_atoms_is_scikit_learns_mixture():
    Z, _ = make_blobs(600, centers=[[-3, 0], [3, 0], [0, 4]], random_state=0)
    starter = GaussianStarter(1, KMEANS, shrinkage=Shrinkage(0.0, 0.0), atoms=3)
    _, mixture = starter.fit(rows_of(Z), np.random.default_rng(0))
    reference = GaussianMixture(3, n_init=3, random_state=0, tol=1e-8, max_iter=500).fit(Z)
    assert mixture.log_prob(Z).mean() == pytest.approx(reference.score(Z), abs=1e-3)


def test_expectation_maximisation_converges():
    """Weights of overlapping clusters of three to one are far off where it stops early."""
    random = np.random.default_rng(0)
    Z = np.concatenate([random.normal(size=(15_000, 1)), random.normal(size=(5_000, 1)) + 2.5])
    first = np.zeros((2, len(Z)))
    first[(Z[:, 0] > 1).astype(int), np.arange(len(Z))] = 1.0
    both = np.arange(2)
    mixture = ExpectationMaximisation(both, Shrinkage(0.0, 0.0)).run(rows_of(Z), first)
    np.testing.assert_allclose(mixture.weights, [0.75, 0.25], atol=0.05)


def test_the_broad_part_is_a_student_t_distribution():
    Z, y = moons(200)
    _, mixture = GaussianStarter(2, KMEANS, atoms=2, broad_weight=0.05).fit(
        rows_of(Z, cluster=y), np.random.default_rng(0)
    )
    expected = np.zeros((len(Z), 2))
    for c in range(2):
        mine = np.flatnonzero(mixture.component == c)
        weights = mixture.weights[mine]
        share = weights / weights.sum()
        mean = share @ mixture.means[mine]
        apart = mixture.means[mine] - mean
        covariance = np.einsum("a,aij->ij", share, mixture.covariances[mine])
        covariance += np.einsum("a,ai,aj->ij", share, apart, apart)
        density = sum(
            s * multivariate_normal(mixture.means[a], mixture.covariances[a]).pdf(Z)
            for s, a in zip(share, mine, strict=True)
        )
        broad = multivariate_t(mean, covariance, df=3).pdf(Z)
        expected[:, c] = np.log(weights.sum() * (0.95 * density + 0.05 * broad))
    np.testing.assert_allclose(mixture.log_joint(Z), expected, rtol=1e-8)
    without: GaussianStart = dataclasses.replace(mixture, broad_weight=0.0)
    assert not np.allclose(without.log_joint(Z), expected)
