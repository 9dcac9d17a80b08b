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
        rtol=0.06,  # the pooled covariance counts as one of 300 rows
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


def test_few_rows_near_a_plane_are_shrunk_along_it(random):
    # Three rows for each component: cross-validation must find that all share one plane.
    def rows(n):
        Z = random.standard_normal((n, 2)) @ [[1, 0, 1, 2], [0, 1, 1, -1]]
        return Z + 1e-4 * random.standard_normal((n, 4))

    train, test = rows(15), rows(500)
    _, mixture = GaussianStarter(5, KMEANS).fit(rows_of(train), random)
    reference = GaussianMixture(5, covariance_type="tied", random_state=0).fit(train)
    assert mixture.log_prob(test).mean() > reference.score(test)


def test_a_spike_beside_wide_clusters_stays_a_spike(random):
    n_features = 6
    spike = 0.3 + 1e-3 * random.standard_normal((12, n_features))
    Z = np.concatenate([random.uniform(-1.7, 1.7, (100, n_features)), spike])
    cluster = np.repeat([0, 1], [100, 12])
    shrinkage = Shrinkage(float(n_features), 0.1)
    _, mixture = GaussianStarter(2, KMEANS, shrinkage=shrinkage).fit(
        rows_of(Z, cluster=cluster), random
    )
    width = np.sqrt(np.trace(mixture.covariances[1]) / n_features)
    assert 1e-3 < width < 3e-3


def test_the_largest_cluster_goes_to_the_largest_weight():
    cluster = np.array([0, 1, 1, 1, 2, 2, -1])
    found = largest_to_largest(cluster, np.ones(7), np.array([0.2, 0.3, 0.5]))
    assert found.tolist() == [0, 2, 2, 2, 1, 1, -1]
    heavy = np.array([9.0, 1, 1, 1, 1, 1, 1])
    assert largest_to_largest(cluster, heavy, np.array([0.2, 0.3, 0.5]))[0] == 2


def test_log_prob_is_scipys(blobs, random):
    Z, _ = blobs
    _, start = GaussianStarter(3, KMEANS).fit(rows_of(Z), random)
    joint = [
        np.log(weight) + multivariate_normal(mean, covariance).logpdf(Z)
        for weight, mean, covariance in zip(
            start.weights, start.means, start.covariances, strict=True
        )
    ]
    np.testing.assert_allclose(start.log_prob(Z), np.logaddexp.reduce(joint), rtol=1e-9)


def test_cross_validated_shrinkage_beats_every_covariance_type_on_a_small_table(random):
    X = load_wine().data
    Z = (X - X.mean(axis=0)) / X.std(axis=0)
    order = random.permutation(len(Z))
    train, test = Z[order[:90]], Z[order[90:]]
    _, start = GaussianStarter(3, KMEANS, np.full(3, 1 / 3)).fit(rows_of(train), random)
    best = max(
        GaussianMixture(3, covariance_type=kind, random_state=0).fit(train).score(test)
        for kind in ("full", "tied", "diag", "spherical")
    )
    assert start.log_prob(test).mean() > best


def test_labelled_rows_keep_their_component(blobs, random):
    Z, y = blobs
    component = np.full(len(y), -1)
    component[:40] = (y[:40] + 1) % 3
    _, start = GaussianStarter(3, KMEANS).fit(rows_of(Z, component), random)
    assigned = start.log_joint(Z).argmax(axis=1)
    assert (assigned == (y + 1) % 3).mean() > 0.97


def test_components_without_labels_find_the_rest(blobs, random):
    Z, y = blobs
    component = np.where((y == 2) & (np.arange(len(y)) % 5 == 0), 0, -1)
    _, start = GaussianStarter(3, KMEANS).fit(rows_of(Z, component), random)
    assigned = start.log_joint(Z).argmax(axis=1)
    assert (assigned[y == 2] == 0).mean() > 0.95
    assert len(np.unique(assigned)) == 3


def test_the_first_clusters_can_be_given(blobs, random):
    Z, y = blobs
    clusters, _ = GaussianStarter(3, KMEANS).fit(rows_of(Z, cluster=(y + 1) % 3), random)
    for c in range(3):
        np.testing.assert_allclose(clusters.means[c], Z[(y + 1) % 3 == c].mean(axis=0))


