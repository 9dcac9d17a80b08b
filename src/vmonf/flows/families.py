"""The families of flows: what their layers are, and the table of their names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.base import GaussianMixtureBase, StandardNormal
from vmonf.flows.bijections import Affine, Bijection, RationalQuadraticSpline
from vmonf.flows.component_flows import ComponentFlows
from vmonf.flows.coupling import Coupling
from vmonf.flows.mixing import LUMixing, Permutation
from vmonf.flows.transform import Transform
from vmonf.flows.whitening import Whitening
from vmonf.parameters import (
    ParameterError,
    Specification,
    check_choice,
    check_flag,
    check_number,
    check_whole_number,
    check_widths,
)

MIXINGS = ("permutation", "lu")


class Family(Specification, ABC):
    """A family of flows: which layers follow the whitening, with their settings.

    A subclass is a frozen dataclass whose fields are the settings, all with defaults.
    """

    @abstractmethod
    def layers(
        self, n_components: int, n_features: int, generator: torch.Generator | None
    ) -> list[Transform]:
        """Fresh layers, in order from data to base; the generator draws all that is random."""


@dataclass(frozen=True)
class PairedLayers(Family):
    """Layers in pairs: one takes the features in order, the next in reverse.

    A pair thus transforms every feature given others. The features are mixed between pairs.
    """

    n_layers: int = 4
    hidden: Sequence[int] = (64, 64)
    mixing: str = "permutation"

    def check(self) -> None:
        """Raise `ParameterError` if a value is refused."""
        check_whole_number("n_layers", self.n_layers, at_least=0)
        check_widths("hidden", self.hidden)
        check_choice("mixing", self.mixing, MIXINGS)

    @abstractmethod
    def _kind(self) -> tuple[type[Coupling] | type[MaskedAutoregressive], Bijection]:
        """The class of the layers, and their bijection."""

    def layers(
        self, n_components: int, n_features: int, generator: torch.Generator | None
    ) -> list[Transform]:
        """Layers and what mixes the features between their pairs; see `Family.layers`."""
        layer, bijection = self._kind()
        hidden = tuple(self.hidden)
        layers: list[Transform] = []
        for index in range(self.n_layers):
            is_second = index % 2 == 1
            layers.append(
                layer(
                    n_components,
                    n_features,
                    bijection,
                    hidden,
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
class RealNVP(PairedLayers):
    """Affine coupling layers; with a single feature the components are Gaussians.

    Source: Dinh et al., "Density estimation using Real NVP" (2017), section 3.

    Parameters
    ----------
    n_layers : int
        Number of coupling layers.
    hidden : sequence of int
        Hidden widths of the network of each layer.
    mixing : {"permutation", "lu"}
        Between pairs of layers: a fixed random order of the features, or a learned matrix.
    """

    def _kind(self) -> tuple[type[Coupling], Bijection]:
        return Coupling, Affine()


@dataclass(frozen=True)
class MAF(PairedLayers):
    """Affine masked autoregressive layers, each of whose features depends on all before it.

    Densities take one pass of each network. Samples are slow: they take one pass per feature.
    With a single feature the components are Gaussians.

    Source: Papamakarios et al., "Masked Autoregressive Flow" (2017), section 3.

    Parameters
    ----------
    n_layers : int
        Number of autoregressive layers.
    hidden : sequence of int
        Hidden widths of the network of each layer.
    mixing : {"permutation", "lu"}
        Between pairs of layers: a fixed random order of the features, or a learned matrix.
    """

    def _kind(self) -> tuple[type[MaskedAutoregressive], Bijection]:
        return MaskedAutoregressive, Affine()


@dataclass(frozen=True)
class NSF(PairedLayers):
    """Layers of rational-quadratic splines, coupling or autoregressive.

    Source: Durkan et al., "Neural Spline Flows" (2019), section 3.

    Parameters
    ----------
    n_layers : int
        Number of layers.
    hidden : sequence of int
        Hidden widths of the network of each layer.
    mixing : {"permutation", "lu"}
        Between pairs of layers: a fixed random order of the features, or a learned matrix.
    n_bins : int
        Bins of each spline, at least 2.
    bound : float
        The splines act on [-bound, bound], in units of the whitened data.
    autoregressive : bool
        Autoregressive layers instead of coupling layers. Samples are then slow: they take one
        pass of each network per feature.
    """

    n_bins: int = 8
    bound: float = 5.0
    autoregressive: bool = False

    def check(self) -> None:
        """Raise `ParameterError` if a value is refused."""
        super().check()
        check_whole_number("n_bins", self.n_bins, at_least=2)
        check_number("bound", self.bound, above=0)
        check_flag("autoregressive", self.autoregressive)

    def _kind(self) -> tuple[type[Coupling] | type[MaskedAutoregressive], Bijection]:
        layer = MaskedAutoregressive if self.autoregressive else Coupling
        return layer, RationalQuadraticSpline(int(self.n_bins), float(self.bound))


#: The families by name. A new family is one line here; the tests take their families from here.
FAMILIES: dict[str, Family] = {
    "realnvp": RealNVP(),
    "maf": MAF(),
    "nsf": NSF(),
    "nsf-ar": NSF(autoregressive=True),
}


def family_of(flow: str | Family) -> Family:
    """The family of a name, or the family itself.

    A family need not be a subclass of `Family`: it is any object with the methods `get_params` and
    `layers`. `check` is called if there is one.

    Raises
    ------
    ParameterError
        If there is no family of this name, or if the object is not a family.
    """
    if isinstance(flow, str):
        if flow in FAMILIES:
            return FAMILIES[flow]
    elif hasattr(flow, "layers") and hasattr(flow, "get_params") and not isinstance(flow, type):
        return flow
    names = ", ".join(FAMILIES)
    raise ParameterError(
        "flow", f"={flow!r} is not known: choose one of {names}, or a family such as RealNVP()."
    )


def build_flows(
    flow: str | Family,
    n_components: int,
    n_features: int,
    *,
    n_atoms: int = 1,
    broad_weight: float = 0.0,
    diagonal_whitening: bool = False,
    identity: bool = True,
    generator: torch.Generator | None = None,
) -> ComponentFlows:
    """Build K fresh flows, each the standard Gaussian until it is whitened or trained.

    Parameters
    ----------
    flow : str or Family
        A name in `FAMILIES`, or a family with settings, such as ``MAF(n_layers=2)``.
    n_components, n_features : int
    n_atoms : int
        Largest number of Gaussians in the base distribution of a flow. With 1 the base is the
        standard normal distribution.
    broad_weight : float
        Weight of a Student-t distribution in the base distribution of each flow.
    diagonal_whitening : bool
        Start from a scale for each feature instead of a triangular matrix.
    identity : bool
        Start with layers that are the identity, up to the order of the features. Otherwise the
        layers are drawn at random, so that components with the same start differ.
    generator : torch.Generator, optional
        Draws initial weights and orders.

    Raises
    ------
    ParameterError
        If the flow is not known, or if one of its settings is refused.
    """
    family = family_of(flow)
    if hasattr(family, "check"):
        try:
            family.check()
        except ParameterError as error:
            raise error.within("flow") from None
    layers = family.layers(n_components, n_features, generator)
    if not identity:
        for layer in layers:
            layer.randomise(generator)
    whitening = Whitening(n_components, n_features, diagonal=diagonal_whitening)
    base = (
        GaussianMixtureBase(n_components, n_features, n_atoms, broad_weight)
        if n_atoms > 1
        else StandardNormal(n_components, n_features, broad_weight)
    )
    return ComponentFlows(whitening, layers, base)
