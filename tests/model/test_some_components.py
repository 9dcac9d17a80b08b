"""Tests of the model of some of the components."""

import pytest
import torch
from torch import nn

from vmonf.flows import RealNVP
from vmonf.model import MixtureModel, PosteriorMLP, build_model


@pytest.mark.parametrize("kept", [[0, 2, 3], [3, 1], [4]])
def test_the_density_is_the_renormalised_mixture_of_the_kept(make_model, family, dtype, kept):
    model = make_model(family, 5, 2, dtype=dtype, learn_weights=len(kept) == 2)
    model.temperature.fill_(1.5)
    x, _ = model.sample(40, generator=torch.Generator().manual_seed(0))
    reduced = model.only(torch.tensor(kept))
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {}
    with torch.no_grad():
        weights = model.log_weights.exp()[kept].double()
        weights = weights / weights.sum()
        densities = model.component_log_prob(x)[:, kept].exp()
        torch.testing.assert_close(
            reduced.log_prob(x), (densities * weights).sum(dim=1).log(), **tolerance
        )
        torch.testing.assert_close(reduced.log_weights.exp().double(), weights, **tolerance)
        posterior = model.log_posterior(x).exp()[:, kept]
        posterior = posterior / posterior.sum(dim=1, keepdim=True)
        torch.testing.assert_close(reduced.log_posterior(x).exp(), posterior, **tolerance)
    learned = isinstance(reduced.log_weight_logits, nn.Parameter)
    assert learned == isinstance(model.log_weight_logits, nn.Parameter)


def test_atoms_and_broad_parts_stay_with_their_components():
    generator = torch.Generator().manual_seed(0)
    model = build_model(
        RealNVP(n_layers=2, hidden=(8,)),
        PosteriorMLP(hidden=(8,)),
        *(4, 2),
        n_atoms=3,
        broad_weight=0.01,
        generator=generator,
    ).double()
    with torch.no_grad():
        for p in model.flows.parameters():
            if p.requires_grad:
                p += 0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    x = 3 * torch.randn(30, 2, generator=generator, dtype=torch.float64)
    reduced = model.only(torch.tensor([3, 1]))
    with torch.no_grad():
        densities = model.component_log_prob(x)[:, [3, 1]]
        torch.testing.assert_close(reduced.component_log_prob(x), densities)
        expected = densities.exp().mean(dim=1).log()
        torch.testing.assert_close(reduced.log_prob(x), expected)
    drawn, _ = reduced.sample(50, generator=generator)
    assert torch.isfinite(drawn).all()


def test_it_is_a_copy_that_can_be_trained_and_drawn_from(make_model):
    model = make_model("realnvp", 4, 3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reduced = model.only(torch.tensor([1, 2]))
    trained = [p.requires_grad for p in model.parameters()]
    assert [p.requires_grad for p in reduced.parameters()] == trained
    assert (reduced.n_components, reduced.n_features) == (2, 3)
    x, drawn = reduced.sample(500, generator=torch.Generator().manual_seed(0))
    assert set(drawn.tolist()) == {0, 1}
    (-reduced.elbo(x).mean()).backward()
    with torch.no_grad():
        for p in reduced.parameters():
            p += 1
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    assert all(p.grad is None for p in model.parameters())


def test_every_component_is_the_model_itself(make_model):
    model = make_model("nsf", 3, 2)
    x, _ = model.sample(20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.only(torch.arange(3)).elbo(x), model.elbo(x))


def test_a_posterior_network_that_cannot_be_cut_is_named(make_model):
    model = make_model("realnvp", 3, 2)
    foreign = MixtureModel(
        model.standardizer, model.flows, nn.Linear(2, 3), model.log_weights.exp()
    )
    with pytest.raises(TypeError, match="Linear has no method `only`"):
        foreign.only(torch.tensor([0]))
