import itertools

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, mutual_info_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from vmonf.metrics import (
    best_map,
    clustering_accuracy,
    clustering_scores,
    contingency_table,
    information,
    match,
)


@pytest.fixture(params=[(3, 3), (2, 4), (4, 2)], ids=str)
def two_columns(request):
    random = np.random.default_rng(0)
    n_labels, n_clusters = request.param
    return random.integers(n_labels, size=60), random.integers(n_clusters, size=60)


def test_contingency_equals_scikit_learns(two_columns):
    table = contingency_table(*two_columns)
    np.testing.assert_array_equal(table.counts, contingency_matrix(*two_columns))
    np.testing.assert_array_equal(table.labels, np.unique(two_columns[0]))
    np.testing.assert_array_equal(table.clusters, np.unique(two_columns[1]))


def test_accuracy_equals_search_of_all_maps(two_columns):
    labels, clusters = two_columns
    size = max(labels.max(), clusters.max()) + 1
    best = max(
        np.mean(np.array(permutation)[clusters] == labels)
        for permutation in itertools.permutations(range(size))
    )
    assert clustering_accuracy(labels, clusters) == pytest.approx(best)


def test_best_map_reaches_the_accuracy(two_columns):
    labels, clusters = two_columns
    mapping = best_map(labels, clusters)
    assert len(set(mapping.values())) == len(mapping)
    agreement = np.mean(
        [mapping.get(c) == label for label, c in zip(labels, clusters, strict=True)]
    )
    assert agreement == pytest.approx(clustering_accuracy(labels, clusters))


@pytest.mark.parametrize("shape", [(3, 3), (2, 4), (4, 2)], ids=str)
def test_match_equals_search_of_all_pairs(shape):
    counts = np.random.default_rng(1).integers(20, size=shape)
    square = np.zeros((max(shape), max(shape)), dtype=int)
    square[: shape[0], : shape[1]] = counts
    best = max(
        square[range(max(shape)), permutation].sum()
        for permutation in itertools.permutations(range(max(shape)))
    )
    rows, columns = match(counts)
    assert len(set(rows)) == len(set(columns)) == min(shape)
    assert counts[rows, columns].sum() == best


def test_names_do_not_matter():
    labels = np.array(["x", "x", "y", "z"], dtype=object)
    clusters = ["2", "2", "0", "1"]
    assert clustering_scores(labels, clusters) == {"accuracy": 1.0, "nmi": 1.0, "ari": 1.0}
    assert best_map(labels, clusters) == {"0": "y", "1": "z", "2": "x"}


def test_scores_equal_scikit_learns(two_columns):
    scores = clustering_scores(*two_columns)
    assert scores["nmi"] == pytest.approx(normalized_mutual_info_score(*two_columns))
    assert scores["ari"] == pytest.approx(adjusted_rand_score(*two_columns))


def test_unequal_lengths_and_no_rows_are_refused():
    with pytest.raises(ValueError, match="inconsistent"):
        contingency_table([0, 1], [0])
    with pytest.raises(ValueError, match="no rows to compare"):
        contingency_table([], [])


def test_information_is_that_of_scikit_learn_and_zero_for_equal_clusterings():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 3, 200), random.integers(0, 4, 200)
    second = np.where(random.random(200) < 0.6, first, second)
    weight = np.ones(200)
    mutual, variation = information(first, second, weight)
    assert mutual == pytest.approx(mutual_info_score(first, second))
    of_first, of_second = (mutual_info_score(each, each) for each in (first, second))
    assert variation == pytest.approx(of_first + of_second - 2 * mutual)
    assert information(first, 2 - first, weight)[1] == pytest.approx(0, abs=1e-12)
    doubled = information(np.tile(first, 2), np.tile(second, 2), np.ones(400))
    assert information(first, second, 2 * weight) == pytest.approx(doubled)
