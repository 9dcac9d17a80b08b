"""Tests of fits whose time is given."""

import itertools
import time

import numpy as np
import pytest

from vmonf import FlowMixture, Training
from vmonf.data import Pinwheel
from vmonf.parameters import ParameterError

ROWS = Pinwheel().sample(200, random_state=0)[0]


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that goes on by a hundredth of a second each time it is read."""
    monkeypatch.setattr(time, "monotonic", itertools.count(0.0, 0.01).__next__)


PARAMETERS = {"init": "kmeans", "base": 1, "random_state": 0, "max_epochs": 10_000}


@pytest.mark.long
def test_the_fit_ends_with_its_time_and_says_so():
    training = Training(patience=None)
    mixture = FlowMixture(5, max_seconds=6, training=training, **PARAMETERS)
    with pytest.warns(UserWarning, match=r"max_seconds was over after \d+ epochs; in the last"):
        mixture.fit(ROWS)
    assert 0.9 * 6 < time.monotonic() < 1.1 * 6
    rates = mixture.history_["learning_rate"]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.02 * rates[0]


def test_ample_time_does_not_keep_a_training_from_ending(recwarn):
    training = Training(patience=2)
    mixture = FlowMixture(5, max_seconds=600, training=training, **PARAMETERS).fit(ROWS)
    assert mixture.converged_
    assert not [w for w in recwarn if "max_seconds" in str(w.message)]


@pytest.mark.long
def test_restarts_share_the_time():
    mixture = FlowMixture(5, n_init=50, max_seconds=0.6, **PARAMETERS)
    with pytest.warns(UserWarning, match=r"\d+ fits? of n_init (is|are) left out"):
        mixture.fit(ROWS)
    assert np.isfinite(mixture.score(ROWS))


def test_time_that_is_over_before_the_training_leaves_a_mixture():
    with pytest.warns(UserWarning, match="after [01] epochs?: give more time"):
        mixture = FlowMixture(5, max_seconds=0.01, **PARAMETERS).fit(ROWS)
    assert np.isfinite(mixture.score(ROWS))


@pytest.mark.parametrize("seconds", [0, -1, np.nan, "long"])
def test_wrong_times_are_refused(seconds):
    with pytest.raises(ParameterError, match="max_seconds"):
        FlowMixture(max_seconds=seconds).fit(ROWS)
