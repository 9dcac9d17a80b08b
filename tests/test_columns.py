"""Tests of the shift, scale and faults of columns."""

import warnings

import numpy as np
import pytest

from vmonf.columns import shift_and_scale, warn_of_repeated_values


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