def test_weights_are_fixed_or_estimated(blobs, random):
    Z, _ = blobs
    _, estimated = GaussianStarter(3, KMEANS).fit(rows_of(Z), random)
    np.testing.assert_allclose(sorted(estimated.weights), [1 / 6, 1 / 3, 1 / 2], atol=0.02)
    fixed = np.array([0.2, 0.2, 0.6])
    _, given = GaussianStarter(3, KMEANS, fixed).fit(rows_of(Z), random)
    np.testing.assert_array_equal(given.weights, fixed)
    assigned = given.log_joint(Z).argmax(axis=1)
    assert np.bincount(assigned).argmax() == 2


def test_a_weight_of_two_is_two_rows(blobs):
    Z, _ = blobs
    centres = Z[:3]
    starter = GaussianStarter(3, given_centres(centres), shrinkage=Shrinkage(1.0, 0.1))
    weight = np.random.default_rng(0).integers(1, 3, len(Z))
    _, weighted = starter.fit(rows_of(Z, weight=weight.astype(float)), np.random.default_rng(0))
    _, repeated = starter.fit(rows_of(np.repeat(Z, weight, axis=0)), np.random.default_rng(0))
    np.testing.assert_allclose(weighted.means, repeated.means, rtol=1e-9)
    np.testing.assert_allclose(weighted.covariances, repeated.covariances, rtol=1e-7)


def test_many_features_have_diagonal_covariances(random):
    Z = random.normal(size=(60, 300))
    _, start = GaussianStarter(2, KMEANS).fit(rows_of(Z), random)
    assert start.covariances.shape == (2, 300)
    assert np.isfinite(start.log_prob(Z)).all()


def test_fewer_rows_than_features_work(random):
    Z = random.normal(size=(15, 30))
    _, start = GaussianStarter(2, KMEANS).fit(rows_of(Z), random)
    assert np.isfinite(start.log_prob(Z)).all()


def test_a_large_table_is_subsampled_with_its_labels_and_its_rest(random, monkeypatch):
    from vmonf.start import starter as starter_module

    monkeypatch.setattr(starter_module, "MAX_ROWS", 300)
    Z, y = make_blobs(3000, centers=[[-4, 0], [4, 0], [0, 6]], random_state=0)
    component = np.where(y < 2, y, -1)  # the last cluster has no labels
    rows = rows_of(Z, component)
    kept = starter_module._subsample(rows, random)
    assert len(set(kept)) == 300
    assert (component[kept] >= 0).sum() == 150
    starter = GaussianStarter(3, KMEANS)
    _, start = starter.fit(rows, random)
    assert (start.log_joint(Z).argmax(axis=1) == y).mean() > 0.95
    assert starter.refit(rows, start) is start


def test_refitting_goes_on_from_the_mixture_it_is_given(blobs, random):
    Z, _ = blobs
    starter = GaussianStarter(3, KMEANS)
    _, start = starter.fit(rows_of(Z[::2]), random)
    again = starter.refit(rows_of(Z), start)
    assert again.log_prob(Z).mean() >= start.log_prob(Z).mean() - 1e-3
    np.testing.assert_allclose(again.means, start.means, atol=0.3)
    assert again.shrinkage == start.shrinkage


@pytest.mark.parametrize("shrinkage", [None, Shrinkage(0.0, 0.0), Shrinkage(1.0, 0.1)])
def test_a_component_that_no_row_is_near_joins_the_others(random, shrinkage):
    Z = random.normal(size=(2000, 2))
    centres = np.array([[0.0, 0.0], [1.0, 1.0], [50.0, 50.0]])
    _, start = GaussianStarter(3, given_centres(centres), shrinkage=shrinkage).fit(
        rows_of(Z), random
    )
    assert np.isfinite(start.log_prob(Z)).all()
    assert (np.abs(start.means) < 3).all()


def test_without_clusters_every_component_is_the_gaussian_of_all_rows(blobs, random):
    Z, y = blobs
    weight = np.linspace(0.5, 1.5, len(Z))
    labelled = np.where(np.arange(len(Z)) < 20, y, -1)
    starter = GaussianStarter(3, STARTS["none"], shrinkage=Shrinkage(0.0, 0.0))
    clusters, mixture = starter.fit(rows_of(Z, labelled, weight), random)
    for start in (clusters, mixture, starter.refit(rows_of(Z, labelled, weight), mixture)):
        for c in range(3):
            np.testing.assert_allclose(start.means[c], np.average(Z, axis=0, weights=weight))
            expected = np.cov(Z.T, aweights=weight, ddof=0)
            np.testing.assert_allclose(start.covariances[c], expected, rtol=1e-3)
        np.testing.assert_allclose(start.weights, 1 / 3)
