"""Tests of the start that agrees most with others."""

import itertools

import numpy as np
import pytest
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score

from vmonf import FlowMixture, PosteriorMLP, Training
from vmonf.rows import Rows
from vmonf.start import Agreement, agreement, comparison
from vmonf.start.agreement import SPREAD, adjusted_rand_index, agreeing_clusters
from vmonf.start.comparison import CANDIDATES, MOST_CUT
from vmonf.start.sample import sample_of
from vmonf.start.starts import agreement_with_others

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


NUMBERED = np.arange(40.0)[:, None] * [1.0, 0.0]  # rows whose first feature is their number


@pytest.fixture
def candidates(monkeypatch):
    """Replace the candidates by ones that return given clusters of `NUMBERED`, or parts of it."""

    def replace(**clusters):
        def of(cluster):
            def found(sample, n_components, seed):
                return np.array(cluster)[np.round(sample.x[:, 0]).astype(int)]

            return found

        fixed = {name: of(cluster) for name, cluster in clusters.items()}
        monkeypatch.setattr(comparison, "CANDIDATES", fixed)

    return replace


def numbered(component=None):
    nowhere = np.full(40, -1)
    return Rows(NUMBERED, np.ones(40), nowhere if component is None else component, nowhere)


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
    found = agreeing_clusters(numbered(), 2, 0)
    assert found.agreement.chosen == "one"
    assert found.agreement.names == ("odd", "one", "two", "three")
    assert found.agreement.table[1][3] == pytest.approx(1)
    table = np.array(found.agreement.table)
    np.testing.assert_allclose(table, table.T)
    # With the two others that it agrees with most.
    assert found.agreement.with_others == pytest.approx((table[1, 2] + table[1, 3]) / 2)
    np.testing.assert_array_equal(found.cluster, right)


def test_the_table_compares_different_parts_of_the_rows():
    rows = rows_of(make_moons(80, noise=0.06, random_state=0)[0])
    sample = sample_of(rows.x, rows.weight, 0)
    found = comparison.found_in_parts(sample, 3, 0)
    assert [len(each.index) for each in found] == [80, 56, 56]
    table = comparison.between_parts(found, adjusted_rand_index, rows.weight)
    expected = np.zeros((5, 5))
    for i, j in itertools.product(range(5), repeat=2):
        pairs = []
        for one, other in itertools.permutations(found, 2):
            common = [row for row in one.index if row in other.index]
            first = dict(zip(one.index, one.clusters[i], strict=True))
            second = dict(zip(other.index, other.clusters[j], strict=True))
            pairs.append(
                adjusted_rand_score([first[r] for r in common], [second[r] for r in common])
            )
        expected[i, j] = np.mean(pairs)
    np.testing.assert_allclose(table, expected)


def test_where_no_two_kinds_agree_the_most_stable_is_taken():
    random = np.random.default_rng(0)
    sizes = np.repeat([0, 1, 2], [1940, 40, 20])
    X = np.array([[0, 0], [6, 0], [0, 6]])[sizes] + random.normal(size=(2000, 2))
    with pytest.warns(UserWarning, match="find different clusters"):
        found = agreeing_clusters(rows_of(X), 3, 0)
    table = np.array(found.agreement.table)
    others = agreement_with_others(table, found.agreement.names)
    assert others.max() < agreement.UNRELATED
    assert found.agreement.chosen == found.agreement.names[np.diag(table).argmax()]
    assert adjusted_rand_score(sizes, found.cluster) > 0.98


def test_gaussian_mixtures_are_one_kind():
    names = ("gaussian", "merged", "graph", "peaks")
    table = np.array(
        [[1.0, 1.0, 0.2, 0.1], [1.0, 1.0, 0.4, 0.3], [0.2, 0.4, 1.0, 0.9], [0.1, 0.3, 0.9, 1.0]]
    )
    expected = [0.15, 0.35, (0.3 + 0.9) / 2, (0.2 + 0.9) / 2]
    np.testing.assert_allclose(agreement_with_others(table, names), expected)
    assert np.isnan(agreement_with_others(table[:2, :2], names[:2])).all()


def test_a_majority_that_contradicts_the_labels_is_not_taken(candidates):
    right, wrong = np.repeat([0, 1], 20), np.tile([0, 1], 20)
    candidates(one=wrong, two=wrong, three=wrong, four=right)
    rows = numbered(some_labels(right, 3))
    assert agreeing_clusters(rows, 2, 0).agreement.chosen == "four"


def test_labels_win_on_their_rows(candidates):
    right = np.repeat([0, 1], 20)
    candidates(one=right, two=right)
    component = some_labels(right, 5)
    component[0] = 1
    found = agreeing_clusters(numbered(component), 2, 0)
    np.testing.assert_array_equal(found.cluster, np.append(1, right[1:]))


@pytest.mark.long
def test_labels_do_no_harm_and_spread_if_there_are_many():
    X, y = make_blobs([240, 45, 15], centers=[[0, 0], [5, 0], [0, 5]], random_state=0)
    without = adjusted_rand_score(y, agreeing_clusters(rows_of(X), 3, 0).cluster)
    for n_labels in (1, 2, 12):
        found = agreeing_clusters(rows_of(X, some_labels(y, n_labels)), 3, 0)
        assert adjusted_rand_score(y, found.cluster) >= without - 0.02
        assert (SPREAD in found.agreement.names) == (n_labels == 12)


def test_one_cluster_is_no_agreement():
    X = np.random.default_rng(0).normal(size=(300, 2))
    found = agreeing_clusters(rows_of(X), 1, 0)
    assert str(found.agreement) == "The start was 'one cluster'."
    assert (found.cluster == 0).all()


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


def test_restarts_begin_with_the_starts_that_agree_next(monkeypatch):
    from vmonf import fitting

    X, _ = make_moons(200, noise=0.06, random_state=0)
    begun, whole = [], fitting.fit_once

    def watched(prepared, *others):
        fit = whole(prepared, *others)
        begun.append((fit.start.chosen, float(fit.log_prob.mean())))
        return fit

    monkeypatch.setattr(fitting, "fit_once", watched)
    mixture = FlowMixture(2, init="auto", n_init=6, max_epochs=0, random_state=0).fit(X)
    names = [name for name, _ in begun]
    assert set(names[:5]) == set(CANDIDATES)
    assert names[5] == names[0]
    assert mixture.start_.chosen == max(begun, key=lambda each: each[1])[0]


def test_the_graph_is_not_cut_into_very_many_clusters():
    X, y = make_blobs(1500, centers=MOST_CUT + 2, center_box=(-100, 100), random_state=0)
    found = agreeing_clusters(rows_of(X), MOST_CUT + 2, 0)
    assert "graph" not in found.agreement.names
    assert adjusted_rand_score(y, found.cluster) > 0.8
