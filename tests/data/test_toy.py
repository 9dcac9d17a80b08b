import math

import numpy as np
import pytest
import torch

from vmonf.data import Pinwheel, TwoCircles

PINWHEELS = [
    Pinwheel(),
    Pinwheel(rate=0.4),
    Pinwheel(rate=0.0),
    Pinwheel(n_wings=1),
    # Here, a twist by the first feature instead of the radius would not be one to one.
    Pinwheel(n_wings=3, radial_std=0.5, tangential_std=0.8, rate=1.0),
]
CIRCLES = [TwoCircles(), TwoCircles(noise_std=0.05), TwoCircles(0.3, 0.2, 0.4)]
EVERY_ONE = PINWHEELS + CIRCLES


def polar_grid(n_wings, largest_radius, n_radii, n_angles):
    """Return rows on a sector of the plane and their areas; all sectors are equivalent."""
    step = largest_radius / n_radii
    radii = (np.arange(n_radii) + 0.5) * step
    angles = (np.arange(n_angles) + 0.5) * 2 * np.pi / n_wings / n_angles
    radius, angle = (part.ravel() for part in np.meshgrid(radii, angles, indexing="ij"))
    rows = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return rows, radius * step * 2 * np.pi / n_angles


def twist(pinwheel, features, component):
    """Map one row as in the definition of the generator, in torch."""
    angle = 2 * math.pi * component / pinwheel.n_wings
    angle = angle + pinwheel.rate * torch.exp(torch.linalg.vector_norm(features))
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).reshape(2, 2)
    return features @ rotation


def feature_log_prob(pinwheel, radial, tangential):
    quadratic = ((radial - 1) / pinwheel.radial_std) ** 2
    quadratic = quadratic + (tangential / pinwheel.tangential_std) ** 2
    scale = 2 * np.pi * pinwheel.radial_std * pinwheel.tangential_std
    return -quadratic / 2 - math.log(scale)


