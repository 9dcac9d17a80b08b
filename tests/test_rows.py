"""Tests of distinct rows and batches of rows."""

import dataclasses

import numpy as np
import pytest
import torch

from vmonf.rows import Draws, distinct_rows, folds_of, repetitions, unlabelled_rows


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


def test_the_cluster_of_a_merged_row_does_not_depend_on_the_order():
    X = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [1.0, 2.0], [5.0, 6.0]])
    cluster, nowhere = np.array([-1, 3, 2, 1, 0]), np.full(5, -1)
    for order in (np.arange(5), np.arange(5)[::-1], [2, 0, 4, 3, 1]):
        rows = distinct_rows(X[order], np.ones(5), nowhere, cluster[order])
        assert dict(zip(rows.x[:, 0], rows.cluster, strict=True)) == {1.0: 2, 3.0: 3, 5.0: 0}


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


def test_folds_hold_out_each_row_once_and_divide_those_that_are_repeated():
    X = np.repeat(np.arange(40.0), np.r_[np.full(30, 1), np.full(10, 7)])[:, None]
    rows = distinct(X, np.ones(len(X)), np.full(len(X), -1))
    is_repeated = rows.x[:, 0] >= 30
    total, n_folds_of = np.zeros(40), np.zeros(40, dtype=int)
    for train, test in folds_of(rows, 5):
        held_out = np.zeros(40)
        for part, sign in ((train, 0), (test, 1)):
            place = np.searchsorted(np.arange(40.0), part.x[:, 0])
            assert (part.weight > 0).all()
            held_out[place] += sign * part.weight
        by_value = np.zeros(40)
        by_value[rows.x[:, 0].astype(int)] = rows.weight
        trained = np.zeros(40)
        trained[train.x[:, 0].astype(int)] = train.weight
        np.testing.assert_allclose(trained + held_out, by_value)
        total += held_out
        n_folds_of += held_out > 0
    np.testing.assert_allclose(total, by_value)
    assert (n_folds_of[:30] == 1).all()
    assert (n_folds_of[30:] == 5).all()
    assert is_repeated.sum() == 10


def test_whole_numbers_count_repetitions():
    once = np.ones(4, dtype=int)
    for weight in ([1.0, 3, 1, 12], [2.0, 3, 2, 12]):
        np.testing.assert_array_equal(repetitions(np.array(weight), once), weight)
    np.testing.assert_array_equal(repetitions(np.array([2.0, 4, 2, 6]), once), [1, 2, 1, 3])
    # No row occurs a thousand times as often as another: these are weights of another kind.
    np.testing.assert_array_equal(repetitions(np.array([1520.0, 873, 911, 1000]), once), once)
    np.testing.assert_array_equal(repetitions(np.array([1e300, 3e300, 1e300, 1]), once), once)


@pytest.mark.parametrize(
    "weight",
    [
        np.array([0.25, 0.75, 0.5, 1.0]),
        np.array([0.13, 2.07, 0.01, 1.3]),
        np.array([1.0, 2.0, 1.0, 1e-12]),
        np.full(4, 0.25),
    ],
)
def test_other_weights_do_not_but_equal_rows_are_counted(weight):
    np.testing.assert_array_equal(repetitions(weight, np.array([1, 3, 1, 2])), [1, 3, 1, 2])
    np.testing.assert_array_equal(repetitions(weight, np.array([2, 4, 2, 2])), [1, 2, 1, 1])


def test_a_row_of_weight_two_is_two_rows():
    X = np.arange(30.0)[:, None]
    counts = np.random.default_rng(0).integers(1, 6, 30)
    one = distinct_rows(X, counts.astype(float), np.full(30, -1), np.full(30, -1))
    repeated = X.repeat(counts, axis=0)
    nowhere = np.full(len(repeated), -1)
    two = distinct_rows(repeated, np.ones(len(repeated)), nowhere, nowhere)
    for field in ("x", "weight", "repetitions"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    np.testing.assert_array_equal(one.repetitions, counts[one.x[:, 0].astype(int)])


def test_rows_and_their_draws_go_to_another_device():
    rows = unlabelled_rows(torch.arange(6.0).reshape(3, 2))
    draws = Draws(torch.zeros(3, 4, 2), torch.zeros(3, 4), torch.tensor([True, False, True]))
    rows = dataclasses.replace(rows, spacing=torch.ones(3), draws=draws)
    moved = rows.to(torch.device("meta"))
    for field in ("x", "weight", "component", "cluster", "spacing"):
        assert getattr(moved, field).device.type == "meta"
    assert moved.draws.x.device.type == moved.draws.is_drawn.device.type == "meta"
