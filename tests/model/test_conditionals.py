"""Tests of the distribution from which gaps are drawn, against scipy."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import logsumexp

from vmonf.model import Conditionals

N_FEATURES = 3
WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[0.0, 1.0, -1.0], [4.0, 0.0, 2.0], [1.0, -2.0, 0.5]])
DEGREES = np.array([np.inf, np.inf, 3.0])
FACTORS = np.random.default_rng(0).normal(size=(3, N_FEATURES, N_FEATURES))
COVARIANCES = FACTORS @ FACTORS.swapaxes(1, 2) + 0.3 * np.eye(N_FEATURES)
PATTERNS = list(itertools.product([False, True], repeat=N_FEATURES))


@pytest.fixture(scope="module")
def conditionals():
    return Conditionals(*map(torch.from_numpy, (WEIGHTS, MEANS, COVARIANCES, DEGREES)))


def density(x):
    """Log density of the values that are not NaN of one row."""
    known = ~np.isnan(x)
    if not known.any():
        return 0.0
    parts = []
    for weight, mean, covariance, degrees in zip(WEIGHTS, MEANS, COVARIANCES, DEGREES, strict=True):
        shape = mean[known], covariance[np.ix_(known, known)]
        atom = (
            stats.multivariate_normal(*shape)
            if np.isinf(degrees)
            else stats.multivariate_t(*shape, df=degrees)
        )
        parts.append(np.log(weight) + atom.logpdf(x[known]))
    return logsumexp(parts)


def rows_with_all_patterns():
    x = np.random.default_rng(1).normal(scale=3, size=(len(PATTERNS), N_FEATURES))
    return np.where(PATTERNS, np.nan, x)


def test_the_marginal_density_is_that_of_scipy(conditionals):
    x = np.random.default_rng(2).permutation(rows_with_all_patterns())
    expected = [density(row) for row in x]
    assert conditionals.log_prob(torch.from_numpy(x)).numpy() == pytest.approx(expected, abs=1e-9)


def test_the_log_prob_of_draws_is_the_ratio_of_joint_and_marginal_density(conditionals):
    x = rows_with_all_patterns()
    uniform = torch.from_numpy(np.random.default_rng(3).random((len(x), 5, N_FEATURES + 2)))
    draws, log_prob = conditionals.draw(torch.from_numpy(x), uniform)
    known = ~np.isnan(x)
    for row, drawn, found in zip(x, draws.numpy(), log_prob.numpy(), strict=True):
        own = ~np.isnan(row)
        assert (drawn[:, own] == row[own]).all()
        expected = [density(each) - density(row) for each in drawn]
        assert found == pytest.approx(expected, abs=1e-9)
    assert (log_prob.numpy()[known.all(axis=1)] == 0).all()


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if any(p)], ids=str)
def test_draws_have_the_conditional_distribution(conditionals, pattern):
    """Importance weights of the draws against a broad distribution give the same means."""
    row = np.where(pattern, np.nan, [0.5, -0.5, 1.0])
    uniform = torch.quasirandom.SobolEngine(N_FEATURES + 2, scramble=True, seed=1).draw(2**14)
    draws, _ = conditionals.draw(torch.from_numpy(row)[None], uniform.double())
    drawn = draws[0].numpy()[:, list(pattern)]
    # A bounded function, since the Student-t distribution has few moments.
    found = np.tanh(drawn).mean(axis=0)
    random = np.random.default_rng(4)
    broad = stats.multivariate_t(np.zeros(drawn.shape[1]), 16 * np.eye(drawn.shape[1]), df=3)
    proposed = broad.rvs(100_000, random_state=random).reshape(-1, drawn.shape[1])
    filled = np.repeat(row[None], len(proposed), axis=0)
    filled[:, list(pattern)] = proposed
    whole = conditionals.log_prob(torch.from_numpy(filled)).numpy()
    share = np.exp(whole - density(row) - broad.logpdf(proposed))
    assert share.mean() == pytest.approx(1, abs=0.05)
    expected = share @ np.tanh(proposed) / share.sum()
    assert found == pytest.approx(expected, abs=0.03)


def test_double_precision_stays_in_a_model_of_float32(conditionals):
    assert conditionals.float().means.dtype == torch.float64
