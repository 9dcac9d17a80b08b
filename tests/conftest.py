"""Fixtures that the tests share: nontrivial flows and a reference implementation."""

import bisect
import math
import random

import numpy as np
import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from vmonf.flows import FAMILIES, ComponentFlows, Transform, Whitening, build_flows, family_of
from vmonf.flows.autoregressive import MaskedAutoregressive
from vmonf.flows.bijections import Affine, Bijection, RationalQuadraticSpline
from vmonf.flows.coupling import Coupling
from vmonf.flows.mixing import LUMixing, Permutation
from vmonf.flows.networks import ComponentLinear, ComponentMLP
from vmonf.model import MixtureModel, PosteriorNetwork, Standardizer

# Tests use the same examples each time, and have no deadline because a shared machine may stall.
settings.register_profile("vmonf", derandomize=True, deadline=None, database=None)
settings.load_profile("vmonf")


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Use one thread, so that products are summed in the same order each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_interrupt_before(monkeypatch):
    """No test's Ctrl-C is the second after that of another test."""
    monkeypatch.setattr("vmonf.training.interrupt._last", -math.inf)


@pytest.fixture(autouse=True)
def seeds():
    """Seed the global random number generators, so that tests do not affect each other."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(params=list(FAMILIES))
def family(request):
    """The name of each family."""
    return request.param


@pytest.fixture(params=[1, 2, 7], ids="D={}".format)
def n_features(request):
    """D: one, the smallest pair, and an odd number, which a coupling splits unevenly."""
    return request.param


@pytest.fixture(params=[1, 3], ids="K={}".format)
def n_components(request):
    """K: one flow, and several."""
    return request.param


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request):
    """The two precisions that flows are used in."""
    return request.param


@pytest.fixture
def make_flows():
    """`perturbed_flows`, for tests to call."""
    return perturbed_flows


@pytest.fixture
def make_family():
    """`family_with`, for tests to call."""
    return family_with


@pytest.fixture
def make_model():
    """`perturbed_model`, for tests to call."""
    return perturbed_model


@pytest.fixture
def random_gaussians():
    """`well_conditioned_gaussians`, for tests to call."""
    return well_conditioned_gaussians


@pytest.fixture
def jacobian_of():
    """`batched_jacobian`, for tests to call."""
    return batched_jacobian


@pytest.fixture
def oracle():
    """`reference_log_prob`, for tests to call."""
    return reference_log_prob


@pytest.fixture
def whole_space():
    """`quadrature`, for tests to call."""
    return quadrature


def well_conditioned_gaussians(
    n_components: int, n_features: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Means of order 2 and covariances with eigenvalues between exp(-1) and e, in float64."""
    shape = (n_components, n_features)
    means = 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    square = torch.randn(*shape, n_features, generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(square)
    eigenvalues = torch.exp(2 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1)
    return means, (basis * eigenvalues[:, None, :]) @ basis.mT


def family_with(family: str, **settings):
    """Return the family of a name, with those of the given settings that it has."""
    spec = family_of(family)
    own = spec.get_params()
    return type(spec)(**own | {name: settings[name] for name in settings if name in own})


#: Determines the noise on networks whose layer has no bijection.
SPLINE = RationalQuadraticSpline()


def perturbed_flows(
    family: str,
    n_components: int,
    n_features: int,
    *,
    dtype: torch.dtype = torch.float64,
    n_layers: int = 4,
    hidden: tuple[int, ...] = (16, 16),
    mixing: str = "permutation",
    diagonal_whitening: bool = False,
    seed: int = 0,
) -> ComponentFlows:
    """Build flows like trained ones: fresh flows are Gaussians, so each parameter gets noise.

    The noise is small enough for the maps to be well-conditioned (tolerances are derived
    from that), and large enough for them to be far from affine; a test checks both. All
    parameters of a bijection act on the same value, so they get less noise if there are many.
    """
    generator = torch.Generator().manual_seed(seed)
    flows = build_flows(
        family_with(family, n_layers=n_layers, hidden=hidden, mixing=mixing),
        n_components,
        n_features,
        diagonal_whitening=diagonal_whitening,
        generator=generator,
    ).double()
    with torch.no_grad():
        for layer in list(flows.chain.transforms)[1:]:
            output_noise = 0.65 * getattr(layer, "bijection", SPLINE).n_parameters ** -0.25
            of_networks = {
                id(parameter): output_noise if linear is network.layers[-1] else 0.7
                for network in layer.modules()
                if isinstance(network, ComponentMLP)
                for linear in network.layers
                for parameter in linear.parameters()
            }
            for name, parameter in layer.named_parameters():
                size = of_networks.get(id(parameter), 0.5 / math.sqrt(n_features))
                if name.endswith("weight"):
                    # The noise of an output should not depend on the number of its inputs.
                    size /= math.sqrt(max(parameter.shape[1], 1))
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(size * noise)
            apply_masks(layer)
    flows.whitening.set_gaussians(*well_conditioned_gaussians(n_components, n_features, generator))
    if flows.whitening.upper is not None:
        noise = torch.randn(flows.whitening.upper.shape, generator=generator, dtype=torch.float64)
        flows.whitening.upper.data.add_(0.3 * noise)
    return flows.to(dtype)


def apply_masks(flows: nn.Module) -> None:
    """Set masked weights to zero, which the layers rely on."""
    for module in flows.modules():
        if isinstance(module, ComponentLinear):
            module.apply_mask()


def perturbed_model(
    family: str,
    n_components: int,
    n_features: int,
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    learn_weights: bool = False,
    **options,
) -> MixtureModel:
    """Build a mixture like a trained one, with its own units and unequal weights."""
    generator = torch.Generator().manual_seed(100 + seed)
    units = torch.rand(2, n_features, generator=generator, dtype=torch.float64)
    network = PosteriorNetwork(n_features, n_components, (8,), generator=generator)
    return MixtureModel(
        Standardizer(20 * units[0] - 10, 0.1 + 3 * units[1]),
        perturbed_flows(family, n_components, n_features, dtype=dtype, seed=seed, **options),
        network.to(dtype),
        0.2 + torch.rand(n_components, generator=generator).to(dtype),
        learn_weights=learn_weights,
    )


def batched_jacobian(function, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs, log-determinants and, by autograd, each row's Jacobian (K, B, D, D).

    Rows and components are independent of each other (a test checks this), so one backward
    pass from the sum of an output feature gives that row of every Jacobian.
    """
    values = values.detach().clone().requires_grad_()
    outputs, log_det = function(values)
    rows = [
        torch.autograd.grad(output.sum(), values, retain_graph=True)[0]
        for output in outputs.unbind(dim=-1)
    ]
    return outputs.detach(), log_det.detach(), torch.stack(rows, dim=-2)


def quadrature(centre: Tensor, scale: Tensor, n_points: int, reach: float) -> tuple[Tensor, Tensor]:
    """Return points and weights that integrate smooth functions over all of R^D, D = 1 or 2.

    This is the trapezoidal rule in u, for x = centre + scale * sinh(u) and |u| < `reach`. It is
    fine in the middle and extends to scale * sinh(reach), so that it includes heavy tails.
    """
    u = torch.linspace(-reach, reach, n_points, dtype=torch.float64)
    weights = u.cosh() * (u[1] - u[0])
    axes = [m + s * u.sinh() for m, s in zip(centre, scale, strict=True)]
    points = torch.cartesian_prod(*axes).reshape(-1, len(axes))
    areas = torch.cartesian_prod(*(s * weights for s in scale)).reshape(-1, len(axes))
    return points, areas.prod(dim=-1)


# The reference implementation follows the docstrings and the papers for one component, one row
# and one feature at a time, in Python floats and float64 vectors. It shares no code with vmonf,
# and reads only the layers, their settings and their masks from the flows.


def reference_log_prob(flows: ComponentFlows, component: int, row: np.ndarray) -> float:
    """Return log p(row given component) in nats."""
    parameters = {
        name: values.double().numpy()[component]
        for name, values in flows.state_dict().items()
        if values.is_floating_point()
    }
    values = [float(value) for value in row]
    log_det = 0.0
    for index, layer in enumerate(flows.chain.transforms):
        prefix = f"chain.transforms.{index}."
        own = {n.removeprefix(prefix): p for n, p in parameters.items() if n.startswith(prefix)}
        values, change = _reference_layer(layer, own, values)
        log_det += change
    return log_det - sum(value**2 for value in values) / 2 - len(values) * _HALF_LOG_TWO_PI


_HALF_LOG_TWO_PI = 0.91893853320467274178


def _reference_layer(
    layer: Transform, own: dict[str, np.ndarray], x: list[float]
) -> tuple[list[float], float]:
    n_features = len(x)
    if isinstance(layer, Whitening):
        log_diagonal = own["log_diagonal"][0]
        values = [x[i] - own["mean"][0, i] for i in range(n_features)]
        if layer.diagonal:
            z = [values[j] * math.exp(log_diagonal[j]) for j in range(n_features)]
            return z, float(sum(log_diagonal))
        values = [
            sum(values[i] * own["rotation"][i, j] for i in range(n_features))
            for j in range(n_features)
        ]
        z = [
            values[j] * math.exp(log_diagonal[j])
            + sum(values[i] * own["upper"][i, j] for i in range(j))
            for j in range(n_features)
        ]
        return z, float(sum(log_diagonal))
    if isinstance(layer, Permutation):
        return [x[place] for place in layer.order.tolist()], 0.0
    if isinstance(layer, LUMixing):
        values = [x[place] for place in layer.order.tolist()]
        values = [
            values[j] + sum(values[i] * own["lower"][i, j] for i in range(j + 1, n_features))
            for j in range(n_features)
        ]
        scales = [math.exp(value) for value in own["log_diagonal"]]
        values = [
            values[j] * scales[j] + sum(values[i] * own["upper"][i, j] for i in range(j))
            for j in range(n_features)
        ]
        return values, float(sum(own["log_diagonal"]))
    if isinstance(layer, Coupling):
        half = n_features // 2
        first, second = list(range(half)), list(range(half, n_features))
        passed, moved = (second, first) if layer.reverse else (first, second)
        outputs = _reference_network(layer.network, own, [x[i] for i in passed])
    elif isinstance(layer, MaskedAutoregressive):
        moved = list(range(n_features))
        outputs = _reference_network(layer.network, own, x)
    else:
        pytest.skip(f"the reference in float64 has no formula for {type(layer).__name__}")
    z, log_det = list(x), 0.0
    for place, feature in enumerate(moved):
        z[feature], log_slope = _reference_bijection(
            layer.bijection, outputs, place, len(moved), x[feature]
        )
        log_det += log_slope
    return z, log_det


def _reference_network(
    network: ComponentMLP, own: dict[str, np.ndarray], inputs: list[float]
) -> list[float]:
    values = np.array([x / (1 + abs(x) / 10) for x in inputs], dtype=np.float64)
    for index, layer in enumerate(network.layers):
        weight = own[f"network.layers.{index}.weight"]
        if layer.mask is not None:
            weight = weight * layer.mask.double().numpy()
        values = np.einsum("i,ij->j", values, weight) + own[f"network.layers.{index}.bias"][0]
        if index + 1 < len(network.layers):
            values = np.where(values > 0, values, 0.0)
    return values.tolist()


def _reference_bijection(
    bijection: Bijection, outputs: list[float], place: int, n_moved: int, x: float
) -> tuple[float, float]:
    limit = math.log(1000)
    if isinstance(bijection, Affine):
        # All shifts come first, then all log-scales.
        shift, raw = outputs[place], outputs[n_moved + place]
        log_scale = raw / (1 + abs(raw) / limit)
        return x * math.exp(log_scale) + shift, log_scale
    if not isinstance(bijection, RationalQuadraticSpline):
        pytest.skip(f"the reference in float64 has no formula for {type(bijection).__name__}")
    # Widths, heights and interior slopes, each for all features.
    n_bins, bound = bijection.n_bins, bijection.bound
    own = outputs[place::n_moved]
    if abs(x) >= bound:
        return x, 0.0
    knots = []
    for raw_sizes in (own[:n_bins], own[n_bins : 2 * n_bins]):
        sizes = [math.exp(raw / (1 + abs(raw) / (limit / 2))) for raw in raw_sizes]
        places = [-bound]
        for size in sizes:
            places.append(places[-1] + 2 * bound * size / math.fsum(sizes))
        knots.append(places)
    slopes = [1.0, *(math.exp(raw / (1 + abs(raw) / limit)) for raw in own[2 * n_bins :]), 1.0]
    k = min(bisect.bisect_right(knots[0], x) - 1, n_bins - 1)
    # Equations 4 and 5 of Durkan et al. (2019), with their symbols.
    width, height = knots[0][k + 1] - knots[0][k], knots[1][k + 1] - knots[1][k]
    s, xi = height / width, (x - knots[0][k]) / width
    beta = s + (slopes[k + 1] + slopes[k] - 2 * s) * xi * (1 - xi)
    z = knots[1][k] + height * (s * xi**2 + slopes[k] * xi * (1 - xi)) / beta
    slope = slopes[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + slopes[k] * (1 - xi) ** 2
    return z, math.log(s**2 * slope / beta**2)
