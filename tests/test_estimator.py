"""Tests of FlowMixture as documented."""

import dataclasses
import subprocess
import sys
import warnings

import numpy as np
import pandas
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris, make_blobs, make_moons
from sklearn.mixture import GaussianMixture

from vmonf import FlowMixture, PosteriorMLP, RealNVP, Training
from vmonf.data import Pinwheel, TwoCircles
from vmonf.flows import FAMILIES, Bijection, Family
from vmonf.flows.coupling import Coupling
from vmonf.metrics import clustering_accuracy
from vmonf.model import build_model
from vmonf.parameters import ParameterError
from vmonf.storage import ModelFileError
from vmonf.training import TrainingError

QUICK = {
    "max_epochs": 3,
    "flow": RealNVP(n_layers=2, hidden=(16,)),
    "posterior": PosteriorMLP(hidden=(16,)),
}


def small(family):
    """Return a family by name, with few and narrow layers."""
    return dataclasses.replace(FAMILIES[family], n_layers=2, hidden=(16,))


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(300, centers=[[-5, 0], [5, 0], [0, 6]], random_state=0)
    return X, y


@pytest.fixture(scope="module")
def fitted(blobs):
    return FlowMixture(3, random_state=0, **QUICK).fit(blobs[0])


# ------------------------------------------------------------------ results of a fit


@pytest.mark.long
def test_the_pinwheel_is_found_and_scored_close_to_the_truth():
    wheel = Pinwheel()
    X, _ = wheel.sample(512, random_state=1)
    X_test, labels = wheel.sample(1000, random_state=2)
    mixture = FlowMixture(5, random_state=1).fit(X)
    assert clustering_accuracy(labels, mixture.predict(X_test)) > 0.98
    assert clustering_accuracy(labels, mixture.predict(X_test, method="exact")) > 0.98
    assert abs(mixture.score(X_test) - wheel.log_prob(X_test).mean()) < 0.1
    assert mixture.best_epoch_ > 0
    assert mixture.gain_ > 2 * mixture.gain_error_


@pytest.mark.long
def test_flows_of_one_atom_need_only_be_better_than_several_atoms():
    wheel = Pinwheel()
    X, _ = wheel.sample(512, random_state=0)
    X_test, _ = wheel.sample(2000, random_state=1)
    mixture = FlowMixture(5, random_state=0).fit(X)
    assert 0 < mixture.gain_ < mixture.gain_error_
    assert mixture.verdict_.kept == "flows"
    assert wheel.log_prob(X_test).mean() - mixture.score(X_test) < 0.06


@pytest.mark.long
def test_circles_are_found_from_the_graph():
    circles = TwoCircles()
    X, _ = circles.sample(256, random_state=0)
    fresh, circle = circles.sample(1000, random_state=1)
    mixture = FlowMixture(2, flow="nsf", init="graph", max_epochs=20, random_state=0).fit(X)
    assert clustering_accuracy(circle, mixture.predict(fresh)) > 0.99
    assert clustering_accuracy(circle, mixture.predict(fresh, method="exact")) > 0.99
    kmeans = {"init": "kmeans", "weights": "uniform", "base": 1}
    without = FlowMixture(2, flow="nsf", max_epochs=20, random_state=0, **kmeans).fit(X)
    assert clustering_accuracy(circle, without.predict(fresh)) < 0.9


def test_labels_spread_along_the_graph():
    circles = TwoCircles()
    X, circle = circles.sample(256, random_state=0)
    labels = np.full(len(X), -1)
    for c in (0, 1):
        labels[np.flatnonzero(circle == c)[:2]] = c
    fresh, fresh_circle = circles.sample(1000, random_state=1)
    mixture = FlowMixture(2, init="graph", max_epochs=20, random_state=0).fit(X, labels)
    assert np.mean(mixture.predict(fresh) == fresh_circle) > 0.99


def test_a_fit_is_watched_epoch_by_epoch(blobs):
    X, y = blobs
    seen = []

    def watch(mixture):
        accuracy = clustering_accuracy(y, mixture.predict(X))
        seen.append((mixture.n_epochs_, mixture.score(X), accuracy, len(mixture.history_["elbo"])))

    mixture = FlowMixture(3, random_state=0, validation_fraction=0, **QUICK)
    mixture.fit(X, watchers=[watch])
    assert [epoch for epoch, *_ in seen] == [0, 1, 2, 3] == [entries for *_, entries in seen]
    # The watcher sees the same weights as the score after each epoch.
    np.testing.assert_allclose(
        [score for _, score, *_ in seen[1:]], mixture.history_["log_likelihood"], rtol=1e-6
    )
    assert all(accuracy > 0.95 for *_, accuracy, _ in seen)
    unwatched = FlowMixture(3, random_state=0, validation_fraction=0, **QUICK).fit(X)
    np.testing.assert_array_equal(mixture.score_samples(X), unwatched.score_samples(X))


def test_a_watched_mixture_has_the_temperature_of_its_epoch(blobs):
    X, _ = blobs
    gaps = []
    mixture = FlowMixture(
        3,
        random_state=0,
        validation_fraction=0,
        temperature=(8.0, 1.0),
        temperature_epochs=2,
        **QUICK,
    )
    mixture.fit(X, watchers=[lambda now: gaps.append(np.mean(now.gap(X)))])
    np.testing.assert_allclose(gaps[1:], mixture.history_["gap"], rtol=1e-4)


@pytest.mark.filterwarnings("ignore:The density is unbounded where values repeat")
def test_a_small_table_is_never_worse_than_a_gaussian_mixture():
    X = load_iris().data
    train, test = X[::2], X[1::2]
    best = max(
        GaussianMixture(3, covariance_type=kind, random_state=0).fit(train).score(test)
        for kind in ("full", "tied", "diag", "spherical")
    )
    assert FlowMixture(3, random_state=0).fit(train).score(test) > best - 0.05


@pytest.mark.parametrize("objective", ["elbo", "marginal"])
@pytest.mark.long
def test_both_objectives_raise_the_held_out_likelihood(objective):
    X, _ = Pinwheel().sample(200, random_state=0)
    mixture = FlowMixture(
        5, objective=objective, base=1, init="kmeans", max_epochs=15, random_state=0
    ).fit(X)
    likelihood = mixture.history_["log_likelihood"]
    assert likelihood[-1] > likelihood[0] + 0.3
    assert mixture.gain_ > 0.3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_features", [1, 2, 100])
def test_every_family_fits_scores_and_samples_at_any_width(family, n_features):
    random = np.random.default_rng(0)
    X = random.normal(size=(120, n_features)) + 4 * random.integers(2, size=(120, 1))
    mixture = FlowMixture(2, random_state=0, **QUICK | {"flow": small(family)}).fit(X)
    assert np.isfinite(mixture.score_samples(X)).all()
    samples, component = mixture.sample(20)
    assert samples.shape == (20, n_features)
    assert component.shape == (20,)
    assert np.isfinite(samples).all()


def test_lu_mixing_fits():
    X, _ = make_blobs(150, n_features=5, random_state=0)
    mixture = FlowMixture(2, flow=RealNVP(mixing="lu"), max_epochs=3, random_state=0).fit(X)
    assert np.isfinite(mixture.score(X))


