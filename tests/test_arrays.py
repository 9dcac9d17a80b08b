"""Tests of what a user may give as rows: tensors are taken, faults are named with their place."""

import datetime

import numpy as np
import pandas
import polars
import pytest
import scipy.sparse
import torch

from vmonf import FlowMixture, PosteriorMLP, RealNVP

QUICK = {
    "flow": RealNVP(n_layers=2, hidden=(4,)),
    "posterior": PosteriorMLP((4,)),
    "init": "kmeans",
    "max_epochs": 0,
    "random_state": 0,
}
X = np.random.default_rng(0).normal(size=(60, 2)) + np.arange(60)[:, None] % 2 * 4


@pytest.fixture(scope="module")
def fitted():
    return FlowMixture(2, **QUICK).fit(X)


def changed(*places, value=np.nan):
    rows = X.copy()
    for place in places:
        rows[place] = value
    return rows


FRAME = pandas.DataFrame(X, columns=["a", "b"])
DAYS = np.datetime64("2024-01-01") + np.arange(60).astype("timedelta64[D]")

REFUSED = {
    "NaN": (
        changed((3, 1), (5, 0), (7, 1)),
        "X contains NaN in row 3, column 1, one of 3 values that are NaN or infinity (column 1: 2, "
        "column 0: 1): fill them, or leave out their rows or columns; or fit with "
        "missing='marginal'.",
    ),
    "infinity": (changed((0, 0), value=-np.inf), "X contains infinity in row 0, column 0, one of"),
    "NaN in a named column": (
        pandas.DataFrame(changed((3, 1)), columns=["a", "b"]),
        "in row 3, column 'b', one of 1",
    ),
    "null": (polars.DataFrame({"a": [1.0, None], "b": [2.0, 3.0]}), "in row 1, column 'a', one of"),
    "NA": (
        pandas.DataFrame({"a": pandas.array([1, None, 3], dtype="Int64"), "b": [1.0, 2, 4]}),
        "in row 1, column 'a'",
    ),
    "NaN in a list": ([[1.0, 2.0], [np.nan, 3.0]], "in row 1, column 0"),
    "None in a list": ([[1.0, 2.0], [None, 3.0]], "in row 1, column 0"),
    "NaN in a tensor": (torch.tensor([[1.0, 2.0], [3.0, float("nan")]]), "in row 1, column 1"),
    "masked": (
        np.ma.masked_array(X, mask=np.arange(120).reshape(60, 2) > 117),
        "X[59, 0] is masked, one of 2 such values: fill them, or leave out their rows.",
    ),
    "dates": (DAYS[:, None], "X holds dates or durations: convert them to numbers"),
    "durations": ((DAYS - DAYS[0])[:, None], "X holds dates or durations"),
    "dates in a list": ([[datetime.date(2024, 1, 1)]] * 3, "X holds dates or durations"),
    "dates of pandas": (FRAME.assign(b=DAYS), "Column 'b' of X holds dates or durations (its type"),
    "durations of pandas": (FRAME.assign(b=DAYS - DAYS[0]), "Column 'b' of X holds dates or dur"),
    "dates of polars": (polars.DataFrame({"a": X[:, 0], "b": DAYS}), "Column 'b' of X holds dates"),
    "text of pandas": (FRAME.assign(b="x").astype({"b": "category"}), "Column 'b' of X holds no"),
    "text of polars": (polars.DataFrame({"a": ["x", "y"]}), "Column 'a' of X holds no numbers"),
    "sparse matrix": (scipy.sparse.csr_matrix(X), "X is a sparse matrix, and densities need every"),
    "sparse array": (scipy.sparse.coo_array(X), "X.toarray(), if it fits in memory"),
    "sparse tensor": (torch.from_numpy(X).to_sparse(), "X is a sparse tensor: give a dense one"),
    "complex tensor": (torch.from_numpy(X).to(torch.complex64), "Complex data not supported"),
    "one axis": (X[:, 0], "Expected 2D array, got 1D array"),
    "no rows": (X[:0], "0 sample"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rows_is_refused_with_its_place(fitted, name):
    rows, message = REFUSED[name]
    with pytest.raises((ValueError, TypeError)) as caught:  # the message is held below
        FlowMixture(2, **QUICK).fit(rows)
    assert message in str(caught.value)
    if name not in ("dates", "durations", "dates in a list", "no rows") and "polars" not in name:
        named = fitted if not hasattr(rows, "columns") else None
        if named is not None:
            with pytest.raises((ValueError, TypeError)) as caught:
                named.score_samples(rows)
            assert message in str(caught.value)


def tensors():
    double = torch.from_numpy(X)
    yield "double", double
    yield "gradient", double.clone().requires_grad_()
    yield "float", double.float()
    yield "bfloat16", double.bfloat16()
    yield "whole", (10 * double).long()
    yield "transposed", double.mT.contiguous().mT
    yield "negated", torch._neg_view(-double)


@pytest.mark.parametrize(("name", "rows"), list(tensors()), ids=lambda value: str(value)[:9])
def test_tensors_are_taken(name, rows):
    values = rows.detach().double().numpy(force=True)
    mixture = FlowMixture(2, **QUICK).fit(rows)
    np.testing.assert_array_equal(mixture.score_samples(rows), mixture.score_samples(values))
    np.testing.assert_array_equal(
        FlowMixture(2, **QUICK).fit(values).score_samples(values), mixture.score_samples(values)
    )


def test_labels_weights_and_clusters_may_be_tensors():
    labels = torch.where(torch.arange(60) < 6, torch.arange(60) % 2, -1)
    weight = torch.ones(60, requires_grad=True)
    clusters = torch.arange(60) % 2
    mixture = FlowMixture(2, **QUICK).fit(X, labels, weight, clusters=clusters)
    assert mixture.predict(X)[:2].tolist() == [0, 1]
    masked = np.ma.masked_array(np.ones(60), mask=np.arange(60) == 3)
    with pytest.raises(ValueError, match=r"sample_weight\[3\] is masked, one of 1 such values"):
        FlowMixture(2, **QUICK).fit(X, sample_weight=masked)
    with pytest.raises(ValueError, match=r"y\[3\] is masked"):
        FlowMixture(2, **QUICK).fit(X, masked)


def test_a_mask_that_masks_nothing_and_numbers_as_text_are_taken(fitted):
    scores = fitted.score_samples(X)
    np.testing.assert_array_equal(fitted.score_samples(np.ma.masked_array(X)), scores)
    frame = pandas.DataFrame(X).map(str).astype("category")
    frame.columns = ["a", "b"]
    assert FlowMixture(2, **QUICK).fit(frame).n_features_in_ == 2
