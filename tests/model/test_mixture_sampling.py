"""Samples of the mixture: their labels, their order, their numbers and their cost."""

import pytest
import torch
from scipy.stats import binom, chisquare, kstest

SEED = 11


def seeded(seed=SEED):
    return torch.Generator().manual_seed(seed)


def far_apart(make_model, *args, **options):
    """A model whose component c sits at 1e4 c in standardised units."""
    model = make_model(*args, **options)
    with torch.no_grad():
        model.flows.whitening.mean.add_(1e4 * torch.arange(model.n_components)[:, None, None])
    return model


def drawn_from(model, x):
    places = (model.standardizer(x) / 1e4).round()
    assert (places == places[:, :1]).all()
    return places[:, 0].long()


def test_each_row_is_labelled_with_the_component_it_came_from(
    family, n_features, n_components, dtype, make_model
):
    model = far_apart(make_model, family, n_components, n_features, dtype=dtype)
    with torch.no_grad():
        x, components = model.sample(200, generator=seeded())
    assert x.shape == (200, n_features)
    assert x.dtype == torch.float64
    assert components.shape == (200,)
    assert components.dtype == torch.int64
    assert torch.equal(drawn_from(model, x), components)


@pytest.mark.parametrize("component", [0, 2])
def test_one_component_alone_can_be_drawn(family, n_features, dtype, make_model, component):
    model = far_apart(make_model, family, 3, n_features, dtype=dtype)
    with torch.no_grad():
        x, components = model.sample(50, component=component, generator=seeded())
    assert (components == component).all()
    assert torch.equal(drawn_from(model, x), components)


def test_rows_are_shuffled_not_sorted_by_component(make_model):
    model = make_model("realnvp", 3, 2)
    _, components = model.sample(3000, generator=seeded())
    changes = (components.diff() != 0).double().mean().item()
    shares = components.bincount() / 3000
    # Of independent draws: neighbours differ as often as two draws do.
    expected = 1 - (shares**2).sum().item()
    assert abs(changes - expected) < 5 * (expected * (1 - expected) / 3000) ** 0.5


def test_components_are_drawn_by_their_weights(make_model):
    for learn_weights in (False, True):
        model = make_model("realnvp", 3, 1, learn_weights=learn_weights)
        model.set_weights(torch.tensor([0.7, 0.05, 0.25]))
        with torch.no_grad():
            _, components = model.sample(5000, generator=seeded())
        counts = components.bincount(minlength=3).numpy()
        assert chisquare(counts, [3500, 250, 1250]).pvalue > 1e-3


def test_the_generator_determines_the_sample(family, make_model):
    model = make_model(family, 3, 2)
    with torch.no_grad():
        first, again, other = (model.sample(30, generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("component", [None, 1])
@pytest.mark.parametrize("n_rows", [0, 1])
def test_no_rows_or_one_row_can_be_drawn(make_model, n_rows, component):
    model = make_model("realnvp", 3, 2)
    x, components = model.sample(n_rows, component=component, generator=seeded())
    assert x.shape == (n_rows, 2)
    assert components.shape == (n_rows,)


def test_order_within_a_component_is_random_too(make_model):
    # Were rows handed out in a fixed order of size, halves of a sample would differ.
    model = make_model("nsf", 2, 1)
    with torch.no_grad():
        x, _ = model.sample(2000, generator=seeded())
    assert kstest(x[:1000, 0].numpy(), x[1000:, 0].numpy()).pvalue > 1e-3


def test_samples_have_the_shares_that_responsibilities_say(family, make_model):
    # Bayes' rule: rows of which the model says "70% component 1" come from it in 70% of cases.
    model = make_model(family, 3, 2, seed=1)
    with torch.no_grad():
        x, components = model.sample(4000, generator=seeded())
        responsibilities = model.log_responsibilities(x).exp()
    for component in range(3):
        expected = responsibilities[:, component]
        variance = (expected * (1 - expected)).sum()
        difference = (components == component).sum() - expected.sum()
        assert difference.abs() < 5 * variance.sqrt() + 1e-6
        unsure = (expected > 0.2) & (expected < 0.8)
        if unsure.sum() > 50:
            n_hits = int((components[unsure] == component).sum())
            p = expected[unsure].mean().item()
            assert 1e-5 < binom.cdf(n_hits, int(unsure.sum()), p) < 1 - 1e-5


def test_samples_are_differentiable_in_the_flows_parameters(family, n_features, dtype, make_model):
    model = make_model(family, 3, n_features, dtype=dtype)
    x, components = model.sample(40, generator=seeded())
    assert components.bincount(minlength=3).min() > 0
    x.square().mean().backward()
    for name, parameter in model.flows.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    assert (model.flows.whitening.mean.grad != 0).all()


@pytest.mark.parametrize("n_components", [2, 16, 64], ids="K={}".format)
@pytest.mark.parametrize("skewed", [False, True], ids=["even", "skewed"])
def test_cost_of_a_sample_does_not_grow_with_the_components(make_model, n_components, skewed):
    model = make_model("realnvp", n_components, 2, n_layers=2)
    if skewed:
        model.set_weights(0.7 ** torch.arange(n_components) + 1e-6)
    rows = []
    model.flows.chain.register_forward_hook(
        lambda chain, inputs, outputs: rows.append(outputs[0].shape[:2].numel())
    )
    with torch.no_grad():
        model.sample(1000, generator=seeded())
    assert sum(rows) < 2 * 1000
