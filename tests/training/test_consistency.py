"""Tests of the term that makes the posterior agree between rows and perturbed rows."""

import math

import numpy as np
import pytest
import torch

from vmonf import FlowMixture, PosteriorMLP, RealNVP, Training
from vmonf.data import Pinwheel
from vmonf.model import Terms
from vmonf.parameters import ParameterError
from vmonf.rows import Rows
from vmonf.training import Consistency, bound_objective
from vmonf.training.objective import Evaluation

QUICK = {
    "max_epochs": 2,
    "flow": RealNVP(n_layers=2, hidden=(8,)),
    "posterior": PosteriorMLP(hidden=(8,)),
    "training": Training(consistency="noise"),
}


def rows_of(x, spacing=None):
    nowhere = torch.full((len(x),), -1)
    return Rows(x, torch.ones(len(x), dtype=x.dtype), nowhere, nowhere, spacing=spacing)


def evaluation_of(model, x, temperature=1.0, spacing=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    terms = model.terms(x, temperature)
    return Evaluation(model, rows_of(x, spacing), terms, temperature, generator)


def moved(x, generator):
    """Move each row by a fixed step."""
    return x + torch.tensor([0.3, -0.2], dtype=x.dtype)


@pytest.fixture
def model(make_model):
    return make_model("realnvp", 3, 2, dtype=torch.float64)


@pytest.fixture
def x(model):
    generator = torch.Generator().manual_seed(5)
    shift, scale = model.standardizer.shift, model.standardizer.scale
    return shift + scale * torch.randn(6, 2, generator=generator, dtype=torch.float64)


def test_the_value_is_the_mean_of_both_divergences(model, x):
    term = Consistency(moved, size=0.0, weight=2.5)
    with torch.no_grad():
        found = term(evaluation_of(model, x, temperature=2.0))
        first = model.log_posterior(x, 2.0).tolist()
        second = model.log_posterior(moved(x, None), 2.0).tolist()
    for b in range(len(x)):
        there = sum(math.exp(q) * (q - r) for q, r in zip(first[b], second[b], strict=True))
        back = sum(math.exp(r) * (r - q) for q, r in zip(first[b], second[b], strict=True))
        assert float(found[b]) == pytest.approx(-2.5 * (there + back) / 2, abs=1e-12)


def test_the_gradient_is_that_of_cross_entropies_to_fixed_targets(model, x):
    term = Consistency(moved, size=0.0, weight=1.5)
    term(evaluation_of(model, x)).sum().backward()
    other = moved(x, None)
    with torch.no_grad():
        first, second = model.log_posterior(x).exp(), model.log_posterior(other).exp()

    def cross_entropies():
        with torch.no_grad():
            there = (first * model.log_posterior(other)).sum()
            return 0.75 * float(there + (second * model.log_posterior(x)).sum())

    for parameter in model.posterior_network.parameters():
        values, step = parameter.data.view(-1), 1e-6
        for i in range(0, len(values), max(1, len(values) // 7)):
            before = float(values[i])
            values[i] = before + step
            high = cross_entropies()
            values[i] = before - step
            low = cross_entropies()
            values[i] = before
            assert float(parameter.grad.view(-1)[i]) == pytest.approx(
                (high - low) / (2 * step), rel=1e-5, abs=1e-8
            )


def test_no_gradient_reaches_the_flows_or_the_weights(model, x):
    Consistency(moved, size=0.0, weight=1.0)(evaluation_of(model, x)).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("posterior_network"), name


def test_the_gradient_stays_where_q_is_certain_and_contradicts_itself():
    first = torch.tensor([[40.0, 0.0]], dtype=torch.float64, requires_grad=True)
    second = torch.tensor([[0.0, 40.0]], dtype=torch.float64, requires_grad=True)

    class Certain:
        def log_posterior(self, x, temperature):
            return second.log_softmax(-1)

    terms = Terms(torch.zeros(1, 2), first.log_softmax(-1))
    rows = rows_of(torch.zeros(1, 2, dtype=torch.float64))
    evaluation = Evaluation(Certain(), rows, terms, 1.0, torch.Generator())
    Consistency(lambda x, generator: x, 0.0, 1.0)(evaluation).sum().backward()
    expected = torch.tensor([[-0.5, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(first.grad, expected)
    torch.testing.assert_close(second.grad, -expected)


def test_an_unperturbed_row_agrees(model, x):
    value = Consistency(lambda x, generator: x, 0.0, 1.0)(evaluation_of(model, x))
    assert value.abs().max() == 0


def test_the_noise_has_the_length_of_the_spacing(model):
    n = 4000
    x = torch.zeros(n, 2, dtype=torch.float64)
    spacing = torch.linspace(0.1, 2, n, dtype=torch.float64)
    term = Consistency("noise", size=1.5, weight=1.0)
    perturbed = term._perturbed(evaluation_of(model, x, spacing=spacing))
    length = ((perturbed - x) / model.standardizer.scale).norm(dim=1) / spacing
    assert float(length.square().mean().sqrt()) == pytest.approx(1.5, rel=0.05)
    with pytest.raises(ValueError, match="have no spacing"):
        term(evaluation_of(model, x))


def test_features_left_out_have_values_of_other_rows(make_model):
    model = make_model("realnvp", 2, 3, dtype=torch.float64)
    x = torch.arange(3000, dtype=torch.float64).reshape(1000, 3)
    perturbed = Consistency("features", 0.3, 1.0)._perturbed(evaluation_of(model, x))
    changed = perturbed != x
    assert not changed.all(dim=1).any()
    # One of three features is always kept.
    assert float(changed.double().mean()) == pytest.approx(0.3 * 2 / 3, abs=0.03)
    for column in range(3):
        assert set(perturbed[:, column].tolist()) <= set(x[:, column].tolist())


def test_it_takes_sparse_terms_and_labels(make_model):
    model = make_model("realnvp", 6, 2, dtype=torch.float64)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    label = torch.tensor([0, -1, 5, -1, -1, -1, 2, -1])
    rows = Rows(x, torch.ones(8, dtype=torch.float64), label, label)
    term = Consistency(moved, 0.0, 1.0)
    with torch.no_grad():
        (both, _), (bound, _) = (
            bound_objective("elbo", 2, further)(model, rows, 1.0, torch.Generator().manual_seed(0))
            for further in ((term,), ())
        )
        whole = term(Evaluation(model, rows, model.terms(x), 1.0, None))
    assert float(both - bound) == pytest.approx(float(whole.mean()))


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, generator: x[:3], r"must return a tensor of the shape \(6, 2\).*\(3, 2\)"),
        (lambda x, generator: None, "returned NoneType"),
        (lambda x, generator: x / 0, "NaN or infinite"),
    ],
)
def test_a_function_that_does_not_return_rows_is_refused(model, x, function, words):
    with pytest.raises(ParameterError, match=f"training__consistency.*{words}"):
        Consistency(function, 0.0, 1.0)(evaluation_of(model, x))


# ------------------------------------------------------------------ in a fit


@pytest.fixture(scope="module")
def wings():
    return Pinwheel().sample(60, random_state=0)


@pytest.mark.parametrize("n_components", [5, 20])
@pytest.mark.parametrize("consistency", ["noise", "features", moved])
@pytest.mark.long
def test_it_is_part_of_a_fit(wings, n_components, consistency):
    X, wing = wings
    labels = np.where(np.arange(len(X)) % 3 == 0, wing, -1)
    scores = []
    for given in (consistency, consistency, None):
        mixture = FlowMixture(n_components, random_state=0, init="none", **QUICK)
        mixture.set_params(training__consistency=given, training__consistency_weight=5.0)
        scores.append(mixture.fit(X, labels).history_["training_objective"])
    assert scores[0] == scores[1]
    assert scores[0] != scores[2]


def test_it_makes_q_agree(wings):
    X, _ = wings
    gaps = []
    for given in (None, moved):
        mixture = FlowMixture(5, random_state=0, **QUICK).set_params(
            init="kmeans",
            base=1,
            weights="uniform",
            training__consistency=given,
            training__consistency_weight=100.0,
            training__refine_posterior=False,
            training__learning_rate=1e-2,
            training__batch_size=64,
            validation_fraction=0.0,
            max_epochs=20,
        )
        mixture.fit(X)
        first, second = (mixture.predict_proba(x) for x in (X, X + np.array([[0.3, -0.2]])))
        gaps.append(np.abs(first - second).sum(axis=1).mean())
    assert gaps[1] < 0.5 * gaps[0]


@pytest.mark.long
def test_without_it_the_other_settings_change_nothing(wings):
    X, _ = wings
    fits = [
        FlowMixture(5, random_state=0, **QUICK).set_params(
            training=Training(consistency_weight=weight, consistency_size=size)
        )
        for weight, size in ((1.0, "auto"), (7.0, 0.3))
    ]
    first, second = (mixture.fit(X).score_samples(X) for mixture in fits)
    np.testing.assert_array_equal(first, second)


@pytest.mark.long
def test_a_model_file_has_the_name_of_a_function(wings, tmp_path):
    X, _ = wings
    mixture = FlowMixture(5, random_state=0, **QUICK).set_params(training__consistency=moved)
    mixture.fit(X).save(tmp_path / "m.vmonf")
    loaded = FlowMixture.load(tmp_path / "m.vmonf")
    np.testing.assert_array_equal(loaded.score_samples(X), mixture.score_samples(X))
    assert loaded.training.consistency == f"{__name__}.moved"
    with pytest.raises(ParameterError, match=r"training__consistency=.*moved' is not known.*give"):
        loaded.fit(X)
    loaded.set_params(training__consistency=moved).fit(X)
    np.testing.assert_array_equal(loaded.score_samples(X), mixture.score_samples(X))


@pytest.mark.long
def test_a_fit_goes_on_from_its_checkpoint(wings, tmp_path):
    X, _ = wings

    def mixture(max_epochs, **options):
        return FlowMixture(5, random_state=0, **QUICK | options).set_params(
            training__consistency=moved, max_epochs=max_epochs
        )

    whole = mixture(4).fit(X)
    for max_epochs in (2, 4):
        resumed = mixture(max_epochs, checkpoint=tmp_path / "state").fit(X)
    np.testing.assert_array_equal(resumed.score_samples(X), whole.score_samples(X))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"consistency": "blur"}, "consistency='blur' is not known: choose one of noise, features"),
        ({"consistency": 3}, "consistency=3 is not known"),
        ({"consistency_weight": -1}, "consistency_weight=-1 must be a number at least 0"),
        ({"consistency_size": -1}, "consistency_size=-1 must be a number at least 0"),
        (
            {"consistency": "features", "consistency_size": 1.5},
            "consistency_size=1.5 must be at most 1 with consistency='features'",
        ),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(ParameterError, match=words):
        Training(**settings).check()


def test_a_single_feature_cannot_be_left_out(wings):
    mixture = FlowMixture(2, **QUICK).set_params(training__consistency="features")
    with pytest.raises(ParameterError, match="consistency='features' needs at least 2 features"):
        mixture.fit(wings[0][:, :1])
