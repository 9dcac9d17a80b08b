"""Tests of the comparison of two densities, and of the verdict."""

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from vmonf.judge import compare, judge


@pytest.fixture
def log_probs():
    random = np.random.default_rng(0)
    reference = random.normal(size=400)
    return reference, reference + 0.3 + random.normal(size=400)


def test_a_comparison_is_a_paired_t_test(log_probs):
    reference, other = log_probs
    comparison = compare(other, reference, np.ones(400))
    expected = ttest_rel(other, reference)
    assert comparison.gain / comparison.error == pytest.approx(expected.statistic)
    assert comparison.gain == pytest.approx((other - reference).mean())


def test_a_weight_of_all_rows_alike_changes_nothing(log_probs):
    reference, other = log_probs
    assert compare(other, reference, np.full(400, 7.0)) == pytest.approx(
        compare(other, reference, np.ones(400))
    )


def test_rounding_is_not_a_gain(log_probs):
    reference, _ = log_probs
    noise = np.random.default_rng(1).uniform(0, 2e-6, size=400)
    comparison = compare(reference + noise, reference, np.ones(400))
    assert comparison.gain > 5 * comparison.error
    assert not comparison.exceeds_chance()


def verdict(flows, gaussians, *, held_out=True, epoch=4):
    weight = np.ones(len(gaussians))
    return judge(flows, gaussians, weight, held_out=held_out, epoch=epoch, n_epochs=9)


def test_flows_are_kept_if_they_gain_more_than_chance(log_probs):
    reference, other = log_probs
    found = verdict(other, reference)
    assert (found.kept, found.reason, found.epoch, found.n_epochs) == ("flows", "gain", 4, 9)
    assert found.log_likelihood == pytest.approx(other.mean())
    assert "gained" in str(found)
    assert "epoch 4 of 9 was kept" in str(found)


def test_else_the_gaussian_mixture_is_kept(log_probs):
    reference, other = log_probs
    chance = reference + (other - other.mean())
    for flows, words in ((chance + 0.01, "perhaps by chance"), (reference - 1, "lost 1.0000")):
        found = verdict(flows, reference)
        assert (found.kept, found.reason, found.epoch) == ("gaussian mixture", "no gain", 0)
        assert found.log_likelihood == pytest.approx(reference.mean())
        assert words in str(found)


def test_what_was_not_trained_or_not_held_out_is_said(log_probs):
    reference, other = log_probs
    found = verdict(None, reference)
    assert (found.kept, found.reason) == ("gaussian mixture", "not trained")
    assert math.isnan(found.gain)
    assert found.log_likelihood == pytest.approx(reference.mean())
    found = verdict(other, reference, held_out=False, epoch=9)
    assert (found.kept, found.reason, found.epoch) == ("flows", "not judged", 9)
    assert math.isnan(found.log_likelihood)
    assert found.gain == pytest.approx((other - reference).mean())


def test_the_gaussians_that_training_began_with_may_be_kept(log_probs):
    reference, other = log_probs
    found = verdict(other, reference, epoch=0)
    assert found.kept == "flows"
    assert "of 9 epochs, none improved on the weights that training began with" in str(found)


def test_one_row_tells_nothing():
    comparison = compare(np.array([3.0, 9.0]), np.zeros(2), np.array([1.0, 0.0]))
    assert (comparison.gain, comparison.error) == (3.0, math.inf)
    assert not comparison.exceeds_chance(1.0)
    assert comparison.exceeds_chance(0.0)  # where chance does not count, the better one is taken
