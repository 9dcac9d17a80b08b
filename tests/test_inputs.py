"""Labels, distinct rows and scales."""

import warnings

import numpy as np
import pytest

from vmonf.inputs import (
    DistinctRows,
    encode_labels,
    shift_and_scale,
    warn_of_repeated_values,
)


@pytest.mark.parametrize(
    ("y", "n_components", "classes", "component"),
    [
        ([3, 1, -1, 3], 2, [1, 3], [1, 0, -1, 1]),
        ([3, 1, -1, 3], 4, [1, 3, 4, 5], [1, 0, -1, 1]),
        ([-1, -1], 2, [0, 1], [-1, -1]),
        ([2.0, np.nan, -1.0], 1, [2], [0, -1, -1]),
        (["b", "a", "", "-1"], 2, ["a", "b"], [1, 0, -1, -1]),
        (np.array(["b", None, "a", -1, np.nan], dtype=object), 2, ["a", "b"], [1, -1, 0, -1, -1]),
        (["new_0", "x"], 3, ["new_0", "x", "new_1"], [0, 1]),
        ([True, False], 2, [0, 1], [1, 0]),
    ],
)
def test_labels_become_components(y, n_components, classes, component):
    found, codes = encode_labels(np.asarray(y), n_components)
    assert found.tolist() == classes
    assert codes.tolist() == component


@pytest.mark.parametrize("y", [[0.5, 1.0], np.array([1, "a"], dtype=object)])
def test_what_is_no_label_is_refused(y):
    with pytest.raises(ValueError, match="Unknown label type"):
        encode_labels(np.asarray(y), 3)


def test_equal_rows_merge_and_weightless_rows_go():
    X = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0], [-0.0, 1.0], [0.0, 1.0]])
    rows = DistinctRows.of(X, np.array([1.0, 1, 2, 0, 1, 1]), np.full(6, -1))
    found = {tuple(row): weight for row, weight in zip(rows.X, rows.weight, strict=True)}
    total = np.array([3.0, 1.0, 2.0])
    expected = total / total.mean()
    assert found == pytest.approx(dict(zip([(1, 2), (3, 4), (0, 1)], expected, strict=True)))
    np.testing.assert_array_equal(X[rows.first] + 0.0, rows.X)


def test_equal_rows_of_other_labels_stay_apart():
    X = np.ones((4, 1))
    rows = DistinctRows.of(X, np.ones(4), np.array([-1, 0, 1, 1]))
    assert sorted(rows.component) == [-1, 0, 1]


def test_the_order_of_the_table_does_not_matter():
    random = np.random.default_rng(0)
    X = random.integers(0, 4, (500, 3)).astype(float)
    weight = random.integers(1, 5, 500).astype(float)
    order = random.permutation(500)
    one = DistinctRows.of(X, weight, np.full(500, -1))
    two = DistinctRows.of(X[order], weight[order], np.full(500, -1))
    np.testing.assert_array_equal(one.X, two.X)
    np.testing.assert_array_equal(one.weight, two.weight)
    assert len(one.X) == len(np.unique(X, axis=0))


@pytest.mark.parametrize(
    ("offset", "scale"), [(0, 1), (1e12, 1), (0, 1e-12), (0, 1e150), (0, 1e-150)]
)
def test_scales_of_a_normal_column_are_its_weighted_mean_and_deviation(offset, scale):
    random = np.random.default_rng(0)
    Z, weight = random.normal(size=(200, 2)), random.random(200)
    shift, found = shift_and_scale(offset + scale * Z, weight, ["a", "b"])
    mean = np.average(Z, axis=0, weights=weight)
    deviation = np.sqrt(np.average((Z - mean) ** 2, axis=0, weights=weight))
    np.testing.assert_allclose((shift - offset) / scale, mean, atol=1e-3)
    np.testing.assert_allclose(found / scale, deviation, rtol=1e-3)


def test_a_far_row_does_not_stretch_the_scale():
    column = np.append(np.random.default_rng(0).normal(size=500), 1e5)
    _, scale = shift_and_scale(column[:, None], np.ones(501), ["a"])
    assert 1 < scale[0] < 12
    sparse = np.append(np.zeros(500), np.arange(1, 6))
    _, scale = shift_and_scale(sparse[:, None], np.ones(505), ["a"])
    assert scale[0] == pytest.approx(sparse.std())


def test_constant_columns_are_named():
    X = np.column_stack([np.arange(5.0), np.full(5, 2.0), np.full(5, 3.0)])
    with pytest.raises(ValueError, match=r"constant column: b, c are constant over the 5"):
        shift_and_scale(X, np.ones(5), ["a", "b", "c"])


def test_columns_of_one_repeated_value_are_warned_of():
    random = np.random.default_rng(0)
    X = np.column_stack([random.normal(size=100), np.arange(100) > 30, random.random(100)])
    with pytest.warns(UserWarning, match=r"values repeat: b \(1 in 69% of the distinct rows\);"):
        warn_of_repeated_values(X, ["a", "b", "c"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_repeated_values(X[:, [0, 2]], ["a", "c"])
