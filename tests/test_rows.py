"""Tests of distinct rows and batches of rows."""

import numpy as np
import pytest
import torch

from vmonf.rows import distinct_rows, unlabelled_rows


def distinct(X, weight, component):
    return distinct_rows(X, weight, component, np.arange(len(X)))


def test_equal_rows_merge_and_weightless_rows_go():
    X = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0], [-0.0, 1.0], [0.0, 1.0]])
    rows = distinct(X, np.array([1.0, 1, 2, 0, 1, 1]), np.full(6, -1))
    found = {tuple(row): weight for row, weight in zip(rows.x, rows.weight, strict=True)}
    total = np.array([3.0, 1.0, 2.0])
    expected = total / total.mean()
    assert found == pytest.approx(dict(zip([(1, 2), (3, 4), (0, 1)], expected, strict=True)))


def test_equal_rows_of_other_labels_stay_apart():
    X = np.ones((4, 1))
    rows = distinct(X, np.ones(4), np.array([-1, 0, 1, 1]))
    assert sorted(rows.component) == [-1, 0, 1]


def test_the_order_of_the_table_does_not_matter():
    random = np.random.default_rng(0)
    X = random.integers(0, 4, (500, 3)).astype(float)
    weight = random.integers(1, 5, 500).astype(float)
    order = random.permutation(500)
    one = distinct(X, weight, np.full(500, -1))
    two = distinct(X[order], weight[order], np.full(500, -1))
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.weight, two.weight)
    assert len(one.x) == len(np.unique(X, axis=0))


def test_rounding_and_units_do_not_change_the_order():
    random = np.random.default_rng(0)
    X = random.normal(size=(1000, 3)) * [1.0, 1e-3, 1e5] + [0.0, 1.0, 0.0]
    weight = random.random(1000)
    rows = distinct(X, weight, np.full(1000, -1))
    for other in (X * (1 + 1e-12 * random.normal(size=X.shape)), X * 0.3, X * 1e150 - 1e140):
        again = distinct(other, weight, np.full(1000, -1))
        np.testing.assert_array_equal(again.cluster, rows.cluster)  # the places in the table
        np.testing.assert_array_equal(again.weight, rows.weight)


def test_the_first_rows_are_a_random_sample():
    X = np.random.default_rng(0).normal(size=(4000, 2))
    first = distinct(X, np.ones(4000), np.full(4000, -1)).x[:400]
    # The error of the mean and the deviation of 400 rows is 0.05 and 0.035.
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=0.2)
    np.testing.assert_allclose(first.std(axis=0), 1, atol=0.15)


def test_distinct_rows_in_one_place_stay_apart_in_a_fixed_order():
    X = np.array([[1.0], [1.0 + 2**-52], [1.7e308], [1.0], [-1.7e308]])
    one = distinct(X, np.ones(5), np.full(5, -1))
    two = distinct(X[::-1], np.ones(5), np.full(5, -1))
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.weight, two.weight)
    assert one.n_rows == 4


def test_a_merged_row_has_the_cluster_of_the_first():
    X = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0]])
    rows = distinct(X, np.array([1.0, 1, 2, 0]), np.full(4, -1))
    np.testing.assert_array_equal(X[rows.cluster], rows.x)
    assert sorted(rows.cluster) == [0, 1]


def test_every_row_is_in_one_batch_and_batches_are_of_like_size():
    rows = unlabelled_rows(torch.arange(333.0, dtype=torch.float64)[:, None])
    generator = torch.Generator().manual_seed(0)
    batches = list(rows.batches(100, generator))
    assert [batch.n_rows for batch in batches] == [111, 111, 111]
    assert len(batches) == rows.n_batches(100)
    seen = torch.cat([batch.x for batch in batches]).flatten()
    assert sorted(seen.tolist()) == list(range(333))
    assert seen.tolist() != sorted(seen.tolist())
    assert [batch.n_rows for batch in rows.take(torch.arange(7)).batches(100, generator)] == [7]
