"""Tests of the Gaussian mixture that a fit starts from."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import load_wine, make_blobs
from sklearn.mixture import GaussianMixture

from vmonf.rows import Rows
from vmonf.start import STARTS, GaussianStarter, Shrinkage, given_centres, largest_to_largest
from vmonf.start.starter import _coordinate_search

KMEANS = STARTS["kmeans"]


def rows_of(Z, component=None, weight=None, cluster=None):
    nowhere = np.full(len(Z), -1)
    return Rows(
        Z,
        np.ones(len(Z)) if weight is None else weight,
        nowhere if component is None else component,
        nowhere if cluster is None else cluster,
    )


@pytest.fixture
def random():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def blobs():
    Z, y = make_blobs([150, 100, 50], centers=[[-3, 0], [3, 0], [0, 4]], random_state=0)
    return Z / Z.std(axis=0), y


def test_without_shrinkage_it_is_scikit_learns_mixture(blobs, random):
    Z, y = blobs
    reference = GaussianMixture(
        3, means_init=[Z[y == c].mean(axis=0) for c in range(3)], tol=1e-9, max_iter=500
    ).fit(Z)
    _, ours = GaussianStarter(
        3, given_centres(reference.means_), shrinkage=Shrinkage(0.0, 0.0)
    ).fit(rows_of(Z), random)
    assert ours.log_prob(Z).mean() == pytest.approx(reference.score(Z), abs=2e-3)
    np.testing.assert_allclose(ours.means, reference.means_, atol=0.02)


def test_infinite_strength_ties_the_covariances(blobs, random):
    Z, _ = blobs
    starter = GaussianStarter(3, KMEANS, shrinkage=Shrinkage(np.inf, 0.0))
    _, tied = starter.fit(rows_of(Z), random)
    np.testing.assert_allclose(tied.covariances[0], tied.covariances[2])
    _, diagonal = GaussianStarter(3, KMEANS, shrinkage=Shrinkage(np.inf, 1.0)).fit(
        rows_of(Z), random
    )
    assert diagonal.covariances[0][0, 1] == 0


def test_spherical_share_one_is_scikit_learns_spherical_type(blobs, random):
    Z, _ = blobs
    starter = GaussianStarter(1, KMEANS, shrinkage=Shrinkage(np.inf, 0.3, 1.0))
    _, sphere = starter.fit(rows_of(Z * [1, 3]), random)
    reference = GaussianMixture(1, covariance_type="spherical").fit(Z * [1, 3])
    np.testing.assert_allclose(
        sphere.covariances[0], reference.covariances_[0] * np.eye(2), rtol=1e-5, atol=1e-12
    )


def test_the_search_finds_a_strong_shrinkage_to_full_covariances():
    # Near a plane the diagonal share must be zero, but with a weak strength it does not look so.
    def score(shrinkage):
        strength = min(shrinkage.strength, 1e9)
        if shrinkage.diagonal_share == 0:
            return -3 * abs(np.log(strength / 50))
        return -10 - shrinkage.diagonal_share - 0.1 * np.log(strength / 0.1)

    assert _coordinate_search(score, 5) == Shrinkage(50.0, 0.0)


def test_own_diagonals_of_infinite_strength_are_scikit_learns_diag_type(random):
    Z = random.standard_normal((900, 3)) * [1, 3, 0.3]
    Z[300:] = Z[300:, [1, 2, 0]] + [9, 0, 9]
    shrinkage = Shrinkage(np.inf, 1.0, 0.0, own_diagonal=True)
    _, diagonal = GaussianStarter(2, KMEANS, shrinkage=shrinkage).fit(rows_of(Z), random)
    reference = GaussianMixture(2, covariance_type="diag", tol=1e-9, max_iter=500).fit(Z)
    order = np.argsort(diagonal.means[:, 0]), np.argsort(reference.means_[:, 0])
    np.testing.assert_allclose(
        diagonal.covariances[order[0]],
        [np.diag(variances) for variances in reference.covariances_[order[1]]],
        rtol=0.02,
    )


def test_own_diagonals_are_chosen_for_boxes(random):
    centres = random.uniform(-20, 20, size=(4, 6))
    widths = random.uniform(0.2, 3, size=(4, 6))
    boxes = centres[:, None] + widths[:, None] * random.uniform(-1, 1, (4, 40, 6))
    _, mixture = GaussianStarter(4, KMEANS).fit(rows_of(boxes.reshape(-1, 6)), random)
    assert mixture.shrinkage.own_diagonal


@pytest.mark.parametrize("strength", [0.001, 21.0])
def test_the_search_for_the_shrinkage_finds_an_optimum_away_from_where_it_begins(strength):
    def score(shrinkage):
        apart = abs(np.log(min(shrinkage.strength, 1e9) / strength))
        return -apart - abs(shrinkage.diagonal_share + shrinkage.spherical_share - 2)

    found = _coordinate_search(score, 7)
    assert found.strength == pytest.approx(strength)
    assert (found.diagonal_share, found.spherical_share) == (1, 1)