@dataclasses.dataclass(frozen=True)
class Shifts(Family):
    """A family that is not ours: coupling layers whose bijection is a shift."""

    hidden: tuple[int, ...] = (8,)

    def layers(self, n_components, n_features, generator):
        return [
            Coupling(
                n_components,
                n_features,
                Shift(),
                self.hidden,
                reverse=reverse,
                generator=generator,
            )
            for reverse in (False, True)
        ]


class Shift(Bijection):
    n_parameters = 1

    def forward(self, x, parameters):
        return x + parameters, torch.zeros_like(x)

    def inverse(self, z, parameters):
        return z - parameters, torch.zeros_like(z)


@pytest.mark.long
def test_a_family_that_is_not_ours_fits_and_is_saved_once_it_has_a_name(tmp_path, monkeypatch):
    X, _ = Pinwheel().sample(200, random_state=0)
    settings = {"base": 1, "max_epochs": 12, "training": Training(learning_rate=0.02)}
    mixture = FlowMixture(5, flow=Shifts(), random_state=0, **settings).fit(X)
    assert mixture.gain_ > 2 * mixture.gain_error_
    path = tmp_path / "model.vmonf"
    with pytest.raises(ModelFileError, match=r"add Shifts\(\) to vmonf.flows.FAMILIES"):
        mixture.save(path)
    assert not path.exists()
    monkeypatch.setitem(FAMILIES, "shifts", Shifts())
    mixture.save(path)
    loaded = FlowMixture.load(path)
    assert loaded.flow == Shifts()
    np.testing.assert_array_equal(loaded.score_samples(X), mixture.score_samples(X))
    assert FlowMixture(2, flow="shifts", init="kmeans", max_epochs=1).fit(X).n_epochs_ == 1
    monkeypatch.undo()
    with pytest.raises(ModelFileError, match="it needs Shifts, which is not in"):
        FlowMixture.load(path)
    assert mixture.set_params(flow__hidden=(4,)).flow == Shifts(hidden=(4,))


# ------------------------------------------------------------------ consistency of results


def test_the_numbers_hang_together(fitted, blobs):
    X, _ = blobs
    component_log_prob = fitted.component_log_prob(X)
    log_joint = component_log_prob + np.log(fitted.weights_)
    log_prob = np.logaddexp.reduce(log_joint, axis=1)
    np.testing.assert_allclose(fitted.score_samples(X), log_prob, rtol=1e-5, atol=1e-5)
    assert fitted.score(X) == pytest.approx(fitted.score_samples(X).mean())
    exact = fitted.predict_proba(X, method="exact")
    np.testing.assert_allclose(exact, np.exp(log_joint - log_prob[:, None]), atol=1e-5)
    q = fitted.predict_proba(X)
    np.testing.assert_allclose(q.sum(axis=1), 1, atol=1e-5)
    elbo = (q * (log_joint - np.log(q))).sum(axis=1)
    np.testing.assert_allclose(fitted.elbo(X), elbo, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fitted.gap(X), log_prob - elbo, atol=1e-4)
    assert (fitted.gap(X) >= 0).all()


def test_history_has_one_entry_an_epoch(fitted):
    history = fitted.history_
    assert history["epoch"] == [1, 2, 3]
    assert {len(column) for column in history.values()} == {3}
    assert np.array(history["component_use"]).shape == (3, 3)
    for elbo, likelihood, gap in zip(
        history["elbo"], history["log_likelihood"], history["gap"], strict=True
    ):
        assert gap == pytest.approx(likelihood - elbo)
        assert gap >= -1e-6


def test_temperature_decays_exponentially_as_history_shows(blobs):
    mixture = FlowMixture(
        3, temperature=(8.0, 0.5), temperature_epochs=4, random_state=0, **QUICK | {"max_epochs": 6}
    ).fit(blobs[0])
    np.testing.assert_allclose(mixture.history_["temperature"], [8, 4, 2, 1, 0.5, 0.5], rtol=1e-12)


def test_a_temperature_of_the_end_is_the_temperature_of_predict(blobs):
    X, _ = blobs
    mixture = FlowMixture(3, temperature=2.0, random_state=0, validation_fraction=0, **QUICK).fit(X)
    model = mixture.model_
    with torch.no_grad():
        logits = model.posterior_network(model.standardizer(torch.tensor(X)))
        expected = (logits / 2).softmax(dim=-1).numpy()
    np.testing.assert_allclose(mixture.predict_proba(X), expected, atol=1e-6)


