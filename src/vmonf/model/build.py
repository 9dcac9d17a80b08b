"""From specifications to a model whose parameters are not set from data yet."""

from __future__ import annotations

import torch

from vmonf.flows import Family, build_flows
from vmonf.model.mixture import MixtureModel
from vmonf.model.posterior import PosteriorMLP
from vmonf.model.standardizer import Standardizer

#: Beyond this many features covariances are diagonal: a triangular whitening would cost
#: more at every step than the flow's own layers.
FULL_COVARIANCE_LIMIT = 256


def build_model(
    flow: Family,
    posterior: PosteriorMLP,
    n_components: int,
    n_features: int,
    *,
    learn_weights: bool = False,
    identity: bool = True,
    generator: torch.Generator | None = None,
) -> MixtureModel:
    """Build a mixture of standard Gaussians, in units of one, of equal weights.

    Parameters
    ----------
    flow : Family
        Gives the layers of each flow.
    posterior : PosteriorMLP
        Gives the posterior network.
    n_components, n_features : int
    learn_weights : bool
        Whether the mixing weights are parameters.
    identity : bool
        Whether the layers start as the identity; otherwise their networks are drawn at random.
    generator : torch.Generator, optional
        Draws the initial weights of the networks.
    """
    flows = build_flows(
        flow,
        n_components,
        n_features,
        diagonal_whitening=n_features > FULL_COVARIANCE_LIMIT,
        identity=identity,
        generator=generator,
    )
    return MixtureModel(
        Standardizer(torch.zeros(n_features), torch.ones(n_features)),
        flows,
        posterior.network(n_features, n_components, generator),
        torch.full((n_components,), 1 / n_components),
        learn_weights=learn_weights,
    )
