"""The density of every component integrates to one, and samples follow it."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest

N_COMPONENTS = 3


def integration_points(flows, whole_space, n_points):
    """Points around each component, stretched by its own spread: (K, B, D) and (K, B)."""
    generator = torch.Generator().manual_seed(0)
    shape = N_COMPONENTS, 2000, flows.n_features
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        x, _ = flows.from_base(noise)
    grids = [
        # Out to 18 standard deviations.
        whole_space(own.median(dim=0).values, own.std(dim=0), n_points, reach=3.6)
        for own in x
    ]
    points, areas = zip(*grids, strict=True)
    return torch.stack(points), torch.stack(areas)


@pytest.mark.parametrize("n_features", [1, 2], ids="D={}".format)
class TestQuadrature:
    @staticmethod
    def mass(flows, points, areas):
        with torch.no_grad():
            return (flows.log_prob(points).exp() * areas).sum(dim=1)

    def test_density_of_each_component_integrates_to_one(
        self, family, n_features, make_flows, whole_space
    ):
        flows = make_flows(family, N_COMPONENTS, n_features, seed=1)
        mass, coarse = (
            self.mass(flows, *integration_points(flows, whole_space, n_points))
            for n_points in ((16001, 8001) if n_features == 1 else (201, 101))
        )
        # Kinks, at the networks' ReLU and the splines' knots, leave an error that falls with
        # the square of the spacing, so that twice the spacing shows how large it is.
        of_kinks = (mass - coarse).abs().max().item()
        tolerance = 1e-5 if n_features == 1 else min(1e-4 + of_kinks, 1e-2)
        np.testing.assert_allclose(mass.numpy(), 1, rtol=0, atol=tolerance)

    def test_mean_log_prob_of_samples_is_minus_the_entropy(
        self, family, n_features, make_flows, whole_space
    ):
        flows = make_flows(family, N_COMPONENTS, n_features, seed=1)
        n_rows = 4000
        points, areas = integration_points(flows, whole_space, 4001 if n_features == 1 else 151)
        with torch.no_grad():
            x = flows.sample(torch.tensor([n_rows] * N_COMPONENTS))
            of_samples = flows.log_prob(x.reshape(N_COMPONENTS, n_rows, n_features))
            log_prob = flows.log_prob(points)
        expected = (log_prob.exp() * log_prob.clamp(min=-1e4) * areas).sum(dim=1)
        standard_error = of_samples.std(dim=1) / n_rows**0.5
        assert ((of_samples.mean(dim=1) - expected).abs() < 4 * standard_error).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_samples_follow_the_integrated_density(family, make_flows, whole_space, seed):
    flows = make_flows(family, N_COMPONENTS, 1, seed=seed)
    points, areas = integration_points(flows, whole_space, 4001)
    counts = torch.tensor([3000, 0, 1500])
    with torch.no_grad():
        samples = flows.sample(counts)
        cumulative = (flows.log_prob(points).exp() * areas).cumsum(dim=1)
    for component, rows in enumerate(samples.split(counts.tolist())):
        if len(rows):
            grid = points[component, :, 0].numpy(), cumulative[component].numpy()
            p_value = kstest(rows[:, 0].numpy(), lambda x, grid=grid: np.interp(x, *grid)).pvalue
            assert p_value > 1e-3


def test_samples_of_each_component_are_standard_normal_in_its_base(
    family, n_features, dtype, make_flows
):
    flows = make_flows(family, N_COMPONENTS, n_features, dtype=dtype)
    counts = torch.tensor([1000, 300, 700])
    with torch.no_grad():
        parts = flows.sample(counts).split(counts.tolist())
        for component, rows in enumerate(parts):
            z, _ = flows.to_base(rows, torch.tensor([component]))
            # No feature by chance: 7 features of 3 components of 48 cases.
            for feature in z[0].double().numpy().T:
                assert kstest(feature, "norm").pvalue > 1e-5
