"""Tests of `bounds=` and `periodic=` of FlowMixture."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import adjusted_rand_score

from vmonf import FlowMixture, RealNVP
from vmonf.bounds import check_domains, domain_of
from vmonf.parameters import ParameterError

QUICK = {"random_state": 0, "max_epochs": 0}


def exponential_and_beta(n_rows, seed):
    random = np.random.default_rng(seed)
    X = np.column_stack([random.exponential(size=n_rows), random.beta(0.7, 2, size=n_rows)])
    return X, stats.expon.logpdf(X[:, 0]) + stats.beta(0.7, 2).logpdf(X[:, 1])


def test_bounds_bring_the_density_nearer_to_the_truth_and_all_samples_inside():
    X, _ = exponential_and_beta(800, 0)
    fresh, truth = exponential_and_beta(5000, 1)
    free = FlowMixture(1, **QUICK).fit(X)
    bounded = FlowMixture(1, bounds={0: (0, None), 1: (0, 1)}, **QUICK).fit(X)
    assert truth.mean() - bounded.score(fresh) < min(0.06, truth.mean() - free.score(fresh))
    drawn, _ = bounded.sample(20_000)
    assert drawn.min() >= 0
    assert drawn[:, 1].max() <= 1
    assert (free.sample(20_000)[0] < 0).any()


@pytest.mark.parametrize("concentration", [0.5, 8.0])
def test_von_mises_at_the_seam(concentration):
    truth = stats.vonmises(concentration, loc=np.pi)
    angles = truth.rvs((2000, 1), random_state=1) % (2 * np.pi)
    fresh = truth.rvs((20_000, 1), random_state=2) % (2 * np.pi)
    mixture = FlowMixture(1, periodic={0: 2 * np.pi}, **QUICK).fit(angles)
    assert mixture.score(fresh) == pytest.approx(truth.logpdf(fresh).mean(), abs=0.02)
    assert mixture.score_samples([[0.0]]) == pytest.approx(mixture.score_samples([[2 * np.pi]]))
    grid = np.linspace(0, 2 * np.pi, 2000, endpoint=False)[:, None]
    assert np.exp(mixture.score_samples(grid)).mean() * 2 * np.pi == pytest.approx(1, abs=1e-4)


def test_a_cluster_across_the_seam_is_one_cluster():
    hours = np.concatenate(
        [
            stats.norm(0, 1.5).rvs(300, random_state=0) % 24,
            stats.norm(11, 1.5).rvs(300, random_state=1),
        ]
    )
    X = pd.DataFrame({"hour": hours, "load": stats.norm.rvs(size=600, random_state=2)})
    mixture = FlowMixture(2, periodic={"hour": 24}, **QUICK).fit(X)
    assert adjusted_rand_score(np.repeat([0, 1], 300), mixture.predict(X)) > 0.95
    shifted = X.assign(hour=X["hour"] + 48)
    np.testing.assert_allclose(mixture.score_samples(shifted), mixture.score_samples(X))
    drawn, _ = mixture.sample(1000)
    assert 0 <= drawn[:, 0].min() < drawn[:, 0].max() < 24


def test_flows_and_files_know_bounds_and_periods(tmp_path):
    X, _ = exponential_and_beta(300, 0)
    X = pd.DataFrame({"wait": X[:, 0], "share": X[:, 1], "angle": 6 * X[:, 1] ** 2})
    mixture = FlowMixture(
        2,
        flow=RealNVP(n_layers=2, hidden=(8,)),
        bounds={"wait": (0, None), "share": (0, 1)},
        periodic={"angle": 6},
        validation_fraction=0,
        max_epochs=3,
        random_state=0,
    ).fit(X)
    mixture.save(tmp_path / "m.vmonf")
    loaded = FlowMixture.load(tmp_path / "m.vmonf")
    assert loaded.get_params()["bounds"] == {"wait": (0, None), "share": (0, 1)}
    assert loaded.get_params()["periodic"] == {"angle": 6}
    np.testing.assert_array_equal(loaded.score_samples(X), mixture.score_samples(X))
    before = loaded.score(X)
    loaded.partial_fit(X)
    assert loaded.score(X) != before
    assert loaded.score_samples(X.assign(wait=-1)).max() == -np.inf
    assert np.isfinite(loaded.predict_proba(X.assign(wait=-1), method="exact")).all()
    with pytest.raises(ValueError, match=r"X goes from -1 to -1 in column 'wait', beyond its"):
        loaded.partial_fit(X.assign(wait=-1))


def test_rows_on_a_bound_have_a_finite_density():
    X, _ = exponential_and_beta(300, 0)
    X[::3, 0] = 0
    with pytest.warns(UserWarning, match="values repeat"):
        mixture = FlowMixture(1, bounds={0: (0, None)}, **QUICK).fit(X)
    assert np.isfinite(mixture.score_samples(X)).all()


def test_rows_beyond_a_bound_are_refused_with_their_place():
    X, _ = exponential_and_beta(30, 0)
    X[[7, 9], 1] = 1.5
    with pytest.raises(ValueError, match=r"holds 1\.5 in row 7, column 1, one of 2 values beyond"):
        FlowMixture(1, bounds={1: (0, 1)}).fit(X)


PARAMETERS = {"bounds": None, "periodic": None}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bounds": [0, 1]}, "must be a dictionary"),
        ({"bounds": {1.5: (0, 1)}}, "must be a dictionary"),
        ({"bounds": {"a": (1, 0)}}, "must be a pair of numbers"),
        ({"bounds": {"a": (None, None)}}, "must be a pair of numbers"),
        ({"bounds": {"a": (0, np.nan)}}, "must be a pair of numbers"),
        ({"bounds": {"a": 3}}, "must be a pair of numbers"),
        ({"bounds": {"a": ("low", "high")}}, "must be a pair of numbers"),
        ({"periodic": {"a": 0}}, "must be a number above 0"),
        ({"periodic": {"a": "day"}}, "must be a number above 0"),
        ({"periodic": {"a": 1}, "bounds": {"a": (0, 1)}}, "both have the column 'a'"),
        ({"periodic": {0: 1, 1: 1, 2: 1, 3: 1}}, "at most 3 may have a period"),
    ],
)
def test_other_forms_are_refused(given, message):
    with pytest.raises(ParameterError, match=message):
        check_domains({**PARAMETERS, **given})


@pytest.mark.parametrize(
    ("given", "names", "message"),
    [
        ({"bounds": {"mass": (0, None)}}, ["a", "b"], "'mass', and X has the columns a, b"),
        ({"bounds": {"mass": (0, None)}}, None, "X has no names"),
        ({"periodic": {2: 24}}, None, "names column 2, and X has columns 0 to 1"),
        ({"periodic": {1: 24}, "bounds": {"b": (0, 9)}}, ["a", "b"], "both have the column 1"),
    ],
)
def test_columns_that_are_not_there_are_refused(given, names, message):
    with pytest.raises(ParameterError, match=message):
        domain_of({**PARAMETERS, **given}, np.ones((3, 2)), names)


def test_the_cut_is_in_the_widest_gap_or_the_emptiest_part():
    angles = np.concatenate([np.linspace(0, 80, 90), np.linspace(200, 360, 90)])[:, None]
    found = domain_of({**PARAMETERS, "periodic": {0: 360}}, angles, None)
    assert float(found.cut[0]) == pytest.approx(140)
    random = np.random.default_rng(0)
    dense = random.uniform(0, 360, size=(200_000, 1))
    dense = dense[(np.abs(dense[:, 0] - 250) > 8) | (random.random(200_000) < 0.1)]
    found = domain_of({**PARAMETERS, "periodic": {0: 360}}, dense, None)
    assert float(found.cut[0]) == pytest.approx(250, abs=10)
    assert float(found.first[0]) == 0
