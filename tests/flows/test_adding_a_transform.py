"""The example of docs/adding-a-transform.md runs, and what it defines obeys the laws."""

import re
from pathlib import Path

import pytest
import torch

from vmonf.flows import FAMILIES, Bijection, ComponentFlows, Family, build_flows
from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.coupling import Coupling

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-transform.md"


@pytest.fixture
def example():
    """What the page's code defines; the table of families is as before afterwards."""
    before = dict(FAMILIES)
    names = {"__name__": "example"}
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    assert code
    exec("".join(code), names)
    yield names
    FAMILIES.clear()
    FAMILIES.update(before)


def defined(names, base):
    """The one class of this kind that the example defines."""
    (found,) = [
        value
        for value in names.values()
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == "example"
    ]
    return found


def test_the_example_runs(example):
    assert isinstance(example["flows"], ComponentFlows)
    assert example["log_density"].shape == (3, 100)
    assert example["samples"].shape == (60, 2)


def test_the_bijection_obeys_the_laws(example):
    bijection = defined(example, Bijection)()
    x = (3 * torch.randn(500, 1, dtype=torch.float64)).requires_grad_()
    parameters = torch.randn(500, bijection.n_parameters, dtype=torch.float64)
    z, log_slope = bijection.forward(x, parameters)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(log_slope, slope.log())
    again, back = bijection.inverse(z, parameters)
    torch.testing.assert_close(again, x)
    torch.testing.assert_close(back, -log_slope)
    same, none = bijection.forward(x, torch.zeros_like(parameters))
    torch.testing.assert_close(same, x)
    torch.testing.assert_close(none, torch.zeros_like(x))


@pytest.mark.parametrize("layer", [Coupling, MaskedAutoregressive])
@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "reversed"])
def test_a_layer_of_it_obeys_the_laws(example, layer, reverse, n_features, jacobian_of):
    bijection = defined(example, Bijection)()
    transform = layer(3, n_features, bijection, (8,), reverse=reverse).double()
    transform.randomise()
    x = 2 * torch.randn(3, 20, n_features, dtype=torch.float64)
    z, log_det, jacobian = jacobian_of(transform, x)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet)
    with torch.no_grad():
        again, back = transform.inverse(z)
    torch.testing.assert_close(again, x)
    torch.testing.assert_close(back, -log_det)


@pytest.mark.parametrize("by_name", [False, True], ids=["object", "name"])
def test_the_family_obeys_the_laws(example, by_name, n_features, jacobian_of):
    flow = "bent" if by_name else defined(example, Family)(n_layers=3, hidden=(8,))
    flows = build_flows(flow, 3, n_features, identity=False).double()
    x, _ = flows.from_base(torch.randn(3, 20, n_features, dtype=torch.float64))
    z, log_det, jacobian = jacobian_of(flows.to_base, x)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet)
    with torch.no_grad():
        again, back = flows.from_base(z)
    torch.testing.assert_close(again, x.detach())
    torch.testing.assert_close(back, -log_det)
