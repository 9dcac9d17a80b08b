"""Tests that layers which are the identity are left out where no gradient is asked for."""

import pytest
import torch

from vmonf.flows import FAMILIES, build_flows
from vmonf.flows.networks import ComponentMLP


@pytest.fixture
def network_calls(monkeypatch):
    """The networks that were evaluated."""
    calls = []
    forward = ComponentMLP.forward

    def counting(self, *arguments):
        calls.append(self)
        return forward(self, *arguments)

    monkeypatch.setattr(ComponentMLP, "forward", counting)
    return calls


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_atoms", [1, 3])
def test_fresh_flows_are_evaluated_without_their_networks(family, n_atoms, network_calls):
    flows = build_flows(FAMILIES[family], 2, 3, n_atoms=n_atoms).double()
    x = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with_gradient = flows.log_prob(x)
    assert network_calls
    network_calls.clear()
    with torch.no_grad():
        without = flows.log_prob(x)
        of_one = flows.log_prob(x, torch.tensor([1]))
        flows.sample(torch.tensor([5, 3]), torch.Generator().manual_seed(0))
    assert not network_calls
    torch.testing.assert_close(without, with_gradient.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(of_one[0], without[1], atol=1e-12, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_is_evaluated_as_soon_as_one_output_is_not_zero(family, network_calls):
    flows = build_flows(FAMILIES[family], 2, 3)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    networks = [module for module in flows.modules() if isinstance(module, ComponentMLP)]
    with torch.no_grad():
        networks[0].layers[-1].bias[1, 0, 0] = 0.5
        flows.log_prob(x)
        assert network_calls == [networks[0]]
        flows.log_prob(x, torch.tensor([0]))  # the networks of this component are still zero
        assert network_calls == [networks[0]]
