"""The flow families by name."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.bijections import Affine, RationalQuadraticSpline
from vmonf.flows.component_flows import ComponentFlows
from vmonf.flows.coupling import Coupling
from vmonf.flows.mixing import LUMixing, Permutation
from vmonf.flows.networks import ComponentMLP
from vmonf.flows.transform import Transform
from vmonf.flows.whitening import Whitening
from vmonf.parameters import (
    ParameterError,
    Specification,
    check_choice,
    check_whole_number,
    check_widths,
)

MIXINGS = ("permutation", "lu")


class Family(Specification, ABC):
    """A family of flows."""

    @abstractmethod
    def layers(self, n_components, n_features, generator=None): ...


@dataclass(frozen=True)
class RealNVP(Family):
    n_layers: int = 4
    hidden: Sequence[int] = (64, 64)
    mixing: str = "permutation"

    def check(self):
        check_whole_number("n_layers", self.n_layers, at_least=0)
        check_widths("hidden", self.hidden)
        check_choice("mixing", self.mixing, MIXINGS)

    def _layer(self):
        return Coupling, Affine()

    def layers(self, n_components, n_features, generator=None):
        layer, bijection = self._layer()
        layers: list[Transform] = []
        for index in range(self.n_layers):
            is_second = index % 2 == 1
            layers.append(
                layer(
                    n_components,
                    n_features,
                    bijection,
                    self.hidden,
                    reverse=is_second,
                    generator=generator,
                )
            )
            if is_second and index + 1 < self.n_layers and n_features > 1:
                order = torch.randperm(n_features, generator=generator)
                if self.mixing == "lu":
                    layers.append(LUMixing(n_components, order))
                elif n_features > 2:
                    layers.append(Permutation(order))
        return layers


@dataclass(frozen=True)
class MAF(RealNVP):
    def _layer(self):
        return MaskedAutoregressive, Affine()


@dataclass(frozen=True)
class NSF(RealNVP):
    n_bins: int = 8
    bound: float = 5.0
    autoregressive: bool = False

    def check(self):
        super().check()
        check_whole_number("n_bins", self.n_bins, at_least=2)

    def _layer(self):
        return MaskedAutoregressive if self.autoregressive else Coupling, RationalQuadraticSpline(
            self.n_bins, self.bound
        )


FAMILIES = {"realnvp": RealNVP(), "maf": MAF(), "nsf": NSF(), "nsf-ar": NSF(autoregressive=True)}


def family_of(flow):
    if isinstance(flow, str):
        if flow not in FAMILIES:
            raise ParameterError(
                "flow", f"={flow!r} is not known: choose one of {', '.join(FAMILIES)}."
            )
        return FAMILIES[flow]
    return flow


def build_flows(
    flow, n_components, n_features, *, diagonal_whitening=False, identity=True, generator=None
):
    layers = family_of(flow).layers(n_components, n_features, generator)
    if not identity:
        for layer_of_networks in layers:
            for module in layer_of_networks.modules():
                if isinstance(module, ComponentMLP):
                    module.randomise_outputs(generator)
    whitening = Whitening(n_components, n_features, diagonal=diagonal_whitening)
    return ComponentFlows(whitening, layers)
