"""Tests of the shift, scale and faults of columns."""

import warnings

import numpy as np
import pytest

from vmonf import FlowMixture
from vmonf.columns import (
    refuse_dependent_columns,
    refuse_fill_values,
    shift_and_scale,
    warn_of_repeated_values,
)


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


@pytest.mark.parametrize("share", [0.11, 0.5, 0.9])
def test_columns_of_one_repeated_value_are_warned_of(share):
    random = np.random.default_rng(0)
    n = round(200 * share)
    spike = np.append(random.normal(size=200 - n), np.full(n, 1.0))
    X = np.column_stack([random.normal(size=200), random.permutation(spike), random.random(200)])
    with pytest.warns(UserWarning, match=rf"values repeat: b \(1 in {share:.0%}\) of the distinct"):
        warn_of_repeated_values(X, ["a", "b", "c"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_repeated_values(X[:, [0, 2]], ["a", "c"])
        spike[18:] = random.normal(size=182)
        spike[:18] = 1.0
        warn_of_repeated_values(spike[:, None], ["b"])  # 9%


@pytest.mark.parametrize("fill", [-9999.0, 9999.0, -3.4028235e38, 1e300, -1.7976931348623157e308])
@pytest.mark.parametrize("n", [2, 40, 600])
def test_fill_values_are_refused(fill, n):
    X = np.random.default_rng(0).normal(size=(1000, 3))
    X[:n, 1] = fill
    end = "smallest" if fill < 0 else "largest"
    message = (
        rf"{end} value stands for missing .*: b \({fill:g} in {n} of the 1000 distinct rows\);"
    )
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        refuse_fill_values(X, ["a", "b", "c"])


@pytest.mark.parametrize(
    "column",
    [
        np.random.default_rng(0).standard_cauchy(1000),
        np.append(np.random.default_rng(0).normal(size=999), 1e6),  # one outlier
        np.arange(1000) % 2,
        np.append(np.zeros(900), np.random.default_rng(0).lognormal(10, 2, 100)),
        np.random.default_rng(0).poisson(3, 1000),
    ],
)
def test_what_is_no_fill_value(column):
    refuse_fill_values(np.asarray(column, dtype=float)[:, None], ["a"])


def dependent(kind, n=500):
    random = np.random.default_rng(0)
    X = random.normal(size=(n, 4))
    if kind == "shares":
        X = random.dirichlet([1, 2, 3, 4], size=n)
    elif kind == "shares in float32":
        X = random.dirichlet([1, 2, 3, 4], size=n).astype(np.float32)
        X = (X / X.sum(axis=1, keepdims=True)).astype(np.float64)
    elif kind == "duplicate":
        X[:, 2] = X[:, 0]
    elif kind == "other units":
        X[:, 2] = 32 + 1.8 * X[:, 0]
    elif kind == "sum":
        X[:, 3] = X[:, 0] + X[:, 1] - 2 * X[:, 2]
    return X


def standardised(X):
    shift, scale = shift_and_scale(X, np.ones(len(X)), list("abcd"))
    return (X - shift) / scale


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("shares", r"[abcd] on column [abcd], column [abcd], column [abcd]\."),
        ("shares in float32", r"[abcd] on column [abcd], column [abcd], column [abcd]\."),
        ("duplicate", r"(a on column c|c on column a)\."),
        ("other units", r"(a on column c|c on column a)\."),
        ("sum", r"[abcd] on column [abcd], column [abcd], column [abcd]\."),
    ],
)
def test_columns_that_depend_on_others_are_refused(kind, names):
    X = dependent(kind)
    assert np.linalg.matrix_rank(np.corrcoef(X.T), tol=1e-6) == 3
    with pytest.raises(ValueError, match=f"depend exactly on others: column {names} Leave out"):
        refuse_dependent_columns(standardised(X), [f"column {name}" for name in "abcd"])


def test_columns_that_do_not_quite_depend_on_others_are_taken():
    random = np.random.default_rng(0)
    names = list("abcd")
    refuse_dependent_columns(standardised(dependent("none")), names)
    X = dependent("sum")
    X[:, 3] += 1e-5 * random.normal(size=len(X))
    refuse_dependent_columns(standardised(X), names)
    refuse_dependent_columns(standardised(np.round(dependent("shares"), 3)), names)
    # With few rows, any columns depend on one another.
    wide = random.normal(size=(6, 5))
    refuse_dependent_columns(wide, list("abcde"))
    wide = random.normal(size=(302, 300))
    refuse_dependent_columns(wide, [str(i) for i in range(300)])


def test_a_fit_names_such_columns():
    X = dependent("sum")
    with pytest.raises(ValueError, match=r"depend exactly on others: column [0-3] on column"):
        FlowMixture(2).fit(X)
    X = dependent("none")
    X[:10, 2] = -9999
    for K in (2, "auto"):
        with pytest.raises(ValueError, match=r"column 2 \(-9999 in 10 of the 500 distinct rows\)"):
            FlowMixture(K).fit(X)
