"""The mixture's density: it integrates to one, and a fresh one is a Gaussian mixture."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from vmonf.flows import build_flows
from vmonf.model import MixtureModel, PosteriorNetwork, Standardizer


@pytest.mark.parametrize("n_features", [1, 2], ids="D={}".format)
def test_density_of_the_mixture_integrates_to_one(family, n_features, make_model, whole_space):
    model = make_model(family, 3, n_features, seed=1)
    with torch.no_grad():
        x, _ = model.sample(4000, generator=torch.Generator().manual_seed(0))
        masses = []
        for n_points in (16001, 8001) if n_features == 1 else (201, 101):
            # Out to 18 standard deviations.
            points, areas = whole_space(x.median(dim=0).values, x.std(dim=0), n_points, reach=3.6)
            masses.append((model.log_prob(points).exp() * areas).sum().item())
    # Kinks leave an error that falls with the square of the spacing, so that twice the spacing
    # shows how large it is.
    of_kinks = abs(masses[0] - masses[1])
    tolerance = 1e-5 if n_features == 1 else min(1e-4 + of_kinks, 1e-2)
    assert masses[0] == pytest.approx(1, rel=0, abs=tolerance)


@pytest.mark.parametrize("mixing", ["permutation", "lu"])
@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_fresh_model_is_the_gaussian_mixture_of_its_start(
    family, n_features, dtype, make_family, random_gaussians, mixing, diagonal
):
    n_components = 3
    generator = torch.Generator().manual_seed(0)
    flows = build_flows(
        make_family(family, n_layers=4, hidden=(8,), mixing=mixing),
        n_components,
        n_features,
        diagonal_whitening=diagonal,
        generator=generator,
    ).to(dtype)
    means, covariances = random_gaussians(n_components, n_features, generator)
    flows.whitening.set_gaussians(means, covariances)
    if diagonal:
        covariances = torch.diag_embed(covariances.diagonal(dim1=-2, dim2=-1))
    weights = 0.1 + torch.rand(n_components, generator=generator, dtype=torch.float64)
    weights /= weights.sum()
    shift = torch.linspace(-50, 80, n_features, dtype=torch.float64)
    scale = torch.linspace(1e-2, 3, n_features, dtype=torch.float64)
    model = MixtureModel(
        Standardizer(shift, scale),
        flows,
        PosteriorNetwork(n_features, n_components, (4,), generator=generator).to(dtype),
        weights.to(dtype),
    )

    x = shift + scale * 4 * torch.randn(30, n_features, dtype=torch.float64)
    # The same mixture in the rows' units.
    matrix = torch.diag(scale)
    log_joint = [
        multivariate_normal(shift + scale * mean, matrix @ covariance @ matrix).logpdf(x.numpy())
        + np.log(weight)
        for mean, covariance, weight in zip(means, covariances, weights.numpy(), strict=True)
    ]
    with torch.no_grad():
        log_prob = model.log_prob(x)
    rtol = 1e-4 if dtype is torch.float32 else 1e-9
    np.testing.assert_allclose(log_prob.numpy(), logsumexp(log_joint, axis=0), rtol=rtol, atol=rtol)
