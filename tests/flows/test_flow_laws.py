"""What every flow of every family obeys, in both precisions."""

import copy

import pytest
import torch

from vmonf.flows.bijections import Affine

VARIANTS = [
    pytest.param({"mixing": "permutation"}, id="permutation-full"),
    pytest.param({"mixing": "lu", "diagonal_whitening": True}, id="lu-diagonal"),
]
every_variant = pytest.mark.parametrize("variant", VARIANTS)
both_ways = pytest.mark.parametrize("way", ["to_base", "from_base"])


def normal(*shape, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def past_three_deviations(*shape, dtype=torch.float64):
    """Every feature between 3 and 6 standard deviations from 0, on either side."""
    size = 3 + 3 * torch.rand(shape, generator=torch.Generator().manual_seed(1))
    return (size * normal(*shape).sign()).to(dtype)


def trained(flows):
    """Names and parameters, without those that are fixed."""
    return [(name, p) for name, p in flows.named_parameters() if p.requires_grad]


def sizes(values):
    """Norms of the rows, at least 1 so as to serve as scales of rounding errors."""
    return values.double().norm(dim=-1).clamp(min=1)


# The fixture itself


@every_variant
def test_perturbed_flows_are_far_from_affine_and_well_conditioned(
    family, n_features, make_flows, jacobian_of, variant
):
    flows = make_flows(family, 3, n_features, **variant)
    x, _ = flows.from_base(normal(3, 200, n_features))
    _, _, jacobian = jacobian_of(flows.to_base, x)

    conditions = torch.linalg.cond(jacobian)
    assert conditions.quantile(0.9) < 300
    spread = (jacobian - jacobian.mean(dim=1, keepdim=True)).square().mean(dim=(1, 2, 3)).sqrt()
    relative = spread / jacobian.mean(dim=1).square().mean(dim=(1, 2)).sqrt()
    layers = list(flows.chain.transforms)[1:]
    if n_features == 1 and all(
        isinstance(getattr(layer, "bijection", None), Affine) for layer in layers
    ):
        assert relative.max() < 1e-12  # affine of one feature: a Gaussian whatever it learns
    else:
        assert relative.min() > 0.05


# Log-determinants


@both_ways
@every_variant
def test_log_det_is_that_of_the_autograd_jacobian(
    family, n_features, n_components, dtype, make_flows, jacobian_of, variant, way
):
    flows = make_flows(family, n_components, n_features, dtype=dtype, **variant)
    values = normal(n_components, 10, n_features, dtype=dtype)
    if way == "to_base":
        values, _ = flows.from_base(values)

    _, log_det, jacobian = jacobian_of(getattr(flows, way), values)

    expected = torch.linalg.slogdet(jacobian.double()).logabsdet
    # A determinant's relative error is that of the entries times the condition.
    condition = torch.linalg.cond(jacobian.double())
    tolerance = 100 * torch.finfo(dtype).eps * (condition + expected.abs())
    assert ((log_det.double() - expected).abs() <= tolerance).all()


@every_variant
def test_log_dets_of_the_two_ways_cancel(
    family, n_features, n_components, dtype, make_flows, jacobian_of, variant
):
    flows = make_flows(family, n_components, n_features, dtype=dtype, **variant)
    with torch.no_grad():
        x, backward = flows.from_base(normal(n_components, 50, n_features, dtype=dtype))
        _, forward = flows.to_base(x)
    torch.testing.assert_close(
        forward, -backward, rtol=0, atol=1e-3 if dtype is torch.float32 else 1e-11
    )


# Round trips


@every_variant
@pytest.mark.parametrize("draw", [normal, past_three_deviations])
def test_base_to_data_and_back(
    family, n_features, n_components, dtype, make_flows, jacobian_of, variant, draw
):
    flows = make_flows(family, n_components, n_features, dtype=dtype, **variant)
    z = draw(n_components, 15, n_features, dtype=dtype)
    with torch.no_grad():
        x, _ = flows.from_base(z)
    again, _, jacobian = jacobian_of(flows.to_base, x)

    # Rounding of x, and of what comes between, is magnified by the map and its condition.
    jacobian = jacobian.double()
    magnified = torch.linalg.matrix_norm(jacobian, ord=2) * sizes(x)
    tolerance = 30 * torch.finfo(dtype).eps * (magnified + torch.linalg.cond(jacobian) * sizes(z))
    assert ((again - z).double().norm(dim=-1) <= tolerance).all()


@every_variant
@pytest.mark.parametrize("deviations", [1.0, 5.0])
def test_data_to_base_and_back(
    family, n_features, n_components, dtype, make_flows, jacobian_of, variant, deviations
):
    flows = make_flows(family, n_components, n_features, dtype=dtype, **variant)
    x, _ = flows.whitening.inverse(deviations * normal(n_components, 15, n_features, dtype=dtype))
    z, _, jacobian = jacobian_of(flows.to_base, x)
    with torch.no_grad():
        again, _ = flows.from_base(z)

    jacobian = jacobian.double()
    condition = torch.linalg.cond(jacobian)
    magnified = torch.linalg.matrix_norm(torch.linalg.inv(jacobian), ord=2) * sizes(z)
    tolerance = 30 * torch.finfo(dtype).eps * (magnified + condition * sizes(x))
    assert ((again - x).double().norm(dim=-1) <= tolerance).all()


# Far out


@both_ways
@every_variant
@pytest.mark.parametrize("n_layers", [4, 10])
def test_values_and_gradients_are_finite_at_a_thousand_deviations(
    family, n_features, dtype, make_flows, variant, way, n_layers
):
    flows = make_flows(family, 3, n_features, dtype=dtype, n_layers=n_layers, **variant)
    values = 1e3 * normal(3, 10, n_features, dtype=dtype).sign()
    if way == "to_base":
        values, _ = flows.whitening.inverse(values)
    values = values.detach().requires_grad_()

    outputs, log_det = getattr(flows, way)(values)
    assert outputs.isfinite().all()
    assert log_det.isfinite().all()
    if way == "to_base":
        objective = flows.log_prob(values)
        assert objective.isfinite().all()
    else:
        objective = outputs.sum(dim=-1) + log_det
    objective.mean().backward()
    assert values.grad.isfinite().all()
    for name, parameter in trained(flows):
        assert parameter.grad.isfinite().all(), name


@every_variant
def test_log_prob_falls_away_from_the_data(family, n_features, make_flows, variant):
    flows = make_flows(family, 3, n_features, **variant)
    x, _ = flows.from_base(normal(3, 20, n_features))
    far, _ = flows.whitening.inverse(1e3 * normal(3, 20, n_features).sign())
    assert flows.log_prob(far).max() < flows.log_prob(x).min() - 100


# Rows and components


def test_log_prob_is_the_base_density_and_the_log_det(
    family, n_features, n_components, dtype, make_flows
):
    flows = make_flows(family, n_components, n_features, dtype=dtype)
    x = 3 * normal(10, n_features, dtype=dtype)
    z, log_det = flows.to_base(x)
    base = torch.distributions.Normal(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype))
    expected = base.log_prob(z).sum(dim=-1) + log_det
    torch.testing.assert_close(flows.log_prob(x), expected)