@pytest.mark.parametrize("pinwheel", PINWHEELS, ids=repr)
def test_pinwheel_integrates_to_one(pinwheel):
    rows, areas = polar_grid(pinwheel.n_wings, 5.0, 800, 480 // pinwheel.n_wings)
    assert np.sum(np.exp(pinwheel.log_prob(rows)) * areas) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("pinwheel", PINWHEELS[:2], ids=repr)
def test_every_wing_integrates_to_one_on_a_cartesian_grid(pinwheel):
    axis = np.linspace(-2.6, 2.6, 261)
    rows = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    totals = np.exp(pinwheel.component_log_prob(rows)).sum(axis=0) * (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(totals, 1.0, atol=1e-4)


@pytest.mark.parametrize("circles", CIRCLES, ids=repr)
def test_circles_integrate_to_one(circles):
    radii = (np.arange(100_000) + 0.5) * 3.0 / 100_000
    rows = np.stack([radii, np.zeros_like(radii)], axis=1)
    density = np.exp(circles.component_log_prob(rows))
    totals = np.sum(density * 2 * np.pi * radii[:, None], axis=0) * 3.0 / 100_000
    np.testing.assert_allclose(totals, 1.0, atol=1e-8)


@pytest.mark.parametrize("pinwheel", PINWHEELS, ids=repr)
def test_density_at_twisted_features_is_theirs_over_the_jacobian_by_autograd(pinwheel):
    generator = np.random.default_rng(1)
    for component in range(pinwheel.n_wings):
        for _ in range(10):
            noise = generator.standard_normal(2) * [pinwheel.radial_std, pinwheel.tangential_std]
            features = torch.tensor(np.array([1.0, 0.0]) + noise)
            row = twist(pinwheel, features, component)
            jacobian = torch.autograd.functional.jacobian(
                lambda features, component=component: twist(pinwheel, features, component),
                features,
            )
            expected = feature_log_prob(pinwheel, *features.tolist())
            expected -= torch.linalg.slogdet(jacobian).logabsdet.item()
            actual = pinwheel.component_log_prob(row.numpy()[None])[0, component]
            assert actual == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("pinwheel", PINWHEELS, ids=repr)
def test_samples_are_the_twisted_features_of_the_seed(pinwheel):
    X, labels = pinwheel.sample(7, random_state=2)
    generator = np.random.default_rng(2)
    expected = generator.permutation(np.repeat(np.arange(pinwheel.n_wings), 7))
    np.testing.assert_array_equal(labels, expected)
    noise = generator.standard_normal(X.shape) * [pinwheel.radial_std, pinwheel.tangential_std]
    for row, label, features in zip(X, labels, noise + np.array([1.0, 0.0]), strict=True):
        twisted = twist(pinwheel, torch.tensor(features), label)
        np.testing.assert_allclose(row, twisted, atol=1e-12)


def counts_and_expectations(toy, n_samples, n_cells, n_points):
    """Count the samples in each cell of [-2, 2]^2, and how many the density predicts there."""
    edges = np.linspace(-2.0, 2.0, n_cells + 1)
    X, _ = toy.sample(n_samples // toy.n_components, random_state=3)
    observed, _, _ = np.histogram2d(X[:, 0], X[:, 1], bins=(edges, edges))
    width = 4.0 / n_cells / n_points
    points = -2.0 + (np.arange(n_cells * n_points) + 0.5) * width
    rows = np.stack(np.meshgrid(points, points, indexing="ij"), axis=-1).reshape(-1, 2)
    mass = np.exp(toy.log_prob(rows)) * width**2
    mass = mass.reshape(n_cells, n_points, n_cells, n_points).sum(axis=(1, 3))
    return observed, len(X) * mass


@pytest.mark.parametrize(
    ("toy", "n_points"),
    [
        (Pinwheel(), 8),
        (Pinwheel(rate=0.4), 8),
        (PINWHEELS[-1], 8),
        (TwoCircles(noise_std=0.05), 8),
        # The density is infinite at the origin, which touches four of the cells.
        (CIRCLES[-1], 40),
    ],
    ids=repr,
)
def test_histogram_of_samples_fits_the_cells_of_the_density(toy, n_points):
    observed, expected = counts_and_expectations(toy, 1_000_000, n_cells=40, n_points=n_points)
    assert np.all(np.abs(observed - expected) < 5 * np.sqrt(expected + 1) + 0.02 * expected + 10)
    # If the density is right, the mean square of standardised differences is one over cells with
    # many samples.
    filled = expected > 50
    chi_square = np.mean((observed - expected)[filled] ** 2 / expected[filled])
    assert 0.8 < chi_square < 1.25


@pytest.mark.parametrize("pinwheel", PINWHEELS, ids=repr)
def test_mean_log_prob_of_pinwheel_samples_is_the_entropy(pinwheel):
    rows, areas = polar_grid(pinwheel.n_wings, 5.0, 600, 300 // pinwheel.n_wings)
    log_prob = pinwheel.log_prob(rows)
    expected = np.sum(np.exp(log_prob) * log_prob * areas)
    samples, _ = pinwheel.sample(40_000 // pinwheel.n_wings, random_state=4)
    actual = pinwheel.log_prob(samples)
    assert abs(actual.mean() - expected) < 4 * actual.std() / math.sqrt(len(actual))


@pytest.mark.parametrize("circles", CIRCLES, ids=repr)
def test_mean_log_prob_of_circle_samples_is_the_entropy(circles):
    radii = (np.arange(100_000) + 0.5) * 3.0 / 100_000
    log_prob = circles.log_prob(np.stack([radii, np.zeros_like(radii)], axis=1))
    expected = np.sum(np.exp(log_prob) * log_prob * 2 * np.pi * radii) * 3.0 / 100_000
    samples, _ = circles.sample(20_000, random_state=5)
    actual = circles.log_prob(samples)
    assert abs(actual.mean() - expected) < 4 * actual.std() / math.sqrt(len(actual))


@pytest.mark.parametrize("toy", EVERY_ONE, ids=repr)
def test_sampling_is_balanced_shuffled_and_repeatable(toy):
    X, labels = toy.sample(50, random_state=6)
    assert X.shape == (50 * toy.n_components, 2)
    assert X.dtype == np.float64
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [50] * toy.n_components
    assert toy.n_components == 1 or np.any(np.diff(labels) < 0)
    for again in (6, np.random.default_rng(6)):
        X_again, labels_again = toy.sample(50, random_state=again)
        np.testing.assert_array_equal(X, X_again)
        np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(X, toy.sample(50, random_state=7)[0])
    assert not np.array_equal(toy.sample(50)[0], toy.sample(50)[0])


@pytest.mark.parametrize("toy", [Pinwheel(), TwoCircles()], ids=repr)
def test_samples_are_most_probable_under_their_own_component(toy):
    X, labels = toy.sample(200, random_state=8)
    assert np.mean(toy.component_log_prob(X).argmax(axis=1) == labels) > 0.99


def test_outer_circle_comes_first():
    X, labels = TwoCircles().sample(100, random_state=9)
    radii = np.hypot(X[:, 0], X[:, 1])
    assert radii[labels == 0].mean() == pytest.approx(0.8, abs=0.01)
    assert radii[labels == 1].mean() == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize("toy", EVERY_ONE, ids=repr)
def test_mixture_is_the_mean_of_its_components(toy):
    X, _ = toy.sample(20, random_state=10)
    components = np.exp(toy.component_log_prob(X))
    np.testing.assert_allclose(np.exp(toy.log_prob(X)), components.mean(axis=1))


@pytest.mark.parametrize("toy", EVERY_ONE, ids=repr)
def test_far_rows_are_improbable_but_never_nan(toy):
    # Warnings are errors in these tests, so an overflow would fail.
    distances = np.array([0.0, 1e-300, 5.0, 7.0, 9.0, 20.0, 690.0, 720.0, 1e3, 1e10, 1e100, 1e150])
    rows = np.stack([distances, distances / 3], axis=1)
    values = toy.component_log_prob(rows)
    assert np.all(np.isfinite(values))
    # Far from the origin, the density falls at least as fast as that of the widest feature.
    width = (
        toy.noise_std if isinstance(toy, TwoCircles) else max(toy.radial_std, toy.tangential_std)
    )
    radius = np.hypot(*rows[3:].T)
    assert np.all(values[3:] <= 8 - ((radius[:, None] - 1) / width) ** 2 / 2)
    # Here the logarithm itself overflows.
    far = [[1e200, 0.0], [0.0, -1e300], [1e300, 1e300], [1.7e308, 1.7e308]]
    assert toy.log_prob(far).tolist() == [-math.inf] * 4


def test_twist_of_an_extreme_rate_is_never_nan():
    for rate in (1e-300, 1e300):
        pinwheel = Pinwheel(rate=rate)
        X, _ = pinwheel.sample(10, random_state=0)
        assert np.all(np.isfinite(pinwheel.log_prob(np.concatenate([X, 1e3 * X]))))


def test_no_rows_have_no_densities():
    assert Pinwheel().component_log_prob(np.empty((0, 2))).shape == (0, 5)
    assert TwoCircles().log_prob(np.empty((0, 2))).shape == (0,)


@pytest.mark.parametrize("toy", [Pinwheel(), TwoCircles()], ids=repr)
def test_rows_that_are_no_rows_are_refused(toy):
    with pytest.raises(ValueError, match=r"shape \(n, 2\), not \(2,\)"):
        toy.log_prob([0.0, 1.0])
    with pytest.raises(ValueError, match=r"not \(1, 3\)"):
        toy.component_log_prob([[0.0, 1.0, 2.0]])
    with pytest.raises(ValueError, match="2 rows are not, the first of them row 1"):
        toy.log_prob([[0.0, 1.0], [math.nan, 1.0], [math.inf, 0.0]])
    with pytest.raises(ValueError, match="at least 1, not 0"):
        toy.sample(0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Pinwheel(n_wings=0), "n_wings must be at least 1"),
        (lambda: Pinwheel(radial_std=0.0), "radial_std must be positive"),
        (lambda: Pinwheel(tangential_std=math.nan), "tangential_std must be positive"),
        (lambda: Pinwheel(rate=-0.1), "rate must be at least zero"),
        (lambda: Pinwheel(rate=math.inf), "rate must be at least zero"),
        (lambda: TwoCircles(noise_std=-1.0), "noise_std must be positive"),
        (lambda: TwoCircles(outer_radius=math.inf), "outer_radius must be positive"),
        (lambda: TwoCircles(0.4, 0.8), "inner_radius must be less"),
    ],
)
def test_impossible_parameters_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
