"""Tests of the start that agrees most with others."""

import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score

from vmonf import FlowMixture, PosteriorMLP, Training
from vmonf.rows import Rows
from vmonf.start import Agreement, agreement
from vmonf.start.agreement import CANDIDATES, SPREAD, adjusted_rand_index, agreeing_clusters

QUICK = {
    "max_epochs": 0,
    "posterior": PosteriorMLP(hidden=(8,)),
    "training": Training(refine_posterior=False),
    "random_state": 0,
}


def rows_of(X, component=None):
    nowhere = np.full(len(X), -1)
    x = (X - X.mean(axis=0)) / X.std(axis=0)
    return Rows(x, np.ones(len(X)), nowhere if component is None else component, nowhere)


def some_labels(y, n_labels):
    component = np.full(len(y), -1)
    for c in np.unique(y):
        component[np.flatnonzero(y == c)[:n_labels]] = c
    return component


@pytest.fixture
def candidates(monkeypatch):
    """Replace the candidates by ones that return given clusters."""

    def replace(**clusters):
        fixed = {
            name: lambda sample, n_components, seed, cluster=cluster: np.array(cluster)
            for name, cluster in clusters.items()
        }
        monkeypatch.setattr(agreement, "CANDIDATES", fixed)

    return replace


def test_the_index_is_scikit_learns():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 3, 100), random.integers(0, 4, 100)
    mixed = np.where(random.random(100) < 0.7, first, second)
    for other in (second, mixed, first, np.zeros(100, dtype=int), np.arange(100)):
        expected = adjusted_rand_score(first, other)
        assert adjusted_rand_index(first, other, np.ones(100)) == pytest.approx(expected)


def test_rows_of_no_weight_do_not_count():
    first, second = np.array([0, 0, 1, 1, 0, 1]), np.array([1, 1, 0, 0, 0, 1])
    weight = np.array([1.0, 1, 2, 2, 0, 0])
    assert adjusted_rand_index(first, second, weight) == pytest.approx(1)


def test_the_majority_is_taken(candidates):
    right = np.repeat([0, 1], 20)
    candidates(odd=np.tile([0, 1], 20), one=right, two=np.append(right[:-1], 0), three=1 - right)
    found = agreeing_clusters(rows_of(np.random.default_rng(0).normal(size=(40, 2))), 2, 0)
    assert found.agreement.chosen == "one"
    assert found.agreement.names == ("odd", "one", "two", "three")
    assert found.agreement.table[1][3] == pytest.approx(1)
    table = np.array(found.agreement.table)
    np.testing.assert_allclose(table, table.T)
    assert found.agreement.with_others == pytest.approx((table[1].sum() - 1) / 3)
    np.testing.assert_array_equal(found.cluster, right)


def test_a_majority_that_contradicts_the_labels_is_not_taken(candidates):
    right, wrong = np.repeat([0, 1], 20), np.tile([0, 1], 20)
    candidates(one=wrong, two=wrong, three=wrong, four=right)
    rows = rows_of(np.random.default_rng(0).normal(size=(40, 2)), some_labels(right, 3))
    assert agreeing_clusters(rows, 2, 0).agreement.chosen == "four"


def test_labels_win_on_their_rows(candidates):
    right = np.repeat([0, 1], 20)
    candidates(one=right, two=right)
    component = some_labels(right, 5)
    component[0] = 1
    found = agreeing_clusters(
        rows_of(np.random.default_rng(0).normal(size=(40, 2)), component), 2, 0
    )
    np.testing.assert_array_equal(found.cluster, np.append(1, right[1:]))


def test_labels_do_no_harm_and_spread_if_there_are_many():
    X, y = make_blobs([240, 45, 15], centers=[[0, 0], [5, 0], [0, 5]], random_state=0)
    without = adjusted_rand_score(y, agreeing_clusters(rows_of(X), 3, 0).cluster)
    for n_labels in (1, 2, 12):
        found = agreeing_clusters(rows_of(X, some_labels(y, n_labels)), 3, 0)
        assert adjusted_rand_score(y, found.cluster) >= without - 0.02
        assert (SPREAD in found.agreement.names) == (n_labels == 12)


def test_a_guess_is_told():
    X = np.random.default_rng(0).normal(size=(300, 10))
    with pytest.warns(UserWarning, match="the initial clusters are a guess"):
        agreeing_clusters(rows_of(X), 3, 0)


def test_the_choice_is_an_attribute_and_in_the_file(tmp_path):
    X, _ = make_moons(200, noise=0.06, random_state=0)
    mixture = FlowMixture(2, init="auto", **QUICK).fit(X)
    assert mixture.start_.names == tuple(CANDIDATES)
    assert mixture.start_.chosen in CANDIDATES
    assert f"The start {mixture.start_.chosen!r} was chosen from 5" in str(mixture.start_)
    mixture.save(tmp_path / "model.vmonf")
    assert FlowMixture.load(tmp_path / "model.vmonf").start_ == mixture.start_


def test_a_named_start_has_only_its_name():
    X, y = make_blobs(40, centers=2, random_state=0)

    def fitted(init="kmeans", **given):
        return FlowMixture(2, init=init, **QUICK).fit(X, **given).start_

    assert fitted() == Agreement("kmeans")
    assert fitted(init="graph") == Agreement("graph")
    assert fitted(init=X[:2]) == Agreement("centres")
    assert fitted(init="auto", clusters=y) == Agreement("clusters")
    assert str(fitted()) == "The start was 'kmeans'."
    assert np.isnan(fitted().with_others)
