"""The mixture: one log_joint, and what must follow from it."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp

from vmonf.model import MixtureModel, PosteriorNetwork, Standardizer, in_parts

row_types = pytest.mark.parametrize("row_type", [torch.float32, torch.float64], ids=str)


def rows_of(model, n_rows=12, deviations=2.0):
    """Rows in the model's own units, where its components are."""
    z = deviations * torch.randn(n_rows, model.n_features, dtype=torch.float64)
    return model.standardizer.inverse(z)


def reference_log_joint(model, oracle, x):
    """log p(x, c) in float64 by loops and numpy alone: (B, K)."""
    state = {name: values.double().numpy() for name, values in model.state_dict().items()}
    scale = state["standardizer.scale"]
    standardised = (x.numpy() - state["standardizer.shift"]) / scale
    log_weights = log_softmax(state["log_weight_logits"])
    return np.array(
        [
            [
                oracle(model.flows, c, row) - np.log(scale).sum() + log_weights[c]
                for c in range(model.n_components)
            ]
            for row in standardised
        ]
    )


def reference_logits(model, x):
    """The posterior network in numpy: (B, K)."""
    state = {name: values.double().numpy() for name, values in model.state_dict().items()}
    values = (x.numpy() - state["standardizer.shift"]) / state["standardizer.scale"]
    weights = [n for n in state if n.startswith("posterior_network") and n.endswith("weight")]
    for name in weights:
        bias = state[name.removesuffix("weight") + "bias"]
        values = np.einsum("bi,oi->bo", values, state[name]) + bias
        if name != weights[-1]:
            values = np.maximum(values, 0)
    return values


def assert_close(actual, expected, dtype):
    """To the rounding of the flows' type, magnified some hundred times by the maps."""
    tolerance = 1000 * torch.finfo(dtype).eps
    scale = 1 + np.abs(expected)
    assert (np.abs(actual.numpy() - expected) <= tolerance * scale).all()


# Against the loop in float64


def test_log_joint_equals_the_loop(family, n_features, n_components, dtype, make_model, oracle):
    model = make_model(family, n_components, n_features, dtype=dtype)
    x = rows_of(model, 6)
    with torch.no_grad():
        log_joint = model.log_joint(x)
    assert_close(log_joint, reference_log_joint(model, oracle, x), dtype)


def test_log_prob_and_responsibilities_are_logsumexp_and_softmax_of_the_loop(
    family, n_features, dtype, make_model, oracle
):
    model = make_model(family, 3, n_features, dtype=dtype)
    x = rows_of(model, 6)
    log_joint = reference_log_joint(model, oracle, x)
    with torch.no_grad():
        log_prob, log_responsibilities = model.log_prob(x), model.log_responsibilities(x)
    assert_close(log_prob, logsumexp(log_joint, axis=1), dtype)
    assert_close(log_responsibilities, log_softmax(log_joint, axis=1), dtype)


def test_elbo_and_gap_equal_the_loop(family, n_features, dtype, make_model, oracle):
    model = make_model(family, 3, n_features, dtype=dtype)
    x = rows_of(model, 6)
    log_joint = reference_log_joint(model, oracle, x)
    log_q = log_softmax(reference_logits(model, x), axis=1)
    with torch.no_grad():
        terms = model.terms(x)
    elbo = (np.exp(log_q) * (log_joint - log_q)).sum(axis=1)
    divergence = (np.exp(log_q) * (log_q - log_softmax(log_joint, axis=1))).sum(axis=1)
    assert_close(terms.elbo, elbo, dtype)
    assert_close(terms.gap, divergence, dtype)


# Identities


@row_types
def test_elbo_is_log_prob_minus_the_divergence_of_the_posterior(
    family, n_features, dtype, make_model, row_type
):
    model = make_model(family, 3, n_features, dtype=dtype)
    x = rows_of(model).to(row_type)
    with torch.no_grad():
        log_q, log_responsibilities = model.log_posterior(x), model.log_responsibilities(x)
        log_prob, elbo = model.log_prob(x), model.elbo(x)
    divergence = (log_q.exp() * (log_q - log_responsibilities)).sum(dim=1)
    assert ((elbo - (log_prob - divergence)).abs() <= rounding(model, x)).all()


