"""Tests of training a fitted mixture further: `partial_fit` and `warm_start`."""

import numpy as np
import polars as pl
import pytest
import torch

from vmonf import FlowMixture, Training

QUICK = {"max_epochs": 3, "init": "kmeans", "base": 1, "random_state": 0}


def curved(n_rows, seed=0, height=0.0):
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 2, n_rows)
    x = random.standard_normal((n_rows, 2))
    x[:, 1] += x[:, 0] ** 2 + height
    x[:, 0] += 9 * cluster
    return x, cluster


@pytest.fixture(scope="module")
def fitted():
    """A mixture fitted with names for its two clusters."""
    x, cluster = curved(1500)
    names = np.array(["left", "right"])[cluster]
    return FlowMixture(2, **QUICK).fit(x, names)


@pytest.fixture
def mixture(fitted, tmp_path):
    """A copy of it."""
    fitted.save(tmp_path / "model")
    return FlowMixture.load(tmp_path / "model")


def test_new_rows_are_learned_and_old_ones_forgotten(mixture):
    old, new = curved(2000, seed=1)[0], curved(2000, seed=2, height=2.0)[0]
    before = mixture.score(new), mixture.score(old)
    for _ in range(3):
        assert mixture.partial_fit(new) is mixture
    assert mixture.score(new) > before[0] + 0.3
    assert mixture.score(old) < before[1] - 0.3
    assert mixture.classes_.tolist() == ["left", "right"]
    assert mixture.verdict_.reason == "not judged"
    assert len(mixture.history_["epoch"]) == 1


def test_a_first_partial_fit_is_a_fit():
    x, _ = curved(400)
    one, two = FlowMixture(2, **QUICK).partial_fit(x), FlowMixture(2, **QUICK).fit(x)
    np.testing.assert_array_equal(one.score_samples(x), two.score_samples(x))


def test_a_single_row_or_a_constant_column_is_enough(mixture):
    x, _ = curved(5)
    mixture.partial_fit(x[:1]).partial_fit(np.column_stack([x[:, 0], np.zeros(5)]))
    assert np.isfinite(mixture.score(x))


def test_labels_are_those_of_the_first_fit(mixture):
    x, cluster = curved(600, seed=3)
    mixture.partial_fit(x, np.array(["left", "right"])[cluster])
    assert (mixture.predict(x) == np.array(["left", "right"])[cluster]).mean() > 0.98
    with pytest.raises(ValueError, match=r"label 'other'.*classes are left, right"):
        mixture.partial_fit(x, ["other"] * 600)
    with pytest.raises(ValueError, match="features"):
        mixture.partial_fit(x[:, :1])


def test_a_failed_call_changes_nothing(mixture):
    before = {name: value.clone() for name, value in mixture.model_.state_dict().items()}
    verdict = mixture.verdict_
    with pytest.raises(ValueError, match="NaN"):
        mixture.partial_fit([[np.nan, 1.0]])
    assert mixture.verdict_ is verdict
    assert all(torch.equal(before[n], v) for n, v in mixture.model_.state_dict().items())


def test_a_warm_start_goes_on_from_the_fitted_mixture(mixture, tmp_path):
    x, _ = curved(1500)
    held = mixture.held_out_log_likelihood_
    mixture.set_params(warm_start=True, max_epochs=6).fit(x)
    assert mixture.verdict_.reason == "continued"
    assert mixture.held_out_log_likelihood_ > held - 0.2
    assert mixture.gain_ > 0
    assert "went on and gained" in str(mixture.verdict_)
    assert mixture.labelled_classes_.tolist() == ["left", "right"]
    mixture.save(tmp_path / "again")
    assert FlowMixture.load(tmp_path / "again").verdict_ == mixture.verdict_


def test_a_warm_start_without_epochs_keeps_the_mixture(mixture):
    x, _ = curved(1500)
    before = mixture.score_samples(x)
    mixture.set_params(warm_start=True, max_epochs=0).fit(x)
    np.testing.assert_allclose(mixture.score_samples(x), before)
    assert "was kept, because no epoch was trained" in str(mixture.verdict_)
    assert np.isnan([mixture.gain_, mixture.gain_error_]).all()


def test_a_mixture_that_does_not_improve_keeps_its_temperature(mixture):
    x, _ = curved(300)
    mixture.model_.temperature.fill_(3.0)
    before = mixture.predict_proba(x)
    worse = Training(learning_rate=1.0, refine_posterior=False)
    mixture.set_params(warm_start=True, max_epochs=1, training=worse).fit(x)
    assert mixture.best_epoch_ == 0
    np.testing.assert_allclose(mixture.predict_proba(x), before, atol=1e-6)


def test_a_table_in_parts_is_gone_through_too(mixture, monkeypatch):
    monkeypatch.setattr("vmonf.stream.SAMPLE_ROWS", 500)
    new, _ = curved(2000, seed=2, height=2.0)
    before = mixture.score(new)
    frame = pl.DataFrame(new, schema=["a", "b"]).lazy()
    mixture.set_params(training=Training(learning_rate=0.01)).partial_fit(frame)
    assert mixture.score(new) > before + 0.1