@pytest.mark.parametrize("weights", ["uniform", "learned"])
def test_bic_and_aic_of_a_gaussian_mixture_are_scikit_learns(blobs, weights):
    X, _ = blobs
    ours = FlowMixture(3, weights=weights, max_epochs=0, random_state=0).fit(X)
    theirs = GaussianMixture(3, random_state=0).fit(X)
    n_weights = 2 if weights == "learned" else 0
    n_parameters = 3 * (2 + 3) + n_weights
    assert ours.aic(X) == pytest.approx(-2 * ours.score_samples(X).sum() + 2 * n_parameters)
    assert ours.bic(X) == pytest.approx(
        -2 * ours.score_samples(X).sum() + n_parameters * np.log(len(X))
    )
    if weights == "learned":
        assert ours.bic(X) == pytest.approx(theirs.bic(X), rel=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mixing", ["permutation", "lu"])
def test_free_parameters_are_those_that_a_step_of_training_moves(family, mixing):
    generator = torch.Generator().manual_seed(0)
    flow = dataclasses.replace(small(family), n_layers=3, mixing=mixing)
    model = build_model(
        flow, PosteriorMLP(), 2, 5, learn_weights=True, identity=False, generator=generator
    )
    flows = model.flows
    with torch.no_grad():  # a unit that is active nowhere would seem to have no free weights
        for name, parameter in flows.named_parameters():
            if name.endswith(("layers.0.bias", "layers.1.bias")):
                parameter.add_(2.0)
    x = 3 * torch.randn(4000, 5, dtype=torch.float64, generator=generator)
    weight = torch.randn(4000, dtype=torch.float64, generator=generator)
    (model.log_prob(x) * weight).sum().backward()
    moved = sum(int((p.grad != 0).sum()) for p in flows.parameters() if p.grad is not None)
    assert model.n_free_parameters() == moved + 1
    assert model.n_free_parameters(layers=False) == 2 * (5 + 15) + 1


# ------------------------------------------------------------------ mixing weights


def test_weights_can_be_uniform(blobs):
    mixture = FlowMixture(3, weights="uniform", random_state=0, **QUICK).fit(blobs[0])
    np.testing.assert_allclose(mixture.weights_, 1 / 3)


def test_weights_are_learned():
    X, _ = make_blobs([300, 100], centers=[[-5, 0], [5, 0]], random_state=0)
    mixture = FlowMixture(2, random_state=0, **QUICK).fit(X)
    np.testing.assert_allclose(sorted(mixture.weights_), [0.25, 0.75], atol=0.03)


def test_given_weights_stay_and_the_largest_cluster_gets_the_largest():
    X, y = make_blobs([300, 100], centers=[[-5, 0], [5, 0]], random_state=0)
    mixture = FlowMixture(2, weights=[0.25, 0.75], random_state=0, **QUICK).fit(X)
    np.testing.assert_allclose(mixture.weights_, [0.25, 0.75], rtol=1e-6)
    assert (mixture.predict(X[y == 0]) == 1).mean() > 0.99


# ------------------------------------------------------------------ labels


@pytest.mark.parametrize("objective", ["elbo", "marginal"])
def test_a_few_labels_name_the_clusters(blobs, objective):
    X, y = blobs
    partial = np.full(len(y), -1)
    for c in range(3):
        partial[np.flatnonzero(y == c)[:4]] = c + 10
    mixture = FlowMixture(
        3,
        objective=objective,
        training=Training(pretrain_epochs=2),
        random_state=0,
        **QUICK,
    )
    mixture.fit(X, partial)
    assert mixture.classes_.tolist() == [10, 11, 12]
    assert (mixture.predict(X) == y + 10).mean() > 0.99
    assert (mixture.predict(X, method="exact") == y + 10).mean() > 0.99


def test_string_labels_and_free_components(blobs):
    X, y = blobs
    names = np.array(["left", "right", ""], dtype=object)[y]  # the third cluster has no labels
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(X, names)
    assert mixture.classes_.tolist() == ["left", "right", "new_0"]
    predicted = mixture.predict(X)
    assert (predicted[y == 0] == "left").all()
    assert (predicted[y == 2] == "new_0").mean() > 0.99
    samples, drawn = mixture.sample(50, component="new_0")
    assert set(drawn) == {"new_0"}
    assert np.abs(samples.mean(axis=0) - X[y == 2].mean(axis=0)).max() < 1


@pytest.mark.long
def test_labels_separate_two_circles_that_kmeans_cannot():
    circles = TwoCircles()
    X, y = circles.sample(512, random_state=0)
    partial = np.where(np.arange(len(y)) < 128, y, -1)
    X_test, labels = circles.sample(300, random_state=1)
    # A few epochs are enough here; the experiment trains to the end.
    kmeans = {"init": "kmeans", "base": 1, "random_state": 0}
    mixture = FlowMixture(2, flow="nsf-ar", max_epochs=40, **kmeans).fit(X, partial)
    assert (mixture.predict(X_test) == labels).mean() > 0.9
    alone = FlowMixture(2, flow="nsf-ar", max_epochs=3, **kmeans).fit(X)
    assert clustering_accuracy(labels, alone.predict(X_test)) < 0.8


def test_more_classes_than_components_are_given_components(blobs):
    X, y = blobs
    with pytest.warns(UserWarning, match="3 components are fitted"):
        mixture = FlowMixture(2, random_state=0, **QUICK).fit(X, y)
    assert mixture.n_components_ == 3
    assert mixture.predict_proba(X).shape == (300, 3)


# ------------------------------------------------------------------ rows and weights


def test_a_weight_of_two_is_two_rows_in_any_order(blobs):
    X, _ = blobs
    weight = np.random.default_rng(0).integers(0, 3, len(X))
    weighted = FlowMixture(3, random_state=0, **QUICK).fit(X, sample_weight=weight)
    repeated = np.repeat(X, weight, axis=0)[::-1]
    again = FlowMixture(3, random_state=0, **QUICK).fit(repeated)
    np.testing.assert_array_equal(weighted.score_samples(X), again.score_samples(X))


@pytest.mark.parametrize(("size", "largest"), [(1e-15, 1e-9), (1e-8, 1e-3)])
@pytest.mark.long
def test_rounding_of_the_rows_hardly_changes_the_densities(size, largest):
    X, _ = Pinwheel().sample(100, random_state=0)
    noise = np.random.default_rng(0).normal(size=X.shape)
    settings = {"init": "kmeans", "validation_fraction": 0, "random_state": 0, **QUICK}
    one = FlowMixture(5, **settings).fit(X)
    two = FlowMixture(5, **settings).fit(X * (1 + size * noise))
    assert one.best_epoch_ > 0  # in a longer training the difference of float32 grows
    difference = np.abs(one.score_samples(X) - two.score_samples(X))
    assert 0 < difference.max() < largest


@pytest.mark.long
def test_same_seed_same_result_other_seed_other_result(blobs):
    X, _ = blobs
    fits = [FlowMixture(3, random_state=seed, **QUICK).fit(X) for seed in (1, 1, 2)]
    for method in ("score_samples", "predict_proba"):
        first, second = (getattr(fit, method)(X) for fit in fits[:2])
        np.testing.assert_array_equal(first, second)
    # All of them may keep the same Gaussian mixture, but not the same posterior network.
    assert not np.array_equal(fits[0].predict_proba(X), fits[2].predict_proba(X))


@pytest.mark.long
def test_restarts_keep_the_best(blobs):
    X, _ = blobs
    best = FlowMixture(3, init="random", n_init=3, random_state=0, **QUICK).fit(X)
    assert best.score(X) > GaussianMixture(2, random_state=0).fit(X).score(X)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
@pytest.mark.long
def test_features_of_any_scale_keep_their_density(blobs, scale):
    X, _ = blobs
    # No epochs: the held-out rows depend on the bits of the rows, so training would differ.
    settings = QUICK | {"max_epochs": 0}
    plain = FlowMixture(3, random_state=0, **settings).fit(X)
    factors = np.array([scale, 1.0])
    scaled = FlowMixture(3, random_state=0, **settings).fit(X * factors)
    np.testing.assert_allclose(
        scaled.score_samples(X * factors), plain.score_samples(X) - np.log(scale), atol=0.02
    )
    assert np.isfinite(scaled.sample(10)[0]).all()
    trained = FlowMixture(3, random_state=0, validation_fraction=0, **QUICK).fit(X * factors)
    assert trained.score(X * factors) == pytest.approx(plain.score(X) - np.log(scale), abs=0.3)


def test_a_large_offset_costs_no_precision(blobs):
    X, _ = blobs
    whole = np.round(X * 64) / 64  # makes adding the offset exact
    plain = FlowMixture(3, random_state=0, **QUICK).fit(whole)
    moved = FlowMixture(3, random_state=0, **QUICK).fit(whole + 2.0**40)
    np.testing.assert_allclose(
        moved.score_samples(whole + 2.0**40).mean(), plain.score(whole), atol=0.1
    )


def test_duplicated_rows_work():
    X = np.repeat(np.random.default_rng(0).normal(size=(40, 2)), 25, axis=0)
    mixture = FlowMixture(2, init="kmeans", random_state=0, **QUICK).fit(X)
    assert np.isfinite(mixture.score_samples(X)).all()


def test_a_table_too_small_to_train_keeps_the_gaussian_mixture():
    X = np.random.default_rng(0).normal(size=(12, 2))
    mixture = FlowMixture(2, init="kmeans", random_state=0).fit(X)
    assert mixture.n_epochs_ == 0
    assert mixture.best_epoch_ == 0
    assert np.isfinite(mixture.score_samples(X)).all()


def test_far_away_rows_have_a_finite_density(fitted):
    far = np.array([[1e3, -1e3], [1e5, 1e5]])
    assert np.isfinite(fitted.score_samples(far)).all()


def test_initial_clusters_and_centres_are_taken(blobs):
    X, y = blobs
    centres = np.array([X[y == c].mean(axis=0) for c in (2, 0, 1)])
    by_centres = FlowMixture(3, init=centres, random_state=0, **QUICK).fit(X)
    assert (by_centres.predict(X[y == 2]) == 0).mean() > 0.99
    by_clusters = FlowMixture(3, random_state=0, **QUICK).fit(X, clusters=(y + 1) % 3)
    assert (by_clusters.predict(X[y == 2]) == 0).mean() > 0.99


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([[1.0, 2.0], [1.0, 3.0], [1.0, 4.0]], "column 0 is constant"),
        ([[1.0, np.nan], [2.0, 3.0]], "NaN"),
        ([[1.0, np.inf], [2.0, 3.0]], "infinity"),
        ([[1.0, 2.0]], "minimum of 2"),
        ([["a", "b"], ["c", "d"]], "could not convert"),
    ],
)
def test_data_that_cannot_be_fitted_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        FlowMixture(2).fit(X)