@row_types
def test_gap_is_log_prob_minus_elbo_and_never_negative(
    family, n_features, dtype, make_model, row_type
):
    model = make_model(family, 3, n_features, dtype=dtype)
    for deviations in (1.0, 30.0):
        x = rows_of(model, 50, deviations).to(row_type)
        with torch.no_grad():
            terms = model.terms(x)
        assert (terms.gap >= 0).all()
        error = (terms.gap - (terms.log_prob - terms.elbo)).abs()
        assert (error <= rounding(model, x)).all()


@torch.no_grad()
def rounding(model, x):
    """Of sums over components of log_joint, with q of the flows' precision: (B,)."""
    eps = max(torch.finfo(t).eps for t in (x.dtype, model.flows.whitening.mean.dtype))
    return 10 * eps * (1 + model.log_joint(x).abs().amax(dim=1))


def test_terms_are_what_the_methods_give(family, make_model):
    model = make_model(family, 3, 2, dtype=torch.float32)
    x = rows_of(model)
    with torch.no_grad():
        terms = model.terms(x, 1.7)
        assert torch.equal(terms.log_joint, model.log_joint(x))
        assert torch.equal(terms.log_posterior, model.log_posterior(x, 1.7))
        assert torch.equal(terms.log_prob, model.log_prob(x))
        assert torch.equal(terms.log_responsibilities, model.log_responsibilities(x))
        assert torch.equal(terms.elbo, model.elbo(x, 1.7))


@row_types
def test_results_come_in_the_precision_of_the_rows(dtype, make_model, row_type):
    model = make_model("nsf", 3, 2, dtype=dtype)
    x = rows_of(model).to(row_type)
    terms = model.terms(x)
    for result in (*terms, terms.log_prob, terms.elbo, terms.gap, model.component_log_prob(x)):
        assert result.dtype == row_type


def test_one_component_is_certain(family, make_model):
    model = make_model(family, 1, 2)
    x = rows_of(model)
    terms = model.terms(x)
    assert (terms.log_responsibilities == 0).all()
    assert (terms.log_posterior == 0).all()
    assert (terms.gap == 0).all()
    assert torch.equal(terms.elbo, terms.log_prob)


def test_weights_are_normalised_and_can_be_set(make_model):
    for learn_weights in (False, True):
        model = make_model("realnvp", 3, 2, learn_weights=learn_weights)
        torch.testing.assert_close(model.log_weights.exp().sum().item(), 1.0)
        x = rows_of(model)
        of_component = model.component_log_prob(x)
        model.set_weights(torch.tensor([2.0, 1.0, 5.0]))
        expected = torch.tensor([2.0, 1.0, 5.0], dtype=torch.float64).log() - math.log(8)
        torch.testing.assert_close(model.log_weights.double(), expected)
        torch.testing.assert_close(model.log_joint(x), of_component + expected)
        is_parameter = any("log_weight" in name for name, _ in model.named_parameters())
        assert is_parameter == learn_weights


def test_gradients_reach_rows_and_every_parameter(family, n_features, dtype, make_model):
    model = make_model(family, 3, n_features, dtype=dtype, learn_weights=True)
    x = rows_of(model).requires_grad_()
    model.elbo(x).mean().backward()
    assert x.grad.isfinite().all()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