def test_shared_rows_and_own_rows_agree(family, n_features, n_components, dtype, make_flows):
    flows = make_flows(family, n_components, n_features, dtype=dtype)
    x = 3 * normal(10, n_features, dtype=dtype)
    own = x.expand(n_components, 10, n_features).clone()
    assert flows.log_prob(x).shape == (n_components, 10)
    torch.testing.assert_close(flows.log_prob(x), flows.log_prob(own))


def test_rows_do_not_see_each_other(family, n_features, dtype, make_flows):
    flows = make_flows(family, 3, n_features, dtype=dtype)
    x = 3 * normal(6, n_features, dtype=dtype)
    one_by_one = torch.cat([flows.log_prob(row[None]) for row in x], dim=1)
    torch.testing.assert_close(flows.log_prob(x), one_by_one)
    x[2] = float("nan")
    others = [0, 1, 3, 4, 5]
    torch.testing.assert_close(flows.log_prob(x)[:, others], one_by_one[:, others])


def test_no_rows_have_no_log_prob(family, n_features, make_flows):
    flows = make_flows(family, 3, n_features)
    assert flows.log_prob(torch.zeros(0, n_features, dtype=torch.float64)).shape == (3, 0)


@every_variant
def test_a_component_among_others_equals_itself_alone(
    family, n_features, dtype, make_flows, variant
):
    three = make_flows(family, 3, n_features, dtype=dtype, **variant)
    x = 3 * normal(10, n_features, dtype=dtype)
    for component in range(3):
        one = make_flows(family, 1, n_features, dtype=dtype, **variant)
        shared = three.state_dict()
        orders = {name for name in shared if name.endswith("order")}
        one.load_state_dict(
            {n: v if n in orders else v[component : component + 1] for n, v in shared.items()}
        )
        torch.testing.assert_close(one.log_prob(x)[0], three.log_prob(x)[component])