def test_fewer_distinct_rows_than_components_are_refused():
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], 10, axis=0)
    with pytest.raises(ValueError, match=r"n_components=3 is more than the 2 distinct rows"):
        FlowMixture(3).fit(X)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flow": "glow"}, "flow"),
        ({"n_components": 0}, "n_components"),
        ({"weights": [0.5, 0.4]}, "sum to one"),
        ({"weights": [1.0]}, "2 positive numbers"),
        ({"temperature": (1.0, -1.0)}, "positive"),
        ({"temperature": (1.0, 2.0, 3.0)}, "pair"),
        ({"flow": RealNVP(hidden=(0,))}, "flow__hidden=.* positive whole numbers"),
        ({"posterior": PosteriorMLP(hidden="64")}, "posterior__hidden=.* positive whole numbers"),
        ({"flow": 3}, "flow=3"),
        ({"training": "adam"}, "training='adam' must be a Training"),
        ({"init": np.zeros((5, 5))}, "init has shape"),
        ({"training": Training(learning_rate=0.0)}, "training__learning_rate=0.0"),
    ],
)
def test_settings_out_of_range_are_refused(blobs, settings, message):
    with pytest.raises(ValueError, match=message):
        FlowMixture(**settings).fit(blobs[0])


def test_labels_that_are_no_classes_are_refused(blobs):
    X, _ = blobs
    with pytest.raises(ValueError, match=r"Unknown label type: continuous \(y\[0\] = 0.5\)"):
        FlowMixture(2).fit(X, np.full(len(X), 0.5))


def test_negative_weights_are_refused(blobs):
    X, _ = blobs
    with pytest.raises(ValueError, match="Negative"):
        FlowMixture(2).fit(X, sample_weight=-np.ones(len(X)))


def test_a_dead_component_is_named_when_scoring(blobs):
    X, _ = blobs
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(X)
    with torch.no_grad():
        mixture.model_.flows.whitening.mean[1] = torch.nan
    with pytest.raises(ArithmeticError, match="component 1 gives"):
        mixture.score_samples(X)


def test_training_that_meets_nan_recovers_or_names_the_component(blobs, monkeypatch):
    X, _ = blobs
    from vmonf.flows import ComponentFlows

    exact = ComponentFlows.log_prob
    calls = {"n": 0}

    def sometimes_dead(self, x, components=None):
        calls["n"] += 1
        result = exact(self, x, components)
        return result * torch.nan if calls["n"] == bad_call and result.requires_grad else result

    monkeypatch.setattr(ComponentFlows, "log_prob", sometimes_dead)
    bad_call = 205
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(X)
    assert np.isfinite(mixture.score(X))

    def always_dead(self, x, components=None):
        result = exact(self, x, components)
        if not result.requires_grad:
            return result
        return torch.cat([result[:2], result[2:] * torch.nan])

    monkeypatch.setattr(ComponentFlows, "log_prob", always_dead)
    with pytest.raises(TrainingError, match="component 2 gave"):
        FlowMixture(3, random_state=0, **QUICK | {"max_epochs": 10}).fit(X)


