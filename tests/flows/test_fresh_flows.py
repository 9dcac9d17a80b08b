"""Fresh flows are Gaussians: training starts from a Gaussian mixture's likelihood."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from vmonf.flows import Whitening, build_flows


@pytest.fixture
def fresh(make_family):
    """Flows as they are built, with settings of the family and options of `build_flows`."""

    def build(family, n_components, n_features, dtype, *, mixing="permutation", **options):
        generator = torch.Generator().manual_seed(0)
        spec = make_family(family, n_layers=4, hidden=(8,), mixing=mixing)
        flows = build_flows(spec, n_components, n_features, generator=generator, **options)
        return flows.to(dtype)

    return build


def scipy_log_prob(means, covariances, x):
    return np.stack(
        [
            multivariate_normal(mean, covariance).logpdf(x.double().numpy()).reshape(len(x))
            for mean, covariance in zip(means.numpy(), covariances.numpy(), strict=True)
        ]
    )


@pytest.mark.parametrize("mixing", ["permutation", "lu"])
@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_fresh_flows_are_the_gaussians_of_their_whitening(
    family, n_features, n_components, dtype, fresh, random_gaussians, mixing, diagonal
):
    flows = fresh(
        family, n_components, n_features, dtype, mixing=mixing, diagonal_whitening=diagonal
    )
    means, covariances = random_gaussians(
        n_components, n_features, torch.Generator().manual_seed(3)
    )
    flows.whitening.set_gaussians(means, covariances)
    if diagonal:
        covariances = torch.diag_embed(covariances.diagonal(dim1=-2, dim2=-1))

    x = 4 * torch.randn(20, n_features, dtype=dtype)
    with torch.no_grad():
        log_prob = flows.log_prob(x)
    # Of the order of the quadratic form's terms: hundreds, times the covariance's condition.
    rtol = 20 * torch.finfo(dtype).eps * 8
    expected = scipy_log_prob(means, covariances, x)
    np.testing.assert_allclose(log_prob.numpy(), expected, rtol=rtol, atol=rtol * 10)


def test_fresh_flows_are_standard_gaussians_until_whitened(family, n_features, dtype, fresh):
    flows = fresh(family, 2, n_features, dtype)
    x = 3 * torch.randn(20, n_features, dtype=dtype)
    identity = torch.eye(n_features).expand(2, -1, -1)
    expected = scipy_log_prob(torch.zeros(2, n_features), identity, x)
    with torch.no_grad():
        np.testing.assert_allclose(flows.log_prob(x).numpy(), expected, rtol=1e-5)


def test_samples_of_fresh_flows_have_the_means_and_covariances(
    family, n_features, dtype, fresh, random_gaussians
):
    flows = fresh(family, 2, n_features, dtype)
    means, covariances = random_gaussians(2, n_features, torch.Generator().manual_seed(3))
    flows.whitening.set_gaussians(means, covariances)
    n_rows = 4000
    with torch.no_grad():
        x = flows.sample(torch.tensor([n_rows, n_rows]), torch.Generator().manual_seed(0))
    for mean, covariance, own in zip(means, covariances, x.double().split(n_rows), strict=True):
        deviations = covariance.diagonal().sqrt()
        # Five standard errors of a mean, and of a covariance, of Gaussian rows.
        assert ((own.mean(dim=0) - mean).abs() < 5 * deviations / n_rows**0.5).all()
        allowed = 5 * (2 / n_rows) ** 0.5 * torch.outer(deviations, deviations)
        assert ((own.mT.cov().reshape(covariance.shape) - covariance).abs() < allowed).all()


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_variances_may_be_given_instead_of_covariances(dtype, diagonal):
    variances = torch.tensor([[0.1, 2.0, 30.0], [1e-4, 1.0, 1e4]], dtype=torch.float64)
    means = torch.tensor([[0.0, 1.0, -2.0], [5.0, 0.0, 0.0]], dtype=torch.float64)
    by_variance = Whitening(2, 3, diagonal=diagonal).to(dtype)
    by_covariance = Whitening(2, 3, diagonal=diagonal).to(dtype)
    by_variance.set_gaussians(means, variances)
    by_covariance.set_gaussians(means, torch.diag_embed(variances))
    x = torch.randn(2, 5, 3, dtype=dtype)
    with torch.no_grad():
        z, log_det = by_variance(x)
        torch.testing.assert_close(by_covariance(x), (z, log_det))
    # In which order and on which side the axes come is the whitening's own affair.
    distance = ((x.double() - means[:, None]).square() / variances[:, None]).sum(dim=-1)
    torch.testing.assert_close(z.double().square().sum(dim=-1), distance, rtol=1e-5, atol=1e-5)
    expected = -0.5 * variances.log().sum(dim=-1)[:, None].expand(2, 5)
    torch.testing.assert_close(log_det.double(), expected, rtol=1e-5, atol=1e-6)


def test_whitening_turns_each_component_to_its_principal_axes_the_longest_first(random_gaussians):
    means, covariances = random_gaussians(3, 7, torch.Generator().manual_seed(3))
    whitening = Whitening(3, 7).double()
    whitening.set_gaussians(means, covariances)
    for component in range(3):
        # eigh sorts from the shortest axis to the longest.
        variances, axes = np.linalg.eigh(covariances[component].numpy())
        ends = means[component].numpy() + (axes * np.sqrt(variances)).T[::-1]
        with torch.no_grad():
            z, _ = whitening(torch.from_numpy(ends.copy()).expand(3, 7, 7))
        np.testing.assert_allclose(np.abs(z[component].numpy()), np.eye(7), atol=1e-10)


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_a_covariance_that_is_not_positive_definite_is_an_error(diagonal):
    whitening = Whitening(2, 2, diagonal=diagonal)
    covariances = torch.stack([torch.eye(2), torch.diag(torch.tensor([1.0, -1.0]))])
    with pytest.raises(torch.linalg.LinAlgError):
        whitening.set_gaussians(torch.zeros(2, 2), covariances)
