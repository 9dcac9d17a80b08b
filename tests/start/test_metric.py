"""Tests of the metric of the deviations within clusters."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.cluster import KMeans
from sklearn.covariance import EmpiricalCovariance
from sklearn.metrics import adjusted_rand_score

from vmonf import FlowMixture, PosteriorMLP, Training
from vmonf.rows import Rows
from vmonf.start import metric
from vmonf.start.agreement import agreeing_clusters
from vmonf.start.metric import AGREED, SHARE_OF_ALL, within_clusters
from vmonf.start.number import _in_best_metric, _in_metric_of, _searched, number_of_clusters
from vmonf.start.sample import sample_of


def hidden_clusters(n_rows=600, seed=0):
    """Three clusters in proportions, which a large common size hides."""
    random = np.random.default_rng(seed)
    y = np.arange(n_rows) % 3
    proportions = np.array([[0, 0, 0, 0], [1, -1, 0, 0], [0, 1, -1, 0]])[y]
    size = 5 * random.normal(size=(n_rows, 1))
    return size + proportions + 0.15 * random.normal(size=(n_rows, 4)), y


def rows_of(X, component=None):
    nowhere = np.full(len(X), -1)
    x = (X - X.mean(axis=0)) / X.std(axis=0)
    return Rows(x, np.ones(len(X)), nowhere if component is None else component, nowhere)


def test_clusters_that_columns_hide_are_found():
    X, y = hidden_clusters()
    assert adjusted_rand_score(y, KMeans(3, n_init=10, random_state=0).fit_predict(X)) < 0.1
    found = agreeing_clusters(rows_of(X), 3, 0)
    assert found.agreement.metric == "within clusters"
    assert found.agreement.with_others > 0.9
    assert adjusted_rand_score(y, found.cluster) > 0.98


def test_columns_are_kept_where_methods_agree():
    random = np.random.default_rng(0)
    y = np.arange(300) % 3
    X = np.array([[0, 0], [8, 0], [0, 8]])[y] + random.normal(size=(300, 2))
    found = agreeing_clusters(rows_of(X), 3, 0)
    assert found.agreement.metric == "columns"
    assert found.agreement.with_others > AGREED


def test_the_covariance_within_clusters_is_the_identity(monkeypatch):
    X, y = hidden_clusters()
    monkeypatch.setattr(metric, "clusters_of_sample", lambda *_: y)
    weight = np.linspace(0.5, 1.5, len(X))
    sample = sample_of(rows_of(X).x, weight, 0)
    moved, agreement = within_clusters(sample, y, 3, 0)
    assert agreement == 1
    x = moved.x
    copies = np.repeat(np.arange(len(X)), np.round(1000 * weight).astype(int))
    within = np.zeros((4, 4))
    for c in range(3):
        members = copies[y[copies] == c]
        within += len(members) / len(copies) * EmpiricalCovariance().fit(x[members]).covariance_
    whole = EmpiricalCovariance().fit(x[copies]).covariance_
    np.testing.assert_allclose(within + SHARE_OF_ALL * whole, np.eye(4), atol=0.01)


def test_units_and_mixtures_of_the_columns_do_not_matter(monkeypatch):
    X, y = hidden_clusters()
    monkeypatch.setattr(metric, "clusters_of_sample", lambda *_: y)
    mixed = X @ np.random.default_rng(1).normal(size=(4, 4))
    distances = [
        pdist(within_clusters(sample_of(rows_of(each).x, np.ones(len(X)), 0), y, 3, 0)[0].x)
        for each in (X, mixed)
    ]
    np.testing.assert_allclose(*distances, rtol=0.01)


def test_directions_without_variation_are_harmless():
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 2))
    X = np.column_stack([X, X[:, 0] + X[:, 1], X[:, 0]])
    found = agreeing_clusters(rows_of(X), 4, 0)
    assert np.isin(found.cluster, range(4)).all()
    x = within_clusters(sample_of(rows_of(X).x, np.ones(200), 0), found.cluster, 4, 0)[0].x
    assert np.isfinite(x).all()
    assert np.abs(x).max() < 100


def test_more_rows_than_the_metric_needs(monkeypatch):
    monkeypatch.setattr(metric, "MAX_ROWS", 150)
    X, y = hidden_clusters()
    found = agreeing_clusters(rows_of(X), 3, 0)
    assert adjusted_rand_score(y, found.cluster) > 0.95


def test_labels_count_in_either_metric():
    X, y = hidden_clusters()
    component = np.where(np.arange(len(y)) < 6, y, -1)
    found = agreeing_clusters(rows_of(X, component), 3, 0)
    np.testing.assert_array_equal(found.cluster[:6], y[:6])
    assert np.mean(found.cluster == y) > 0.98


def test_the_metric_is_told_and_kept(tmp_path):
    X, _ = hidden_clusters()
    mixture = FlowMixture(
        3,
        max_epochs=0,
        posterior=PosteriorMLP(hidden=(8,)),
        training=Training(refine_posterior=False),
        random_state=0,
    ).fit(X)
    assert "in the metric of the deviations within clusters" in str(mixture.start_)
    mixture.save(tmp_path / "model.vmonf")
    assert FlowMixture.load(tmp_path / "model.vmonf").start_ == mixture.start_


def test_the_number_of_hidden_clusters_is_found():
    X, _ = hidden_clusters(300)
    number, _ = number_of_clusters(rows_of(X), 1, 6, 0)
    assert number.chosen == 3
    assert number.metric == "within clusters"
    assert "in the metric of the deviations within clusters" in str(number)


def test_the_metric_is_that_of_the_number_with_the_highest_score_in_it(monkeypatch):
    X, y = hidden_clusters()
    sample = sample_of(rows_of(X).x, np.ones(len(X)), 0)
    hidden, found = sample_of(sample.x, sample.weight, 0), within_clusters(sample, y, 3, 0)[0]
    # Methods agree better in the first metric if only all rows are compared.
    metrics = {2: (hidden, 0.99), 3: (found, 0.7), 4: (found, 0.5), 13: (found, 0.99)}
    monkeypatch.setattr(
        "vmonf.start.number.within_clusters", lambda sample, first, k, seed: metrics[k]
    )
    assert _in_best_metric(sample, tuple(metrics), 0) is found
    searched = _searched(found, "within clusters", 1, 4, 0)
    assert _in_metric_of(sample, 3, 0)[1] == pytest.approx(searched.score[1])
    metrics.update({2: (hidden, 0.59), 3: (found, 0.55)})
    assert _in_best_metric(sample, tuple(metrics), 0) is None
