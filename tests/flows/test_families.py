"""Families as specifications: settings, names, and families that are not ours."""

import dataclasses
from functools import partial

import pytest
import torch

from vmonf.flows import FAMILIES, MAF, NSF, RealNVP, build_flows, family_of
from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.bijections import Affine
from vmonf.flows.coupling import Coupling
from vmonf.flows.mixing import LUMixing
from vmonf.parameters import ParameterError


class Foreign:
    """A family that knows nothing of ours: neither a dataclass nor a `Family`."""

    def __init__(self, width=8):
        self.width = width

    def get_params(self, deep=True):
        return {"width": self.width}

    def layers(self, n_components, n_features, generator):
        build = partial(Coupling, n_components, n_features, Affine(), (self.width,))
        return [build(generator=generator), LUMixing(n_components, torch.arange(n_features))]


def test_a_name_and_its_family_build_the_same_flows(family):
    by_name, by_family = (
        build_flows(flow, 2, 3, generator=torch.Generator().manual_seed(0)).state_dict()
        for flow in (family, FAMILIES[family])
    )
    assert list(by_name) == list(by_family)
    assert all(torch.equal(by_name[name], by_family[name]) for name in by_name)


def test_settings_reach_the_layers():
    flows = build_flows(NSF(3, (9,), "lu", n_bins=5, bound=3.0, autoregressive=True), 2, 3)
    layers = list(flows.chain.transforms)[1:]
    own = [layer for layer in layers if isinstance(layer, MaskedAutoregressive)]
    assert len(own) == 3
    assert [type(layer) for layer in layers].count(LUMixing) == 1
    assert {(layer.bijection.n_bins, layer.bijection.bound) for layer in own} == {(5, 3.0)}
    assert own[0].network.layers[0].weight.shape == (2, 3, 9)


@pytest.mark.parametrize(
    ("flow", "name"),
    [
        (RealNVP(n_layers=-1), "n_layers"),
        (MAF(hidden=(8, 0)), "hidden"),
        (RealNVP(mixing="rotation"), "mixing"),
        (NSF(n_bins=1), "n_bins"),
        (NSF(bound=0.0), "bound"),
        (NSF(autoregressive="yes"), "autoregressive"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_settings_are_named(flow, name):
    with pytest.raises(ParameterError) as caught:
        flow.check()
    assert caught.value.name == name
    with pytest.raises(ParameterError) as caught:
        build_flows(flow, 2, 2)
    assert caught.value.name == f"flow__{name}"


@pytest.mark.parametrize("flow", ["glow", None, 3, pytest.param(object(), id="object")], ids=str)
def test_unknown_flows_are_errors_that_list_the_known_ones(flow):
    with pytest.raises(ParameterError, match=r"flow=.*realnvp, maf, nsf, nsf-ar") as caught:
        family_of(flow)
    assert caught.value.name == "flow"


def test_families_are_frozen_and_say_their_settings(family):
    spec = FAMILIES[family]
    spec.check()
    assert type(spec)(**spec.get_params()) == spec
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.n_layers = 1


@pytest.mark.parametrize("by_name", [False, True], ids=["object", "name"])
def test_a_foreign_family_works(by_name, monkeypatch):
    monkeypatch.setitem(FAMILIES, "foreign", Foreign())
    flow = "foreign" if by_name else Foreign()
    x = torch.randn(10, 3)
    fresh = build_flows(flow, 2, 3)
    torch.testing.assert_close(fresh.log_prob(x)[0], fresh.log_prob(x)[1])
    drawn = build_flows(flow, 2, 3, identity=False)
    assert (drawn.log_prob(x)[0] != drawn.log_prob(x)[1]).all()
    assert drawn.sample(torch.tensor([4, 5])).shape == (9, 3)
