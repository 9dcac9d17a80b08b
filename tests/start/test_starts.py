"""Tests of what every start must do, and of the shapes that some of them must find."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.metrics import adjusted_rand_score

from vmonf.rows import Rows
from vmonf.start import STARTS, sample
from vmonf.start.merged import _merged
from vmonf.start.sample import Sample, sample_of, without_empty
from vmonf.start.tree import _gini

INFORMED = [name for name in STARTS if STARTS[name].informed]
OF_A_SAMPLE = ["peaks", "tree", "gaussian", "merged", "auto"]


def rows_of(X, component=None, weight=None):
    nowhere = np.full(len(X), -1)
    return Rows(
        (X - X.mean(axis=0)) / X.std(axis=0),
        np.ones(len(X)) if weight is None else weight,
        nowhere if component is None else component,
        nowhere,
    )


def clusters(name, rows, n_components, seed=0):
    return STARTS[name].clusters_of(rows, n_components, seed).cluster


def found(name, X, y, n_components):
    return adjusted_rand_score(y, clusters(name, rows_of(X), n_components))


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(0)


@pytest.mark.filterwarnings("ignore:The methods of init='auto'")
@pytest.mark.parametrize("name", INFORMED)
@pytest.mark.parametrize(
    ("n_rows", "n_features", "n_components"),
    [
        (60, 2, 1),
        (60, 2, 4),
        (80, 1, 3),
        (120, 100, 3),
        (12, 3, 2),
        (5, 2, 4),
        (3, 2, 3),
        (2, 1, 2),
    ],
)
def test_every_cluster_has_rows_and_a_seed_determines_them(name, n_rows, n_features, n_components):
    X = np.random.default_rng(1).normal(size=(n_rows, n_features))
    X[: n_rows // 2] += 5
    rows = rows_of(X)
    first = clusters(name, rows, n_components, 3)
    assert first.shape == (n_rows,)
    assert first.dtype == np.int64
    np.testing.assert_array_equal(np.unique(first), np.arange(n_components))
    np.testing.assert_array_equal(first, clusters(name, rows, n_components, 3))


@pytest.mark.parametrize("name", ["kmeans", *OF_A_SAMPLE])
def test_repeated_rows_are_in_one_cluster(name):
    X, y = make_blobs(40, centers=[[-9, 0], [9, 0]], random_state=0)
    X, y = np.repeat(X, 15, axis=0), np.repeat(y, 15)
    assert found(name, X, y, 2) == 1


@pytest.mark.parametrize("name", ["peaks", "tree", "graph", "auto"])
def test_moons_and_circles_are_found(name):
    assert found(name, *make_moons(400, noise=0.06, random_state=0), 2) > 0.97
    assert found(name, *make_circles(400, noise=0.05, factor=0.5, random_state=0), 2) > 0.97


def test_merges_are_those_of_all_misclassifications_computed_again():
    random = np.random.default_rng(0)
    X = random.normal(size=(300, 2))
    distances = np.square(X[:, None] - X[:15]).sum(axis=-1)
    probability = np.exp(-4 * distances).T
    probability /= probability.sum(axis=0)
    weight = random.random(300) + 0.5
    found = _merged(probability.copy(), weight)
    assert sorted(found) == list(range(1, 16))
    while len(probability) > 1:
        assigned = probability.argmax(axis=0)
        assert (found[len(probability)] == assigned).all()
        inside = np.eye(len(probability))[assigned]
        wrong = (probability * weight) @ inside / (probability @ weight)[:, None]
        np.fill_diagonal(wrong, 0)
        i, j = sorted(np.unravel_index(wrong.argmax(), wrong.shape))
        probability[i] += probability[j]
        probability = np.delete(probability, j, axis=0)


def test_merged_gaussians_follow_moons():
    assert found("merged", *make_moons(400, noise=0.06, random_state=0), 2) > 0.97


@pytest.mark.parametrize("name", ["gaussian", "merged", "peaks", "auto"])
def test_blobs_of_uneven_sizes_are_found(name):
    X, y = make_blobs([970, 20, 10], centers=[[0, 0], [8, 0], [0, 8]], random_state=0)
    assert found(name, X, y, 3) > 0.95


@pytest.mark.parametrize("name", ["gaussian", "merged", "graph", "tree", "auto"])
def test_elongated_blobs_are_found(name, random):
    y = random.integers(0, 2, 400)
    X = random.normal(size=(400, 2)) * [3, 0.5] + 3 * y[:, None] * [0, 1]
    assert found(name, X, y, 2) > 0.95


@pytest.mark.parametrize("name", OF_A_SAMPLE)
def test_of_many_rows_some_are_drawn_and_all_labelled_ones(name, monkeypatch):
    monkeypatch.setattr(sample, "MAX_ROWS", 200)
    monkeypatch.setattr("vmonf.start.agreement.MAX_ROWS", 200)
    X, y = make_blobs(500, centers=[[-9, 0], [9, 0]], random_state=0)
    component = np.full(len(X), -1)
    component[[3, 400]] = y[[3, 400]] = 0, 1
    cluster = clusters(name, rows_of(X, component), 2)
    assert np.sum(cluster >= 0) == 200
    assert cluster[[3, 400]].tolist() == [0, 1]


@pytest.mark.parametrize("name", OF_A_SAMPLE)
def test_clusters_are_named_after_labels(name):
    X, y = make_blobs(300, centers=[[-9, 0], [9, 0], [0, 9]], random_state=0)
    component = np.full(len(X), -1)
    component[np.flatnonzero(y == 1)[:2]] = 2
    component[np.flatnonzero(y == 2)[:2]] = 0
    cluster = clusters(name, rows_of(X, component), 3)
    np.testing.assert_array_equal(cluster, np.array([1, 2, 0])[y])


@pytest.mark.parametrize("small_part", [0, 200])
def test_links_connect_all_rows_and_hold_the_minimum_spanning_tree(random, monkeypatch, small_part):
    monkeypatch.setattr(sample, "SMALL_PART", small_part)
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import cdist

    X = np.concatenate([random.normal(size=(40, 2)) + c for c in (0, 50, 200)])
    links = sample_of(X, np.ones(len(X)), 0).links
    tree = links.spanning_tree(np.argsort(links.length))
    assert len(tree.length) == len(X) - 1
    assert (np.diff(tree.length) >= 0).all()
    assert tree.length.sum() == pytest.approx(minimum_spanning_tree(cdist(X, X)).sum())


def test_links_connect_rows_that_are_equal():
    X = np.repeat([[0.0], [1.0], [5.0]], 30, axis=0)
    links = Sample(X, np.ones(len(X))).links
    tree = links.spanning_tree(np.argsort(links.length))
    assert tree.length.sum() == 5
    assert len(tree.length) == len(X) - 1


def test_the_gini_index_is_that_of_its_definition():
    from collections import Counter

    sizes = np.array([1, 1, 4, 9, 9, 20])
    differences = np.abs(sizes[:, None] - sizes).sum() / 2
    expected = differences / ((len(sizes) - 1) * sizes.sum())
    assert _gini(Counter(sizes.tolist()), len(sizes), sizes.sum()) == pytest.approx(expected)
    assert _gini(Counter([3, 3, 3]), 3, 9) == 0


def test_an_empty_cluster_gets_half_of_the_largest():
    x = np.arange(10.0)[:, None]
    cluster = without_empty(np.array([0, 0, 0, 0, 0, 0, 0, 2, 2, 2]), x, 3)
    assert cluster.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2]