def test_interruption_keeps_the_best_model_so_far(blobs, monkeypatch):
    X, _ = blobs
    from vmonf.training import TrainingLoop

    whole = TrainingLoop._epoch

    def interrupted(self, epoch, began):
        if epoch == 3:
            raise KeyboardInterrupt
        return whole(self, epoch, began)

    monkeypatch.setattr(TrainingLoop, "_epoch", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        mixture = FlowMixture(3, random_state=0, **QUICK | {"max_epochs": 9}).fit(X)
    assert mixture.n_epochs_ == 2
    assert np.isfinite(mixture.score(X))


@pytest.mark.parametrize("base", [1, "auto"])
@pytest.mark.long
def test_interruption_of_the_pretraining_ends_the_fit_too(monkeypatch, base):
    from vmonf.data import Pinwheel
    from vmonf.training import TrainingLoop

    X, _ = Pinwheel().sample(200, random_state=0)
    steps, calls = TrainingLoop._steps, []

    def interrupted(self, *args):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return steps(self, *args)

    monkeypatch.setattr(TrainingLoop, "_steps", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        mixture = FlowMixture(5, base=base, random_state=0, max_epochs=9).fit(X)
    assert len(calls) == 2
    assert mixture.verdict_.reason == "not trained"
    assert np.isfinite(mixture.score(X))


def test_an_epoch_without_a_log_likelihood_is_undone(blobs, monkeypatch):
    X, _ = blobs
    from vmonf.training import TrainingLoop

    summary, calls = TrainingLoop._summary, []

    def sometimes(self, temperature):
        found = summary(self, temperature)
        calls.append(found)
        return found._replace(log_likelihood=np.nan) if len(calls) == 3 else found

    monkeypatch.setattr(TrainingLoop, "_summary", sometimes)
    settings = QUICK | {"max_epochs": 4, "training": Training(pretrain_epochs=0)}
    mixture = FlowMixture(3, init="kmeans", random_state=0, **settings).fit(X)
    assert mixture.history_["epoch"] == [1, 3, 4]
    assert mixture.n_epochs_ == mixture.verdict_.n_epochs == 4


def test_components_that_no_row_can_be_in_are_told(blobs):
    X, y = blobs
    clusters = np.where(y == 2, 1, y)
    with pytest.warns(UserWarning, match="none has 2: the weight of this component"):
        FlowMixture(3, random_state=0, **QUICK | {"max_epochs": 0}).fit(X, clusters=clusters)
    with pytest.raises(ValueError, match="gives no row the cluster 1: number the clusters"):
        FlowMixture("auto").fit(X, clusters=2 * clusters)


@pytest.mark.parametrize("pause", [0.0, 60.0])
@pytest.mark.long
def test_a_second_interruption_soon_after_stops_a_loop_over_fits(blobs, monkeypatch, pause):
    X, _ = blobs
    from vmonf.training import TrainingLoop

    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def interrupted(self, epoch, began):
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingLoop, "_epoch", interrupted)
    mixture = FlowMixture(3, init="kmeans", random_state=0, **QUICK)
    with pytest.warns(UserWarning, match="interrupted"):
        mixture.fit(X)
    fitted = mixture.model_
    clock[0] += pause
    if pause:
        with pytest.warns(UserWarning, match="interrupted"):
            mixture.fit(X)
    else:
        with pytest.raises(KeyboardInterrupt):
            mixture.fit(X)
        assert mixture.model_ is fitted


@pytest.mark.long
def test_a_fit_goes_on_from_its_checkpoint(blobs, tmp_path, monkeypatch):
    X, _ = blobs
    from vmonf.training import TrainingLoop

    monkeypatch.setattr("vmonf.checkpoint.INTERVAL", 0.0)
    path = tmp_path / "fit.checkpoint"
    settings = QUICK | {"max_epochs": 6, "random_state": 0}
    whole = FlowMixture(3, **settings).fit(X)
    epoch_of, seen = TrainingLoop._epoch, []

    def watched(self, epoch, began):
        seen.append(epoch)
        if seen == [1, 2, 3]:
            raise KeyboardInterrupt
        return epoch_of(self, epoch, began)

    monkeypatch.setattr(TrainingLoop, "_epoch", watched)
    with pytest.warns(UserWarning, match="interrupted"):
        FlowMixture(3, **settings, checkpoint=path).fit(X)
    resumed = FlowMixture(3, **settings, checkpoint=path).fit(X)
    assert seen == [1, 2, 3, 3, 4, 5, 6]
    np.testing.assert_array_equal(resumed.score_samples(X), whole.score_samples(X))
    np.testing.assert_array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert resumed.history_["elbo"] == whole.history_["elbo"]
    resumed.save(tmp_path / "m.vmonf")
    assert FlowMixture.load(tmp_path / "m.vmonf").checkpoint is None


@pytest.mark.long
def test_a_fit_goes_on_for_more_epochs_from_its_checkpoint(blobs, tmp_path):
    X, _ = blobs
    path = tmp_path / "fit.checkpoint"
    seen = []
    settings = QUICK | {"random_state": 0, "checkpoint": path}
    short = FlowMixture(3, **settings | {"max_epochs": 3}).fit(X)
    longer = FlowMixture(3, **settings | {"max_epochs": 6, "device": "cpu"})
    longer.fit(X, watchers=[lambda now: seen.append(now.n_epochs_)])
    assert seen == [4, 5, 6]
    assert longer.history_["elbo"][:3] == short.history_["elbo"]
    whole = FlowMixture(3, **QUICK | {"random_state": 0, "max_epochs": 6}).fit(X)
    np.testing.assert_array_equal(longer.score_samples(X), whole.score_samples(X))
    # A cosine schedule depends on the number of epochs, so the first epochs would have differed.
    cosine = settings | {"training": Training(learning_rate_schedule="cosine")}
    cosine["checkpoint"] = tmp_path / "cosine.checkpoint"
    FlowMixture(3, **cosine).fit(X)
    with pytest.raises(ModelFileError, match="another fit"):
        FlowMixture(3, **cosine | {"max_epochs": 6}).fit(X)


@pytest.mark.parametrize("change", ["rows", "settings", "seed"])
@pytest.mark.long
def test_a_checkpoint_of_another_fit_is_refused(blobs, tmp_path, change):
    X, _ = blobs
    path = tmp_path / "fit.checkpoint"
    settings = QUICK | {"random_state": 0, "checkpoint": path}
    FlowMixture(3, **settings).fit(X)
    if change == "rows":
        X = X + 1e-3
    other = {
        "rows": {},
        "settings": {"training": Training(learning_rate=0.01)},
        "seed": {"random_state": 1},
    }[change]
    with pytest.raises(ModelFileError, match="another fit"):
        FlowMixture(3, **settings | other).fit(X[::-1] if change == "rows" else X)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ModelFileError, match="not a checkpoint file"):
        FlowMixture(3, **settings).fit(X)


def test_given_clusters_count_as_labels_in_pretraining(monkeypatch):
    from vmonf.training import TrainingLoop

    pretrained_on, whole = [], TrainingLoop._steps

    def watched(self, batches, temperature):
        batches = list(batches)
        pretrained_on.append([c for batch in batches for c in batch.component.tolist()])
        return whole(self, iter(batches), temperature)

    monkeypatch.setattr(TrainingLoop, "_steps", watched)
    X, _y = make_blobs(200, centers=[[-1, 0], [1, 0]], random_state=0)
    X = np.unique(X, axis=0)  # a fit merges equal rows and orders rows by content
    clusters = np.where(X[:, 1] > 0, 1, 0)
    clusters[:50] = -1
    settings = QUICK | {"validation_fraction": 0, "max_epochs": 2, "random_state": 0}
    settings |= {"init": "kmeans", "base": 1}
    FlowMixture(2, training=Training(pretrain_epochs=1), **settings).fit(X, clusters=clusters)
    first, *others = pretrained_on
    assert sorted(first) == sorted(clusters[clusters >= 0])
    assert others == [[-1] * len(X)] * 2
    pretrained_on.clear()
    FlowMixture(2, **settings).fit(X, clusters=clusters)
    assert pretrained_on == [[-1] * len(X)] * 2


def test_without_a_start_the_components_differ_by_chance_alone(blobs):
    X, _ = blobs
    settings = QUICK | {"validation_fraction": 0, "random_state": 0}
    settings |= {"training": Training(refine_posterior=False)}
    mixture = FlowMixture(3, **settings | {"init": "none", "temperature": (5.0, 1.0)}).fit(X)
    first = FlowMixture(3, **settings | {"init": "none", "max_epochs": 1}).fit(X)
    log_prob = first.component_log_prob(X)
    assert not np.allclose(log_prob[:, 0], log_prob[:, 1])
    means = first.model_.flows.whitening.mean.detach().numpy()[:, 0]
    np.testing.assert_allclose(means, 0, atol=0.1)  # the mean of all rows, up to a few steps
    assert mixture.history_["temperature"][0] == 5.0
    assert np.isfinite(mixture.score(X))


def test_a_gaussian_is_kept_where_flows_without_a_start_gain_nothing(monkeypatch):
    monkeypatch.setattr("vmonf.judge.STANDARD_ERRORS_OF_GAIN", 1e9)
    X = np.random.default_rng(0).normal(size=(200, 2))
    mixture = FlowMixture(2, init="none", random_state=0, **QUICK).fit(X)
    assert mixture.best_epoch_ == 0
    expected = multivariate_normal(X.mean(axis=0), np.cov(X.T, ddof=0)).logpdf(X)
    assert mixture.score(X) == pytest.approx(expected.mean(), abs=0.02)


# ------------------------------------------------------------------ sampling and files


