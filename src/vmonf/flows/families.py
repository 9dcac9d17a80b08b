"""The flow families by name."""

from collections.abc import Sequence

import torch

from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.bijections import Affine, RationalQuadraticSpline
from vmonf.flows.component_flows import ComponentFlows
from vmonf.flows.coupling import Coupling
from vmonf.flows.mixing import LUMixing, Permutation
from vmonf.flows.networks import ComponentMLP
from vmonf.flows.transform import Transform
from vmonf.flows.whitening import Whitening

#: The layer of each family, and whether its bijection is a spline.
FAMILIES: dict[str, tuple[type[Coupling] | type[MaskedAutoregressive], bool]] = {
    "realnvp": (Coupling, False),
    "maf": (MaskedAutoregressive, False),
    "nsf": (Coupling, True),
    "nsf-ar": (MaskedAutoregressive, True),
}
MIXINGS = ("permutation", "lu")


def build_flows(
    family: str,
    n_components: int,
    n_features: int,
    *,
    n_layers: int,
    hidden: Sequence[int],
    n_bins: int = 8,
    bound: float = 5.0,
    mixing: str = "permutation",
    diagonal_whitening: bool = False,
    identity: bool = True,
    generator: torch.Generator | None = None,
) -> ComponentFlows:
    """Build K fresh flows: each the standard Gaussian until whitened or trained.

    Layers come in pairs: one takes the features in order, the next in reverse, so that a
    pair transforms every feature given others; after each pair the features are mixed.

    Parameters
    ----------
    family : {"realnvp", "maf", "nsf", "nsf-ar"}
    n_components, n_features : int
    n_layers : int
        Coupling or autoregressive layers.
    hidden : sequence of int
        Hidden widths of each layer's network.
    n_bins, bound : int, float
        Of the splines, in units of the whitened data.
    mixing : {"permutation", "lu"}
        Between pairs of layers: a fixed random order, or a learned matrix.
    diagonal_whitening : bool
        Scale features one by one at the start, instead of by a triangular matrix.
    identity : bool
        Start all layers as the identity up to the order of the features. Otherwise their
        networks are drawn at random, and components that start at the same place differ.
    generator : torch.Generator, optional
        Draws initial weights and orders.

    Raises
    ------
    ValueError
        If the family or the mixing has no such name.
    """
    if family not in FAMILIES:
        raise ValueError(f"flow={family!r} is not known: choose one of {', '.join(FAMILIES)}.")
    if mixing not in MIXINGS:
        raise ValueError(f"mixing={mixing!r} is not known: choose one of {', '.join(MIXINGS)}.")
    layer, is_spline = FAMILIES[family]
    bijection = RationalQuadraticSpline(n_bins, bound) if is_spline else Affine()
    layers: list[Transform] = []
    for index in range(n_layers):
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
        if is_second and index + 1 < n_layers and n_features > 1:
            order = torch.randperm(n_features, generator=generator)
            if mixing == "lu":
                layers.append(LUMixing(n_components, order))
            elif n_features > 2:
                layers.append(Permutation(order))
    if not identity:
        for layer_of_networks in layers:
            for module in layer_of_networks.modules():
                if isinstance(module, ComponentMLP):
                    module.randomise_outputs(generator)
    whitening = Whitening(n_components, n_features, diagonal=diagonal_whitening)
    return ComponentFlows(whitening, layers)
