"""Tests of the Gaussian mixture that is fitted to rows with gaps."""

import numpy as np
import pytest
from scipy import stats

from vmonf.rows import distinct_rows
from vmonf.start import (
    STARTS,
    GaussianStarter,
    Shrinkage,
    conditionals_of,
    first_filled,
    gaps,
    refitted,
)
from vmonf.start.gaussian_mixture import GaussianStart


def rows_of(x):
    nowhere = np.full(len(x), -1)
    return distinct_rows(x, np.ones(len(x)), nowhere, nowhere)


def test_a_gaussian_has_the_closed_form_of_maximum_likelihood():
    """With gaps in one of two columns alone: Anderson (1957)."""
    random = np.random.default_rng(0)
    x = random.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], size=1500)
    is_missing = random.random(len(x)) < stats.norm.cdf(2 * x[:, 0])  # more where x is large
    x[is_missing, 1] = np.nan
    rows = rows_of(x)
    is_gap = np.isnan(rows.x)
    starter = GaussianStarter(1, STARTS["kmeans"], shrinkage=Shrinkage(0.0, 0.0))
    first = GaussianStart(
        np.zeros((1, 2)), np.eye(2)[None], np.ones(1), np.zeros(1, int), Shrinkage(0.0, 0.0)
    )
    found = refitted(starter, rows, is_gap, first, np.random.default_rng(1))
    known = ~is_gap[:, 1]
    slope, intercept = np.polyfit(rows.x[known, 0], rows.x[known, 1], 1)
    mean = intercept + slope * rows.x[:, 0].mean()
    residual = rows.x[known, 1] - intercept - slope * rows.x[known, 0]
    variance = residual.var() + slope**2 * rows.x[:, 0].var()
    assert found.means[0, 1] == pytest.approx(mean, abs=0.03)
    assert found.covariances[0, 1, 1] == pytest.approx(variance, abs=0.05)
    # The complete rows alone have another mean.
    assert abs(rows.x[known, 1].mean() - mean) > 0.2


def test_gaps_are_filled_within_their_own_cluster():
    random = np.random.default_rng(0)
    cluster = random.integers(0, 2, 600)
    x = random.normal(size=(600, 3)) + 8 * cluster[:, None]
    x[random.random(x.shape) < 0.25] = np.nan
    rows = rows_of(x[~np.isnan(x).all(axis=1)])
    filled = first_filled(rows, np.isnan(rows.x), random)
    own = np.nanmean(rows.x, axis=1) > 4
    assert ((filled > 4).mean(axis=1) == own).mean() > 0.98
    known = ~np.isnan(rows.x)
    assert (filled[known] == rows.x[known]).all()


def test_conditionals_have_the_density_of_the_mixture_with_its_broad_parts():
    random = np.random.default_rng(0)
    factors = random.normal(size=(4, 2, 2))
    mixture = GaussianStart(
        random.normal(size=(4, 2)),
        factors @ factors.swapaxes(1, 2) + 0.1 * np.eye(2),
        np.full(4, 0.25),
        np.array([0, 0, 1, 1]),
        Shrinkage(0.0, 0.0),
        broad_weight=0.05,
    )
    import torch

    z = random.normal(scale=4, size=(50, 2))
    found = conditionals_of(mixture).log_prob(torch.from_numpy(z)).numpy()
    assert found == pytest.approx(mixture.log_prob(z), abs=1e-9)


def test_a_column_is_filled_that_is_known_in_few_rows(monkeypatch):
    monkeypatch.setattr(gaps, "MOST_FILLED", 50)
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 2))
    x[:, 1] = np.where(np.arange(500) < 2, [7.0] * 500, np.nan)
    rows = rows_of(x)
    filled = first_filled(rows, np.isnan(rows.x), random)
    assert np.isfinite(filled).all()
    np.testing.assert_allclose(filled[:, 1], 7, atol=0.1)
