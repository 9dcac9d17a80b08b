"""Construction of a model from specifications, before any parameter is set from data."""

from __future__ import annotations

import torch

from vmonf.flows import Family, build_flows
from vmonf.model.conditionals import Conditionals
from vmonf.model.mixture import MixtureModel
from vmonf.model.posterior import PosteriorMLP
from vmonf.model.standardizer import Standardizer

#: With more features than this, covariances are diagonal. A triangular whitening would take more
#: time in each step than the layers of the flow.
FULL_COVARIANCE_LIMIT = 256


def build_model(
    flow: Family,
    posterior: PosteriorMLP,
    n_components: int,
    n_features: int,
    *,
    n_atoms: int = 1,
    broad_weight: float = 0.0,
    standardizer: Standardizer | None = None,
    learn_weights: bool = False,
    conditionals: Conditionals | None = None,
    identity: bool = True,
    generator: torch.Generator | None = None,
) -> MixtureModel:
    """Build a mixture of standard Gaussians with equal weights.

    Parameters
    ----------
    flow : Family
        Builds the layers of each flow.
    posterior : PosteriorMLP
        Builds the posterior network.
    n_components, n_features : int
    n_atoms : int
        Largest number of Gaussians in the base distribution of a flow.
    broad_weight : float
        Weight of a Student-t distribution in the base distribution of each flow.
    standardizer : Standardizer, optional
        None is that of shift 0 and scale 1.
    learn_weights : bool
        Whether the mixing weights are parameters.
    conditionals : Conditionals, optional
        The distribution from which gaps of rows are drawn.
    identity : bool
        Whether the layers start as the identity. Otherwise their networks are drawn at random.
    generator : torch.Generator, optional
        Draws the initial weights of the networks.
    """
    flows = build_flows(
        flow,
        n_components,
        n_features,
        n_atoms=n_atoms,
        broad_weight=broad_weight,
        diagonal_whitening=n_features > FULL_COVARIANCE_LIMIT,
        identity=identity,
        generator=generator,
    )
    if standardizer is None:
        standardizer = Standardizer(torch.zeros(n_features), torch.ones(n_features))
    return MixtureModel(
        standardizer,
        flows,
        posterior.network(n_features + standardizer.n_periodic, n_components, generator),
        torch.full((n_components,), 1 / n_components),
        learn_weights=learn_weights,
        conditionals=conditionals,
    )