def test_gradient_of_log_prob_is_that_of_finite_differences(family, n_features, make_model):
    model = make_model(family, 3, n_features)
    x = rows_of(model, 5).requires_grad_()
    direction = torch.randn_like(x)
    (gradient,) = torch.autograd.grad(model.log_prob(x).sum(), x)
    step = 1e-6
    with torch.no_grad():
        ahead, behind = (model.log_prob(x + sign * step * direction).sum() for sign in (1, -1))
    torch.testing.assert_close(
        (ahead - behind) / (2 * step), (gradient * direction).sum(), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("quantity", ["log_prob", "elbo", "gap"])
def test_values_and_gradients_are_finite_at_a_thousand_deviations(
    family, n_features, make_model, quantity
):
    model = make_model(family, 3, n_features, dtype=torch.float32)
    x = rows_of(model, 20, deviations=1.0)
    centre = model.standardizer.shift
    x = (centre + 1e3 * (x - centre)).float().requires_grad_()
    values = getattr(model.terms(x), quantity)
    assert values.isfinite().all()
    values.mean().backward()
    assert x.grad.isfinite().all()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.isfinite().all(), name


def test_evaluation_in_parts_is_evaluation_at_once(family, make_model):
    model = make_model(family, 3, 2)
    x = rows_of(model, 25)
    expected = model.log_joint(x)
    for n_rows in (1, 10, 25, 100):
        parts = in_parts(model.log_joint, x, n_rows)
        assert not parts.requires_grad
        torch.testing.assert_close(parts, expected)


# The posterior


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_posterior_is_the_softmax_of_the_networks_logits_over_the_temperature(
    n_features, n_components, dtype, make_model, temperature
):
    model = make_model("realnvp", n_components, n_features, dtype=dtype)
    x = rows_of(model)
    expected = log_softmax(reference_logits(model, x) / temperature, axis=1)
    rtol = 1e-4 if dtype is torch.float32 else 1e-10
    with torch.no_grad():
        given = model.log_posterior(x, temperature)
        model.temperature.fill_(temperature)
        kept = model.log_posterior(x)
    np.testing.assert_allclose(given.numpy(), expected, rtol=rtol, atol=rtol)
    assert torch.equal(kept, given), "the last temperature of training is the default"


def test_posterior_of_a_high_temperature_is_uniform(make_model):
    model = make_model("realnvp", 3, 2)
    q = model.log_posterior(rows_of(model), 1e9).exp()
    torch.testing.assert_close(q, torch.full_like(q, 1 / 3))


def test_posterior_of_a_low_temperature_is_certain_of_the_largest_logit(make_model):
    model = make_model("realnvp", 3, 2)
    x = rows_of(model)
    terms = model.terms(x, 1e-6)
    expected = torch.from_numpy(reference_logits(model, x)).argmax(dim=1)
    assert torch.equal(terms.log_posterior.argmax(dim=1), expected)
    certain = terms.log_joint.gather(1, expected[:, None])[:, 0]
    torch.testing.assert_close(terms.elbo, certain, rtol=1e-6, atol=1e-6)


# Dead components


def test_a_dead_component_leaves_the_others_bit_for_bit_and_stays_visible(
    family, n_features, dtype, make_model
):
    model = make_model(family, 3, n_features, dtype=dtype)
    dead = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in dead.flows.parameters():
            parameter[1] = float("nan")
    x = rows_of(model)
    for method in ("component_log_prob", "log_joint"):
        of_dead, of_model = getattr(dead, method)(x), getattr(model, method)(x)
        assert torch.equal(of_dead[:, [0, 2]], of_model[:, [0, 2]])
        assert of_dead[:, 1].isnan().all(), "never minus infinity: that would hide it"
    terms = dead.terms(x)
    for poisoned in (dead.log_prob(x), terms.log_prob, terms.elbo, terms.gap, dead.elbo(x)):
        assert poisoned.isnan().all()
    assert torch.equal(dead.log_posterior(x), model.log_posterior(x))


# State


def test_a_model_built_from_another_seed_takes_a_state_over_whole(family, n_features, make_model):
    model = make_model(family, 3, n_features, learn_weights=True)
    with torch.no_grad():
        model.temperature.fill_(2.5)
    other = make_model(family, 3, n_features, learn_weights=True, seed=9)
    other.load_state_dict(model.state_dict())
    x = rows_of(model)
    for mine, theirs in zip(model.terms(x), other.terms(x), strict=True):
        assert torch.equal(mine, theirs)
    mine, theirs = (
        m.sample(20, generator=torch.Generator().manual_seed(0)) for m in (model, other)
    )
    assert torch.equal(mine[1], theirs[1])
    assert torch.equal(mine[0], theirs[0])


def test_building_and_using_a_model_leave_global_randomness_alone(make_model):
    before = torch.get_rng_state()
    model = make_model("nsf-ar", 3, 7)
    generator = torch.Generator().manual_seed(0)
    model.sample(5, generator=generator)
    model.terms(torch.zeros(2, 7))
    PosteriorNetwork(7, 3, (4,), generator=generator)
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_given_are_normalised(make_flows):
    flows = make_flows("realnvp", 2, 1, dtype=torch.float32)
    model = MixtureModel(
        Standardizer(torch.zeros(1), torch.ones(1)),
        flows,
        PosteriorNetwork(1, 2, ()),
        torch.tensor([6.0, 2.0]),
    )
    torch.testing.assert_close(model.log_weights.exp(), torch.tensor([0.75, 0.25]))
