"""Tests that FlowMixture follows scikit-learn's conventions."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from vmonf import NSF, FlowMixture, PosteriorMLP, RealNVP, Training

QUICK = {
    "max_epochs": 3,
    "flow": RealNVP(n_layers=2, hidden=(8,)),
    "posterior": PosteriorMLP(hidden=(8,)),
}


def checks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for estimator, check in estimator_checks_generator(FlowMixture(4, random_state=0, **QUICK)):
            name = getattr(check, "func", check).__name__
            yield pytest.param(estimator, check, id=name)


# All checks run, and none is expected to fail. Some set n_components=1 and pass three classes,
# which gives a warning; one raises SkipTest if an environment variable of scikit-learn is not set.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def blobs():
    return make_blobs(120, n_features=3, centers=3, random_state=0)


def test_it_works_at_the_end_of_a_pipeline(blobs):
    X, _ = blobs
    pipeline = make_pipeline(StandardScaler(), FlowMixture(3, random_state=0, **QUICK)).fit(X)
    assert pipeline.predict(X).shape == (120,)
    assert np.isfinite(pipeline.score(X))


def test_grid_search_over_the_number_of_components_in_parallel(blobs):
    X, _ = blobs
    search = GridSearchCV(
        FlowMixture(random_state=0, **QUICK), {"n_components": [1, 3]}, cv=2, n_jobs=2
    ).fit(X)
    assert search.best_params_ == {"n_components": 3}


@pytest.mark.long
def test_grid_search_over_parameters_of_the_parts(blobs):
    X, _ = blobs
    grid = {"flow__n_layers": [0, 1], "training__learning_rate": [1e-2]}
    for mixture in (
        FlowMixture(3, random_state=0, **QUICK | {"max_epochs": 1}),
        FlowMixture(3, flow="nsf", max_epochs=1, random_state=0),
    ):
        search = GridSearchCV(mixture, grid, cv=2).fit(X)
        assert search.best_params_["flow__n_layers"] in (0, 1)
        assert type(search.best_estimator_.flow).__name__ in ("RealNVP", "NSF")
        assert search.best_estimator_.flow.n_layers == search.best_params_["flow__n_layers"]
    pipeline = make_pipeline(FlowMixture(3)).set_params(flowmixture__flow__n_layers=1)
    assert pipeline[-1].flow == RealNVP(n_layers=1)


def test_nested_parameters_are_set_on_names_specifications_and_both_at_once():
    mixture = FlowMixture().set_params(flow__n_layers=2)
    assert mixture.flow == RealNVP(n_layers=2)
    shared = mixture.flow
    other = FlowMixture(flow=shared).set_params(flow__hidden=(8,), flow="nsf", n_components=4)
    assert other.flow == NSF(hidden=(8,))
    assert FlowMixture(flow=shared).set_params(flow__n_layers=5).flow == RealNVP(n_layers=5)
    assert shared == RealNVP(n_layers=2)  # the other estimator's specification is unchanged
    assert other.n_components == 4
    assert FlowMixture().set_params(training__patience=None).training == Training(patience=None)
    assert other.get_params()["flow__hidden"] == (8,)
    message = "flow__n_bins is not a parameter of RealNVP: it has hidden"
    with pytest.raises(ValueError, match=message):
        mixture.set_params(flow__n_bins=3)
    with pytest.raises(ValueError, match="n_bins is not a parameter of FlowMixture"):
        mixture.set_params(n_bins=3)


def test_watchers_are_not_routed_and_clusters_are():
    import sklearn

    with sklearn.config_context(enable_metadata_routing=True):
        mixture = FlowMixture().set_fit_request(clusters=True, sample_weight=True)
        with pytest.raises(TypeError, match="watchers"):
            mixture.set_fit_request(watchers=True)


def test_clone_and_parameters_round_trip():
    mixture = FlowMixture(
        3, flow=NSF(n_bins=4), temperature=(5.0, 1.0), init=np.zeros((3, 2)), training=Training()
    )
    copied = clone(mixture).get_params()
    for name, value in mixture.get_params().items():
        assert np.array_equal(copied[name], value)


def test_a_fitted_model_survives_a_process_boundary(blobs):
    # joblib pickles what it sends to workers. To share a model, use a model file instead.
    X, _ = blobs
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(X)
    copied = pickle.loads(pickle.dumps(mixture))
    np.testing.assert_array_equal(copied.score_samples(X), mixture.score_samples(X))


@pytest.mark.filterwarnings("ignore:The density is unbounded where values repeat")
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_data_frames_give_feature_names_and_the_numbers_of_arrays(frame):
    iris = load_iris()
    table = frame(dict(zip(iris.feature_names, iris.data.T, strict=True)))
    named = FlowMixture(3, random_state=0, **QUICK).fit(table)
    plain = FlowMixture(3, random_state=0, **QUICK).fit(iris.data)
    assert named.feature_names_in_.tolist() == iris.feature_names
    np.testing.assert_array_equal(named.score_samples(table), plain.score_samples(iris.data))


def test_lists_are_accepted(blobs):
    X, _ = blobs
    mixture = FlowMixture(2, random_state=0, **QUICK).fit(X.tolist())
    assert mixture.predict(X.tolist()).shape == (120,)


def test_a_fit_does_not_touch_the_global_random_state(blobs):
    import torch

    X, _ = blobs
    np.random.seed(0)
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state().clone()
    FlowMixture(2, random_state=3, **QUICK).fit(X).sample(5)
    assert np.array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())
