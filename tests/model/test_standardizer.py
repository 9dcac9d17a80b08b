"""Units: densities are in the user's, whatever they are."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from scipy.stats import norm

from vmonf.flows import NSF, build_flows
from vmonf.model import MixtureModel, PosteriorNetwork, Standardizer

UNITS = {
    "as they are": (0.0, 1.0),
    "far from zero": (1e12, 1.0),
    "tiny": (0.0, 1e-12),
    "huge": (-3e12, 1e12),
    "tiny and far": (1.0, 1e-9),
}
MEANS = torch.tensor([[-1.0, 0.5], [1.5, -0.5], [0.0, 3.0]], dtype=torch.float64)
VARIANCES = torch.tensor([[0.5, 1.0], [0.2, 2.0], [1.5, 0.3]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.2, 0.3])


def fresh_model(shift, scale, flow=None):
    """A Gaussian mixture in units of mean `shift` and deviation `scale`, flows in float32."""
    generator = torch.Generator().manual_seed(0)
    flows = build_flows(flow or NSF(hidden=(8,)), 3, 2, generator=generator)
    flows.whitening.set_gaussians(MEANS, VARIANCES)
    return MixtureModel(
        Standardizer(torch.as_tensor(shift), torch.as_tensor(scale)),
        flows,
        PosteriorNetwork(2, 3, (4,), generator=generator),
        WEIGHTS,
    )


def scipy_log_joint(x, shift, scale):
    """The same Gaussian mixture by scipy, in the rows' own units: (B, K)."""
    return np.stack(
        [
            norm(shift + scale * mean, scale * np.sqrt(variance)).logpdf(x).sum(axis=1)
            + math.log(weight)
            for mean, variance, weight in zip(
                MEANS.numpy(), VARIANCES.numpy(), WEIGHTS.tolist(), strict=True
            )
        ],
        axis=1,
    )


@pytest.fixture(params=UNITS)
def units(request):
    """Shift and scale, the same for both features."""
    shift, scale = UNITS[request.param]
    return np.array([shift, shift]), np.array([scale, scale])


def rows_in(units, n_rows=50):
    shift, scale = units
    return shift + scale * 2 * np.random.default_rng(0).standard_normal((n_rows, 2))


def test_log_prob_is_right_in_any_units(units):
    x = rows_in(units)
    model = fresh_model(*units)
    with torch.no_grad():
        log_prob = model.log_prob(torch.from_numpy(x))
    # Rounding of the standardised row to float32, times the slope of the log density; the
    # units' own log-determinant is in double.
    np.testing.assert_allclose(
        log_prob.numpy(), logsumexp(scipy_log_joint(x, *units), axis=1), rtol=0, atol=5e-5
    )


def test_features_of_different_units_stay_apart():
    shift, scale = np.array([1e12, -5.0]), np.array([1.0, 1e-12])
    x = rows_in((shift, scale))
    model = fresh_model(shift, scale)
    with torch.no_grad():
        log_prob = model.log_prob(torch.from_numpy(x))
    expected = logsumexp(scipy_log_joint(x, shift, scale), axis=1)
    # The rows' own spacing beside -5 is 1e-3 deviations: scipy has to round there too.
    np.testing.assert_allclose(log_prob.numpy(), expected, rtol=0, atol=2e-2)


def test_scaling_the_rows_shifts_log_prob_by_the_log_of_the_scale(family, n_features, make_model):
    model = make_model(family, 3, n_features)
    x = model.standardizer.inverse(torch.randn(20, n_features, dtype=torch.float64))
    with torch.no_grad():
        expected = model.log_prob(x)
        for factor in (1e-12, 1e-3, 7.0, 1e12):
            scaled = copy.deepcopy(model)
            scaled.standardizer = Standardizer(
                factor * model.standardizer.shift, factor * model.standardizer.scale
            )
            torch.testing.assert_close(
                scaled.log_prob(factor * x), expected - n_features * math.log(factor)
            )
            torch.testing.assert_close(
                scaled.log_responsibilities(factor * x), model.log_responsibilities(x)
            )
            torch.testing.assert_close(scaled.log_posterior(factor * x), model.log_posterior(x))
            torch.testing.assert_close(
                scaled.elbo(factor * x) - scaled.log_prob(factor * x), model.elbo(x) - expected
            )


def test_log_det_is_that_of_the_autograd_jacobian(n_features, make_model):
    standardizer = make_model("realnvp", 1, n_features).standardizer
    x = torch.randn(n_features, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(standardizer, x)
    torch.testing.assert_close(standardizer.log_det(x), torch.linalg.slogdet(jacobian).logabsdet)


def test_inverse_undoes_forward(units):
    standardizer = Standardizer(*map(torch.from_numpy, units))
    x = torch.from_numpy(rows_in(units))
    again = standardizer.inverse(standardizer(x))
    # Two roundings of x, no more.
    assert ((again - x).abs() <= 4 * torch.finfo(torch.float64).eps * x.abs().max()).all()


def test_samples_are_in_the_rows_units(units):
    shift, scale = units
    model = fresh_model(*units)
    with torch.no_grad():
        x, _ = model.sample(4000, generator=torch.Generator().manual_seed(0))
    standardised = (x.numpy() - shift) / scale
    mean = (WEIGHTS[:, None] * MEANS).sum(dim=0).numpy()
    deviation = ((WEIGHTS[:, None] * (VARIANCES + MEANS**2)).sum(dim=0).numpy() - mean**2) ** 0.5
    assert (np.abs(standardised.mean(axis=0) - mean) < 5 * deviation / 4000**0.5).all()
    np.testing.assert_allclose(standardised.std(axis=0), deviation, rtol=0.1)


def test_standardisation_is_in_double_even_in_a_float32_model():
    # The docstring's promise; .float() on the whole model must not break it.
    units = np.array([1e12, 1e12]), np.array([1.0, 1.0])
    x = rows_in(units)
    model = fresh_model(*units).float()
    with torch.no_grad():
        log_prob = model.log_prob(torch.from_numpy(x))
    np.testing.assert_allclose(
        log_prob.numpy(), logsumexp(scipy_log_joint(x, *units), axis=1), rtol=0, atol=5e-5
    )
