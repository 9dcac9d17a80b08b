"""No gradient is so small that arithmetic with it is slow."""

import torch

TINIEST = torch.finfo(torch.float32).tiny


def test_gradients_of_hopeless_components_are_zero_rather_than_denormal(make_model):
    model = make_model("realnvp", 4, 2, dtype=torch.float32)
    means = torch.tensor([[0.0, 0], [9, 0], [0, 9], [-25, 0]])
    model.flows.whitening.set_gaussians(means, torch.eye(2).repeat(4, 1, 1))
    x = model.standardizer.inverse(0.3 * torch.randn(200, 2, dtype=torch.float64))
    chance = model.log_responsibilities(x).exp()
    assert ((chance > 0) & (chance < TINIEST)).any(), "the case is not what it should be"

    seen = []
    hooked = model.flows.log_prob

    def log_prob(rows):
        values = hooked(rows)
        values.register_hook(seen.append)
        return values

    model.flows.log_prob = log_prob
    model.log_prob(x).mean().backward()
    gradient = seen[0]
    assert ((gradient == 0) | (gradient.abs() >= TINIEST)).all()
    assert (gradient != 0).any()
