"""Tests of the number of clusters that is found by agreement."""

import math
from collections import Counter

import joblib
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.datasets import make_blobs, make_moons
from sklearn.metrics import adjusted_rand_score

from vmonf import FlowMixture, PosteriorMLP, Training
from vmonf.metrics import adjusted_rand_index
from vmonf.rows import Rows
from vmonf.start import Number, comparison, number
from vmonf.start.comparison import CANDIDATES, between_parts, found_in_parts
from vmonf.start.number import (
    SCALES,
    _separations,
    deepest_valley,
    number_of_clusters,
    peak_prominences,
    standard_error,
)
from vmonf.start.peaks import log_density
from vmonf.start.sample import sample_of
from vmonf.start.starts import agreement_with_others

QUICK = {
    "max_epochs": 0,
    "max_components": 5,
    "posterior": PosteriorMLP(hidden=(8,)),
    "training": Training(refine_posterior=False),
    "random_state": 0,
}


def rows_of(X, component=None):
    nowhere = np.full(len(X), -1)
    x = (X - X.mean(axis=0)) / X.std(axis=0)
    return Rows(x, np.ones(len(X)), nowhere if component is None else component, nowhere)


@pytest.fixture(scope="module")
def three_blobs():
    centres = [[0, 0], [9, 0], [0, 9]]
    return make_blobs(150, centers=centres, random_state=0)


def test_the_number_of_blobs_and_moons(three_blobs):
    assert number_of_clusters(rows_of(three_blobs[0]), 1, 6, 0)[0].chosen == 3
    moons, _ = make_moons(400, noise=0.06, random_state=0)
    assert number_of_clusters(rows_of(moons), 1, 6, 0)[0].chosen == 2


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("n_features", [1, 2, 5])
@pytest.mark.long
def test_one_cluster(kind, n_features):
    X = getattr(np.random.default_rng(0), kind)(size=(300, n_features))
    found, _ = number_of_clusters(rows_of(X), 1, 6, 0)
    assert (found.chosen, found.reason) == (1, "one cluster")
    assert "K = 1 was chosen" in str(found)


def test_agreement_is_that_of_the_candidates_alone(three_blobs):
    """The work that several K share does not change the clusters."""
    rows = rows_of(three_blobs[0])
    found, _ = number_of_clusters(rows, 1, 4, 0)
    assert found.candidates == (2, 3, 4)
    for i, k in enumerate(found.candidates):
        fresh = found_in_parts(sample_of(rows.x, rows.weight, 0), k, 0)
        table = between_parts(fresh, adjusted_rand_index, rows.weight)
        with_others = agreement_with_others(table, tuple(CANDIDATES))
        assert found.agreement[i] == pytest.approx(with_others.max())


def test_clusters_that_all_methods_find_share_their_entropy(three_blobs):
    found, _ = number_of_clusters(rows_of(three_blobs[0]), 1, 4, 0)
    assert found.information[1] == pytest.approx(math.log(3), abs=0.01)
    assert found.best_candidate == found.chosen == 3
    # Each method divides one of the three blobs, and another one in other rows.
    assert found.information[2] < found.information[1] - 0.3


def test_separation_is_a_ratio_of_prominences_above_noise():
    noise = 2.5 * standard_error(number.NEIGHBOURS)
    found = _separations(np.array([4.0, 2.0, 0.1, 0.0]), range(2, 7))
    np.testing.assert_allclose(found, [math.log(2), math.log(2 / noise), 0, 0, 0])


@pytest.mark.parametrize("scale", SCALES)
def test_the_standard_error_is_that_of_log_densities(scale):
    """The volume that holds k neighbours of uniform rows has this spread."""
    random = np.random.default_rng(0)
    volumes = random.gamma(shape=scale, size=(20_000, 2))
    spread = np.log(volumes[:, 0] / volumes[:, 1]).std()
    assert pytest.approx(spread, rel=0.1) == standard_error(scale)


def test_the_density_of_peaks_is_that_of_the_rows():
    X = np.random.default_rng(0).normal(size=(2000, 2))
    inside = np.linalg.norm(X, axis=1) < 2
    truth = multivariate_normal(np.zeros(2)).logpdf(X[inside])
    # Up to a constant, which depends on the scale.
    deviations = [
        np.std(2 * log_density(sample_of(X, np.ones(2000), 0), scale)[inside] - truth)
        for scale in SCALES
    ]
    assert deviations[0] < 0.3
    assert (np.diff(deviations[:4]) < 0).all()


def test_a_shallow_valley_shows_with_many_neighbours():
    random = np.random.default_rng(0)
    X = random.normal(size=(3000, 2)) + np.where(np.arange(3000) % 2, 1.7, -1.7)[:, None] * [1, 0]
    sample = sample_of(X, np.ones(3000), 0)
    deep = number.VALLEY * math.log(3000)
    valley, error = deepest_valley(sample)
    assert peak_prominences(sample)[0] < deep * standard_error(10)
    assert valley > deep * error
    assert error < standard_error(20)
    # In truth it is the difference of the log densities of a mean and of the middle.
    assert valley == pytest.approx(1.7**2 / 2 - math.log(2), abs=0.3)