def test_samples_follow_the_fitted_density(fitted):
    X, component = fitted.sample(3000, random_state=1)
    assert set(component) == {0, 1, 2}
    # If the samples had another density, their mean log-density would differ from the negative
    # entropy of the model, which a second draw estimates.
    again, _ = fitted.sample(3000, random_state=2)
    assert fitted.score(X) == pytest.approx(fitted.score(again), abs=0.1)
    assert (fitted.predict(X, method="exact") == component).mean() > 0.98


def test_sampling_is_seeded(fitted):
    np.testing.assert_array_equal(
        fitted.sample(5, random_state=3)[0], fitted.sample(5, random_state=3)[0]
    )
    assert not np.array_equal(
        fitted.sample(5, random_state=3)[0], fitted.sample(5, random_state=4)[0]
    )


def test_an_unknown_component_is_refused(fitted):
    with pytest.raises(ValueError, match="component=7 is not one of 0, 1, 2"):
        fitted.sample(5, component=7)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.long
def test_a_model_scores_the_same_after_load_in_another_process(tmp_path, blobs, family):
    X, y = blobs
    mixture = FlowMixture(
        3,
        weights="learned",
        temperature=(3.0, 2.0),
        random_state=0,
        **QUICK | {"flow": small(family)},
    )
    mixture.fit(X, np.array(["a", "b", "c"])[y])
    mixture.save(tmp_path / "model.vmonf")
    np.save(tmp_path / "X.npy", X)
    script = (
        "import sys, numpy as np; from vmonf import FlowMixture\n"
        "X = np.load(sys.argv[1] + '/X.npy')\n"
        "m = FlowMixture.load(sys.argv[1] + '/model.vmonf')\n"
        "np.savez(sys.argv[1] + '/out.npz', s=m.score_samples(X), q=m.predict_proba(X),\n"
        "         c=m.predict(X), x=m.sample(4, random_state=0)[0])\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    there = np.load(tmp_path / "out.npz")
    np.testing.assert_allclose(there["s"], mixture.score_samples(X), atol=1e-6)
    np.testing.assert_allclose(there["q"], mixture.predict_proba(X), atol=1e-6)
    np.testing.assert_array_equal(there["c"], mixture.predict(X))
    np.testing.assert_allclose(there["x"], mixture.sample(4, random_state=0)[0], rtol=1e-5)


@pytest.mark.parametrize("mixing", ["permutation", "lu"])
def test_a_loaded_model_of_many_layers_samples_as_before(tmp_path, mixing):
    # Building a model draws random orders of features; loading must replace them.
    X, _ = make_blobs(200, n_features=5, random_state=0)
    flow = RealNVP(n_layers=6, hidden=(8,), mixing=mixing)
    mixture = FlowMixture(2, flow=flow, max_epochs=2, random_state=0)
    mixture.fit(X).save(tmp_path / "model.vmonf")
    loaded = FlowMixture.load(tmp_path / "model.vmonf")
    np.testing.assert_array_equal(loaded.sample(50)[0], mixture.sample(50)[0])


def test_settings_and_results_are_in_the_file(tmp_path, fitted):
    fitted.save(tmp_path / "model.vmonf")
    loaded = FlowMixture.load(tmp_path / "model.vmonf")
    assert loaded.get_params() == fitted.get_params()
    for name in ("history_", "converged_", "n_epochs_", "best_epoch_", "shrinkage_", "verdict_"):
        assert getattr(loaded, name) == getattr(fitted, name)
    np.testing.assert_array_equal(loaded.classes_, fitted.classes_)


def test_centres_come_back_from_a_file_as_an_array(tmp_path, blobs):
    X, y = blobs
    centres = np.array([X[y == c].mean(axis=0) for c in range(3)])
    mixture = FlowMixture(3, init=centres, weights=(0.2, 0.3, 0.5), random_state=0, **QUICK).fit(X)
    mixture.save(tmp_path / "model.vmonf")
    loaded = FlowMixture.load(tmp_path / "model.vmonf")
    assert isinstance(loaded.init, np.ndarray)
    np.testing.assert_array_equal(loaded.init, centres)
    assert loaded.weights == (0.2, 0.3, 0.5)
    np.testing.assert_array_equal(loaded.fit(X).score_samples(X), mixture.score_samples(X))


def test_the_package_shows_its_names():
    import vmonf

    assert {"FlowMixture", "RealNVP", "MAF", "NSF", "PosteriorMLP", "Training"} <= set(dir(vmonf))
    for name in vmonf.__all__:
        assert getattr(vmonf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'FlowMixtures'"):
        _ = vmonf.FlowMixtures


def test_the_torch_model_can_be_trained_on(fitted, blobs):
    X, _ = blobs
    model = FlowMixture(3, random_state=0, **QUICK).fit(X).model_
    x = torch.tensor(X)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = model.elbo(x).mean()
    for _ in range(5):
        optimizer.zero_grad()
        (-model.elbo(x).mean()).backward()
        optimizer.step()
    assert model.elbo(x).mean() > before


def test_verbose_shows_a_bar_on_standard_error_and_nothing_else(blobs, capfd):
    FlowMixture(3, random_state=0, verbose=1, **QUICK).fit(blobs[0])
    shown = capfd.readouterr()
    assert "Training" in shown.err
    assert "ELBO" in shown.err
    assert "3/3" in shown.err
    assert shown.out == ""


def test_a_quiet_fit_says_nothing(blobs, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FlowMixture(3, random_state=0, **QUICK).fit(blobs[0])
    shown = capfd.readouterr()
    assert shown.err + shown.out == ""


# ------------------------------------------------------------------ regressions


@pytest.mark.long
def test_restarts_score_what_they_keep():
    X, _ = make_blobs(400, centers=9, cluster_std=0.5, random_state=1)
    one = FlowMixture(9, init="random", max_epochs=0, random_state=4).fit(X)
    best = FlowMixture(9, init="random", n_init=8, max_epochs=0, random_state=4).fit(X)
    reference = GaussianMixture(9, n_init=10, random_state=0).fit(X).score(X)
    assert best.score(X) >= one.score(X) - 1e-6
    assert best.score(X) > reference - 0.2


def test_classes_of_many_labels_are_held_out_too_and_those_of_few_are_not():
    X, y = make_blobs(600, centers=2, random_state=0)
    labels = np.where((y == 0) | (np.cumsum(y == 1) <= 5), y, -1)
    from vmonf.fitting import Table, prepare
    from vmonf.rows import distinct_rows
    from vmonf.settings import resolve

    rows = distinct_rows(X, np.ones(600), labels, np.full(600, -1))
    settings = resolve(FlowMixture(2).get_params(), 600, 2, 2)
    prepared = prepare(Table.of(rows, ["a", "b"]), settings, seed=0)
    train, held_out = prepared.train, prepared.held_out
    assert len(held_out) == 60
    assert (rows.component[held_out] == 0).sum() > 15
    assert (rows.component[held_out] == 1).sum() == 0
    assert not set(train) & set(held_out)


@pytest.mark.parametrize("kind", ["rounded", "one is tiny"])
def test_no_row_is_trained_on_and_held_out_with_weights_that_count_no_rows(kind):
    from vmonf.fitting import Table, prepare
    from vmonf.rows import distinct_rows
    from vmonf.settings import resolve

    random = np.random.default_rng(0)
    X, weight = random.standard_normal((300, 2)), random.exponential(size=300)
    weight = np.round(weight, 2) + 0.01 if kind == "rounded" else np.append(1e-12, weight[1:])
    nowhere = np.full(300, -1)
    rows = distinct_rows(X, weight, nowhere, nowhere)
    settings = resolve(FlowMixture(2, init="kmeans").get_params(), 300, 2, 2)
    prepared = prepare(Table.of(rows, ["a", "b"]), settings, seed=0)
    train, held_out = (prepared.standardised.x[i] for i in (prepared.train, prepared.held_out))
    assert (len(train), len(held_out)) == (270, 30)
    assert not np.isin(held_out[:, 0], train[:, 0]).any()


def test_of_repeated_rows_some_repetitions_are_held_out():
    from vmonf.fitting import Table, prepare
    from vmonf.rows import distinct_rows
    from vmonf.settings import resolve

    random = np.random.default_rng(0)
    X = np.round(random.standard_normal((2000, 1)), 1)
    X = np.vstack([X, random.standard_normal((300, 1))])
    nowhere = np.full(len(X), -1)
    rows = distinct_rows(X, np.ones(len(X)), nowhere, nowhere)
    settings = resolve(FlowMixture(2, init="kmeans").get_params(), rows.n_rows, 1, 2)
    prepared = prepare(Table.of(rows, ["a"]), settings, seed=0)
    assert prepared.standardised.weight.sum() == pytest.approx(rows.weight.sum())
    train, held_out = (
        prepared.standardised.take(index) for index in (prepared.train, prepared.held_out)
    )
    assert held_out.weight.sum() == pytest.approx(0.1 * rows.weight.sum(), rel=0.15)
    both = np.intersect1d(train.x, held_out.x)
    weights = {}
    for part in (train, held_out):
        for x, weight in zip(part.x[:, 0], part.weight, strict=True):
            weights[x] = weights.get(x, 0.0) + weight
    x = prepared.standardised.x[: rows.n_rows, 0]
    np.testing.assert_allclose([weights[value] for value in x], rows.weight)
    counts = rows.weight / rows.weight.min()
    assert len(both) > 0.5 * (counts > 9).sum()
    assert np.isin(both, x[counts > 1.5]).all()


@pytest.mark.filterwarnings("ignore:The density is unbounded where values repeat")
def test_values_that_repeat_get_components_as_narrow_as_they_are():
    random = np.random.default_rng(1)
    clusters = np.full(500, 1.5), random.normal(-1.2, 0.1, 600), random.normal(0, 0.27, 900)
    X = np.round(random.permutation(np.concatenate(clusters)) / 0.2)[:, None] * 0.2
    train, test = X[::2], X[1::2]
    reference = GaussianMixture(3, random_state=0).fit(train).score(test)
    assert FlowMixture(3, random_state=0, max_epochs=0).fit(train).score(test) > reference - 0.05


def test_one_label_a_class_does_not_spoil_the_start():
    X, y = make_blobs(900, centers=[[-4, 0], [4, 0], [0, 5]], random_state=0)
    labels = np.full(900, -1)
    for c in range(3):
        labels[np.flatnonzero(y == c)[0]] = c
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(X, labels)
    assert mixture.history_["log_likelihood"][0] > -6
    assert (mixture.predict(X) == y).mean() > 0.95


def test_a_few_far_rows_do_not_spoil_the_rest():
    random = np.random.default_rng(0)
    X = np.vstack([random.normal(size=(2000, 2)), 1e6 * random.normal(size=(3, 2))])
    mixture = FlowMixture(4, init="kmeans", random_state=0, max_epochs=0).fit(X)
    truth = -np.log(2 * np.pi * np.e)
    assert mixture.score(X[:2000]) > truth - 0.1


def test_a_heavy_row_counts_as_one_row_in_the_error_of_the_gain():
    from vmonf.judge import compare

    random = np.random.default_rng(0)
    weight = np.where(np.arange(1000) < 5, 200.0, 1.0)
    nothing = np.zeros(1000)
    means = [compare(random.normal(size=1000), nothing, weight) for _ in range(300)]
    spread = np.std([mean for mean, _ in means])
    claimed = np.median([error for _, error in means])
    assert spread / 2 < claimed < 2 * spread
    plain = random.normal(size=50)
    error = compare(plain, np.zeros(50), np.ones(50)).error
    assert error == pytest.approx(plain.std(ddof=1) / np.sqrt(50))


@pytest.mark.long
def test_given_clusters_may_be_few():
    X, y = make_blobs(300, centers=[[-5, 0], [5, 0], [0, 6]], random_state=0)
    for n_given in (0, 1, 6):
        init = np.full(300, -1)
        init[:n_given] = y[:n_given]
        mixture = FlowMixture(3, random_state=0, **QUICK).fit(X, clusters=init)
        assert clustering_accuracy(y, mixture.predict(X)) > 0.95


@pytest.mark.parametrize("temperature", [np.float32(2), np.int64(2), (2, 1)])
@pytest.mark.long
def test_temperatures_of_any_number_type(blobs, temperature):
    settings = QUICK | {"temperature": temperature}
    assert np.isfinite(FlowMixture(2, random_state=0, **settings).fit(blobs[0]).score(blobs[0]))


def test_a_decay_that_leaves_no_epoch_is_refused(blobs):
    settings = QUICK | {"temperature": (5.0, 1.0), "temperature_epochs": 3}
    with pytest.raises(ValueError, match="=3 must be less than max_epochs=3"):
        FlowMixture(2, **settings).fit(blobs[0])


def test_a_file_holds_the_parameters_of_the_fit(tmp_path, blobs):
    X, _ = blobs
    settings = QUICK | {"posterior": PosteriorMLP(hidden=(np.int64(16),))}
    mixture = FlowMixture(3, random_state=0, **settings).fit(X)
    mixture.set_params(posterior__hidden=(32,), weights="learned").save(tmp_path / "model.vmonf")
    loaded = FlowMixture.load(tmp_path / "model.vmonf")
    assert loaded.get_params()["posterior"] == PosteriorMLP(hidden=(16,))
    np.testing.assert_array_equal(loaded.score_samples(X), mixture.score_samples(X))


def test_a_model_made_double_stays_double_in_a_file(tmp_path, blobs):
    X, _ = blobs
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(X)
    mixture.model_.double()
    mixture.save(tmp_path / "model.vmonf")
    loaded = FlowMixture.load(tmp_path / "model.vmonf")
    assert loaded.model_.flows.whitening.mean.dtype == torch.float64
    np.testing.assert_array_equal(loaded.score_samples(X), mixture.score_samples(X))


def test_after_a_failed_fit_the_estimator_says_it_is_not_fitted():
    from sklearn.exceptions import NotFittedError

    mixture = FlowMixture(2)
    with pytest.raises(ValueError, match="constant"):
        mixture.fit(np.column_stack([np.arange(30.0), np.ones(30)]))
    with pytest.raises(NotFittedError):
        mixture.predict([[1.0, 2.0]])


def test_a_failed_fit_leaves_the_estimator_as_it_was(blobs):
    X, _ = blobs
    table = pandas.DataFrame(X, columns=["a", "b"])
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(table)
    before, scores = dict(vars(mixture)), mixture.score_samples(table)
    constant = np.column_stack([np.arange(30.0), np.ones(30), np.arange(30.0)])
    with pytest.raises(ValueError, match="constant"):
        mixture.fit(constant, np.arange(30) % 3)
    with pytest.raises(RuntimeError, match="stop"):
        mixture.fit(X[:200, :1], watchers=[stop])
    assert vars(mixture).keys() == before.keys()
    assert all(vars(mixture)[name] is before[name] for name in before)
    np.testing.assert_array_equal(mixture.score_samples(table), scores)
    assert mixture.n_components_ == 3
    mixture.fit(X)  # X has no column names
    assert not hasattr(mixture, "feature_names_in_")


def stop(mixture):
    raise RuntimeError("stop")


def test_a_watched_mixture_has_no_results_of_an_earlier_fit(blobs):
    X, _ = blobs
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(X)
    seen = []

    def watch(now):
        seen.append((now.n_epochs_, hasattr(now, "gain_"), hasattr(now, "shrinkage_")))

    mixture.fit(X, watchers=[watch])
    assert seen == [(0, False, False), (1, False, False), (2, False, False), (3, False, False)]
    assert hasattr(mixture, "gain_")


def test_clusters_that_do_not_fit_are_refused(blobs):
    X, y = blobs
    for clusters in (y[:-1], y + 1, y + 0.5):
        with pytest.raises(ValueError, match="clusters must give each of 300 rows a cluster"):
            FlowMixture(3, **QUICK).fit(X, clusters=clusters)
    with pytest.raises(ValueError, match="cannot be combined with init='none'"):
        FlowMixture(3, init="none", **QUICK).fit(X, clusters=y)


def test_a_posterior_of_no_numbers_is_named_as_such(blobs):
    X, _ = blobs
    mixture = FlowMixture(3, random_state=0, **QUICK).fit(X)
    with torch.no_grad():
        for parameter in mixture.model_.posterior_network.parameters():
            parameter.fill_(torch.nan)
    for score in (mixture.predict, mixture.predict_proba, mixture.elbo):
        with pytest.raises(ArithmeticError, match="Row 0 has no cluster: the posterior network"):
            score(X)
    assert np.isfinite(mixture.score_samples(X)).all()
    assert mixture.predict(X, method="exact").shape == (300,)


def test_absurdly_far_rows_have_a_cluster_and_a_score(fitted):
    far = np.array([[1e25, 0.0], [-1e300, 1e300]])
    assert np.isfinite(fitted.score_samples(far)).all()
    assert fitted.predict(far, method="exact").shape == (2,)


def test_a_device_that_is_not_there_is_refused(blobs):
    for device in ("cuda:77", "nonsense", "meta"):
        with pytest.raises(ValueError, match="is not available on this machine"):
            FlowMixture(2, device=device, **QUICK).fit(blobs[0])


def test_threads_are_put_back(blobs):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        FlowMixture(2, random_state=0, **QUICK).fit(blobs[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:The density is unbounded where values repeat")
@pytest.mark.long
def test_refinement_closes_the_gap_of_the_posterior(monkeypatch):
    import vmonf.fitting

    X = load_iris().data
    train, test = X[::2], X[1::2]
    refined = FlowMixture(3, random_state=0).fit(train).gap(test).mean()
    monkeypatch.setattr(vmonf.fitting, "refine_posterior", lambda *_: None)
    plain = FlowMixture(3, random_state=0).fit(train).gap(test).mean()
    assert refined < 0.7 * plain


# ------------------------------------------------------------------ components of several atoms


@pytest.fixture(scope="module")
def moons():
    X, y = make_moons(300, noise=0.07, random_state=0)
    return X, y, FlowMixture(2, max_epochs=2, random_state=0).fit(X)


def test_a_gaussian_mixture_that_is_kept_has_clusters_of_any_shape(moons):
    _, _, mixture = moons
    fresh, labels = make_moons(2000, noise=0.07, random_state=1)
    assert mixture.verdict_.kept == "gaussian mixture"
    for method in ("posterior", "exact"):
        assert clustering_accuracy(labels, mixture.predict(fresh, method=method)) > 0.98
    plain = FlowMixture(2, base=1, init="kmeans", max_epochs=0, random_state=0).fit(moons[0])
    assert mixture.score(fresh) > plain.score(fresh) + 0.5


def test_atoms_are_in_the_file(moons, tmp_path):
    X, _, mixture = moons
    mixture.save(tmp_path / "model.vmonf")
    again = FlowMixture.load(tmp_path / "model.vmonf")
    np.testing.assert_array_equal(again.score_samples(X), mixture.score_samples(X))
    drawn = [each.sample(50, random_state=3)[0] for each in (mixture, again)]
    np.testing.assert_array_equal(*drawn)
    assert again.bic(X) == mixture.bic(X)


def test_the_history_follows_the_start(moons):
    X, _, mixture = moons
    assert all(0.9 < value <= 1 for value in mixture.history_["start_agreement"])
    without = FlowMixture(2, init="kmeans", random_state=0, **QUICK).fit(X)
    assert set(without.history_["start_agreement"]) == {None}


def test_a_far_row_costs_tens_of_nats_and_not_hundreds(moons):
    X, _, mixture = moons
    plain = FlowMixture(2, base=1, init="kmeans", max_epochs=0, random_state=0).fit(X)
    far = X.mean(axis=0, keepdims=True) + 30
    assert mixture.score(far) > -60
    assert plain.score(far) < -400


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"base": 0}, "base=0 must be"),
        ({"base": 3, "init": "none"}, "cannot be combined with init='none'"),
    ],
)
def test_a_base_that_cannot_be_is_refused(parameters, message, blobs):
    with pytest.raises(ParameterError, match=message):
        FlowMixture(3, **QUICK | parameters).fit(blobs[0])


@pytest.mark.long
def test_two_labels_a_class_are_as_good_as_none():
    X, y = make_moons(500, noise=0.07, random_state=3)
    labels = np.full(len(y), -1)
    for c in (0, 1):
        labels[np.flatnonzero(y == c)[:2]] = c
    mixture = FlowMixture(2, max_epochs=2, random_state=0).fit(X, labels)
    assert (mixture.predict(X) == y).mean() > 0.98


def test_scores_are_in_double_precision_so_that_a_minimiser_finds_the_mode(blobs):
    from scipy.optimize import minimize

    X, _ = blobs
    mixture = FlowMixture(1, max_epochs=0, base=1, random_state=0).fit(X)
    found = minimize(lambda x: -mixture.score_samples(x[None])[0], X[0])
    assert found.nit > 0
    np.testing.assert_allclose(found.x, X.mean(axis=0), atol=1e-3)
    single = FlowMixture(1, max_epochs=0, base=1, precision="single", random_state=0).fit(X)
    assert next(single.model_.parameters()).dtype == torch.float32
    difference = np.abs(single.score_samples(X) - mixture.score_samples(X))
    assert 0 < difference.max() < 1e-4
