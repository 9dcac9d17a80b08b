"""Tests of clustering by the graph of nearest neighbours."""

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_iris, make_blobs, make_moons
from sklearn.semi_supervised import LabelSpreading

from vmonf.data import TwoCircles
from vmonf.metrics import clustering_accuracy
from vmonf.start import graph
from vmonf.start.graph import graph_clusters


@pytest.fixture(scope="module")
def moons():
    return make_moons(400, noise=0.06, random_state=0)


@pytest.mark.parametrize("seed", range(5))
def test_circles_are_parts_of_the_graph_and_found_whole(seed):
    X, circle = TwoCircles().sample(256, random_state=seed)
    assert clustering_accuracy(circle, graph_clusters(X, 2, random_state=0)) == 1


def test_moons_are_found_where_kmeans_cuts_them(moons):
    X, moon = moons
    assert clustering_accuracy(moon, graph_clusters(X, 2, random_state=0)) > 0.98
    by_kmeans = KMeans(2, n_init=4, random_state=0).fit_predict(X)
    assert clustering_accuracy(moon, by_kmeans) < 0.9


def test_digits_are_found_better_than_by_kmeans():
    digits = load_digits()
    found = graph_clusters(digits.data, 10, random_state=0)
    by_kmeans = KMeans(10, n_init=4, random_state=0).fit_predict(digits.data)
    accuracy = clustering_accuracy(digits.target, found)
    assert accuracy > clustering_accuracy(digits.target, by_kmeans) + 0.05


def test_labels_spread_as_in_scikit_learn(moons):
    X, moon = moons
    component = np.full(len(X), -1)
    for c in (0, 1):
        component[np.flatnonzero(moon == c)[:3]] = c
    ours = graph_clusters(X, 2, component)
    theirs = LabelSpreading(kernel="knn", n_neighbors=10, alpha=0.99, max_iter=2000)
    with np.errstate(all="ignore"):
        theirs.fit(X, component)
    assert np.mean(ours == theirs.transduction_) > 0.98
    assert np.mean(ours == moon) > 0.98


@pytest.mark.parametrize("n_labels", [1, 2, 6])
def test_known_rows_keep_their_component(n_labels):
    X, circle = TwoCircles().sample(200, random_state=1)
    component = np.full(len(X), -1)
    for c in (0, 1):
        component[np.flatnonzero(circle == c)[:n_labels]] = c
    assert np.mean(graph_clusters(X, 2, component) == circle) == 1
    wrong = component.copy()
    wrong[np.flatnonzero(circle == 0)[-1]] = 1  # its neighbours belong to the other component
    assert graph_clusters(X, 2, wrong)[np.flatnonzero(circle == 0)[-1]] == 1


def test_a_few_classes_name_the_clusters_found():
    X, blob = make_blobs(300, centers=[[-9, 0], [9, 0], [0, 9]], random_state=0)
    component = np.full(len(X), -1)
    component[np.flatnonzero(blob == 1)[:2]] = 2
    component[np.flatnonzero(blob == 2)[:2]] = 0
    found = graph_clusters(X, 3, component, random_state=0)
    np.testing.assert_array_equal(found, np.array([1, 2, 0])[blob])


def test_rows_that_no_label_reaches_stay_open():
    X, blob = make_blobs([50, 50, 30], centers=[[-90, 0], [90, 0], [0, 90]], random_state=0)
    component = np.full(len(X), -1)
    component[np.flatnonzero(blob == 0)[0]] = 0
    component[np.flatnonzero(blob == 1)[0]] = 1
    np.testing.assert_array_equal(graph_clusters(X, 2, component), np.array([0, 1, -1])[blob])


def test_of_many_rows_some_are_drawn_and_all_known_ones(monkeypatch):
    monkeypatch.setattr(graph, "MAX_ROWS", 200)
    X, blob = make_blobs(500, centers=[[-9, 0], [9, 0]], random_state=0)
    component = np.full(len(X), -1)
    component[[3, 400]] = blob[[3, 400]] = 0, 1
    found = graph_clusters(X, 2, component, random_state=0)
    assert np.sum(found >= 0) == 200
    assert found[3] == 0
    assert found[400] == 1


def test_many_features_are_reduced_and_few_rows_do():
    X, blob = make_blobs(120, n_features=80, centers=3, random_state=0)
    assert clustering_accuracy(blob, graph_clusters(X, 3, random_state=0)) == 1
    assert sorted(graph_clusters(np.array([[0.0], [1.0], [9.0]]), 3)) == [0, 1, 2]
    assert set(graph_clusters(X, 1)) == {0}


def test_the_same_seed_gives_the_same_clusters():
    X = load_iris().data
    first, second = (graph_clusters(X, 3, random_state=5) for _ in range(2))
    np.testing.assert_array_equal(first, second)