@every_variant
@pytest.mark.parametrize("subset", [[2, 0], [1], [1, 1, 2]], ids=str)
def test_a_subset_of_components_is_those_rows_of_all(
    family, n_features, dtype, make_flows, variant, subset
):
    flows = make_flows(family, 3, n_features, dtype=dtype, **variant)
    x = 3 * normal(10, n_features, dtype=dtype)
    components = torch.tensor(subset)
    own = x.expand(len(subset), 10, n_features).clone()
    expected = flows.log_prob(x)[components]
    torch.testing.assert_close(flows.log_prob(x, components), expected)
    torch.testing.assert_close(flows.log_prob(own, components), expected)


@every_variant
def test_gradients_of_a_subset_reach_the_full_parameters(
    family, n_features, dtype, make_flows, variant
):
    flows = make_flows(family, 3, n_features, dtype=dtype, **variant)
    x = 3 * normal(10, n_features, dtype=dtype)
    parameters = [parameter for _, parameter in trained(flows)]
    part = torch.autograd.grad(flows.log_prob(x, torch.tensor([2, 0])).sum(), parameters)
    whole = torch.autograd.grad(flows.log_prob(x)[[2, 0]].sum(), parameters)
    for of_part, of_whole in zip(part, whole, strict=True):
        assert (of_part[1] == 0).all()
        scale = of_whole.abs().max().item() if of_whole.numel() else 0
        torch.testing.assert_close(of_part, of_whole, rtol=1e-4, atol=1e-4 * scale)


@every_variant
def test_a_dead_component_leaves_the_others_bit_for_bit(
    family, n_features, dtype, make_flows, variant
):
    flows = make_flows(family, 3, n_features, dtype=dtype, **variant)
    dead = copy.deepcopy(flows)
    with torch.no_grad():
        for parameter in dead.parameters():
            parameter[1] = float("nan")
    x = 3 * normal(10, n_features, dtype=dtype)
    z = normal(3, 10, n_features, dtype=dtype)
    for of_dead, of_flows in (
        (dead.log_prob(x), flows.log_prob(x)),
        (dead.from_base(z)[0], flows.from_base(z)[0]),
    ):
        assert torch.equal(of_dead[[0, 2]], of_flows[[0, 2]])
        assert of_dead[1].isnan().any(), "a NaN must stay visible, not be masked"


# State


def test_every_parameter_has_a_leading_component_axis(family, make_flows):
    # 5 components: a number that no other axis has.
    for mixing in ("permutation", "lu"):
        for diagonal in (False, True):
            flows = make_flows(family, 5, 7, mixing=mixing, diagonal_whitening=diagonal)
            for name, parameter in flows.named_parameters():
                assert parameter.shape[0] == 5, name


@every_variant
def test_flows_built_from_another_seed_take_a_state_over_whole(
    family, n_features, make_flows, variant
):
    flows = make_flows(family, 3, n_features, **variant)
    other = make_flows(family, 3, n_features, seed=5, **variant)
    other.load_state_dict(flows.state_dict())
    z = normal(10, n_features)
    for way in ("to_base", "from_base"):
        for mine, theirs in zip(getattr(flows, way)(z), getattr(other, way)(z), strict=True):
            assert torch.equal(mine, theirs), way


@every_variant
def test_precision_can_be_changed_to_and_fro(family, n_features, make_flows, variant):
    flows = make_flows(family, 3, n_features, dtype=torch.float32, **variant)
    x = 3 * normal(10, n_features, dtype=torch.float32)
    expected = flows.log_prob(x)
    counts = torch.tensor([2, 0, 3])
    assert flows.sample(counts).dtype == expected.dtype == torch.float32
    flows.double()
    assert flows.log_prob(x.double()).dtype == torch.float64
    assert flows.sample(counts).dtype == torch.float64
    assert torch.equal(flows.float().log_prob(x), expected)


def test_building_and_drawing_with_a_generator_leave_global_randomness_alone(family, make_flows):
    before = torch.get_rng_state()
    flows = make_flows(family, 2, 7, mixing="lu")
    flows.sample(torch.tensor([3, 4]), torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)