def test_a_small_cluster_shows_with_few_neighbours():
    random = np.random.default_rng(0)
    X = np.concatenate([random.normal(size=(990, 2)), random.normal(size=(10, 2)) / 20 + [0, 5]])
    valley, error = deepest_valley(sample_of(X, np.ones(1000), 0))
    assert error == standard_error(10)
    assert valley > number.VALLEY * math.log(1000) * error


@pytest.mark.parametrize("backend", ["threading", "sequential"])
def test_jobs_do_not_change_the_result(three_blobs, backend):
    rows = rows_of(three_blobs[0])
    expected, _ = number_of_clusters(rows, 1, 4, 0)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert number_of_clusters(rows, 1, 4, 0)[0] == expected


def test_bounds(three_blobs):
    rows = rows_of(three_blobs[0])
    assert number_of_clusters(rows, 4, 6, 0)[0].candidates == (4, 5, 6)
    assert number_of_clusters(rows, 1, 2, 0)[0].candidates == (2,)
    assert number_of_clusters(rows, 5, 5, 0)[0] == Number(5, "classes")
    assert number_of_clusters(rows, 1, 1, 0)[0] == Number(1, "given")
    few = rows_of(three_blobs[0][:9])
    assert number_of_clusters(few, 1, 12, 0)[0] == Number(1, "few rows")


@pytest.mark.long
def test_the_search_goes_as_far_as_there_are_peaks():
    centres = 10.0 * np.array([(i, j) for i in range(5) for j in range(3)])
    X, _ = make_blobs(600, centers=centres, random_state=0)
    found, _ = number_of_clusters(rows_of(X), 1, 40, 0)
    assert found.chosen == 15
    assert 15 < found.candidates[-1] < 25


def test_large_tables_are_searched_by_a_sample(three_blobs, monkeypatch):
    monkeypatch.setattr(number, "MAX_ROWS", 90)
    found, sample = number_of_clusters(rows_of(three_blobs[0]), 1, 4, 0)
    assert found.chosen == 3
    assert len(sample.x) == 90


def test_a_fit_finds_the_number_and_computes_its_start_once(three_blobs, monkeypatch):
    X, y = three_blobs
    calls = Counter()

    def counted(sample, n_components, seed):
        calls[n_components] += 1
        return CANDIDATES["peaks"](sample, n_components, seed)

    candidates = {**CANDIDATES, "counted": counted}
    monkeypatch.setattr(comparison, "CANDIDATES", candidates)
    monkeypatch.setattr(number, "CANDIDATES", candidates)
    mixture = FlowMixture("auto", init="auto", **QUICK).fit(X)
    assert mixture.number_.chosen == mixture.n_components_ == 3
    # Once for all rows, and once for each of the two parts of them.
    assert calls == dict.fromkeys(mixture.number_.candidates, 3)
    assert adjusted_rand_score(mixture.predict(X), y) > 0.95
    i = mixture.number_.candidates.index(3)
    assert mixture.start_.with_others == pytest.approx(mixture.number_.agreement[i])


@pytest.mark.long
def test_labels_and_clusters_bound_the_number(three_blobs):
    X, y = three_blobs
    mixture = FlowMixture("auto", init="kmeans", **QUICK)
    five = np.array(["a", "b", "c", "d", "e"])[np.where(y == 2, 2 + np.arange(150) % 3, y)]
    mixture.fit(X, five)
    assert mixture.classes_.tolist() == ["a", "b", "c", "d", "e"]
    assert mixture.number_ == Number(5, "classes")
    mixture.fit(X, np.where(y < 2, y, -1))
    assert mixture.number_.chosen == 3
    assert mixture.classes_.tolist() == [0, 1, 2]
    mixture.fit(X, clusters=np.where(np.arange(150) < 20, y, -1))
    assert mixture.number_ == Number(3, "clusters")
    assert mixture.start_.chosen == "clusters"
    mixture.fit(X, clusters=np.full(150, -1))
    assert mixture.number_.reason == "agreement"
    for wrong in (["a"] * 150, np.full(150, 0.5), [0, 1], np.full(150, np.nan)):
        with pytest.raises(ValueError, match="clusters must give each of 150 rows a cluster"):
            mixture.fit(X, clusters=wrong)


def test_a_number_that_is_given_is_kept():
    X = np.random.default_rng(0).normal(size=(40, 2))
    mixture = FlowMixture(2, init="kmeans", **QUICK).fit(X)
    assert mixture.number_ == Number(2)
    assert str(mixture.number_) == "The number of components was given: 2."


def test_files_keep_the_choice(three_blobs, tmp_path):
    path = tmp_path / "m.vmonf"
    mixture = FlowMixture("auto", **QUICK).fit(three_blobs[0])
    mixture.save(path)
    loaded = FlowMixture.load(path)
    assert loaded.number_ == mixture.number_
    assert loaded.n_components == "auto"


@pytest.mark.parametrize("reason", ["few rows", "classes", "clusters", "given"])
def test_every_reason_is_one_sentence(reason):
    sentence = str(Number(2, reason))
    assert sentence.endswith(".")
    assert sentence.count(".") == 1
