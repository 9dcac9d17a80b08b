"""Tests of the distance of rows to their near neighbours."""

import numpy as np
import pytest

from vmonf import spacing
from vmonf.spacing import spacing_of


def test_it_is_the_distance_of_the_tenth_other_row():
    x = np.random.default_rng(0).normal(size=(50, 3))
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    found = spacing_of(x, np.random.default_rng(0))
    np.testing.assert_allclose(found, np.sort(distance, axis=1)[:, 10])


@pytest.mark.parametrize(("n", "rank"), [(1, 0), (2, 1), (5, 4)])
def test_few_rows_have_the_farthest(n, rank):
    x = np.random.default_rng(0).normal(size=(n, 2))
    distance = np.linalg.norm(x[:, None] - x, axis=2)
    found = spacing_of(x, np.random.default_rng(0))
    np.testing.assert_allclose(found, np.sort(distance, axis=1)[:, rank])


def test_a_sample_gives_about_the_same(monkeypatch):
    x = np.random.default_rng(0).normal(size=(4000, 2))
    whole = spacing_of(x, np.random.default_rng(0))
    monkeypatch.setattr(spacing, "MAX_ROWS", 2000)
    sampled = spacing_of(x, np.random.default_rng(0))
    assert np.median(sampled / whole) == pytest.approx(1, abs=0.1)
    assert (sampled > 0).all()
