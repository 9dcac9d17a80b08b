"""Sampling: as many rows as asked for, at the cost of those rows, differentiable."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vmonf.flows import build_flows

COUNTS = {
    "even": lambda k: [1024 // k] * k,
    "skewed": lambda k: [max(1, 1024 >> i) if i < 20 else 1 for i in range(k)],
    "one takes all": lambda k: [1024] + [1] * (k - 1),
    "arithmetic": lambda k: list(range(1, k + 1)),
    "holes": lambda k: [0 if i % 2 else 37 + i for i in range(k)],
}


class LargestTensor(TorchDispatchMode):
    """Watches every tensor that an operation makes, and keeps the size of the largest."""

    def __init__(self):
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.n_bytes = max(self.n_bytes, leaf.untyped_storage().nbytes())
        return result


def rows_passed(flows, counts):
    """How many rows go through the chain of layers, and in how many passes."""
    passes = []
    handle = flows.chain.register_forward_hook(
        lambda chain, inputs, outputs: passes.append(outputs[0].shape[:2].numel())
    )
    with torch.no_grad():
        flows.sample(counts)
    handle.remove()
    return sum(passes), len(passes)


# What comes out


def far_apart(make_flows, family, n_components, n_features, **options):
    """Component c sits at (1e4 c, ..., 1e4 c)."""
    flows = make_flows(family, n_components, n_features, **options)
    with torch.no_grad():
        flows.whitening.mean.add_(1e4 * torch.arange(n_components)[:, None, None])
    return flows


@pytest.mark.parametrize("counts", [[3, 0, 5, 1], [0, 0, 0, 7], [0, 0, 0, 0], [100, 3, 50, 1]])
def test_exactly_the_counts_come_out_in_order_of_component(
    family, n_features, dtype, make_flows, counts
):
    flows = far_apart(make_flows, family, 4, n_features, dtype=dtype)
    with torch.no_grad():
        rows = flows.sample(torch.tensor(counts))
    assert rows.dtype == dtype
    assert rows.shape == (sum(counts), n_features)
    drawn_from = (rows / 1e4).round()
    expected = torch.arange(4).repeat_interleave(torch.tensor(counts))
    assert (drawn_from == expected[:, None]).all()


def test_the_generator_determines_the_sample(family, make_flows):
    flows = make_flows(family, 3, 2)
    counts = torch.tensor([5, 0, 9])
    with torch.no_grad():
        first, again, other = (
            flows.sample(counts, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
        )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_row_is_drawn_twice(family, make_flows):
    flows = make_flows(family, 5, 2)
    with torch.no_grad():
        rows = flows.sample(torch.tensor([100, 90, 3, 64, 63]))
    assert len(rows.unique(dim=0)) == len(rows)


def test_log_prob_given_with_a_sample_is_log_prob_at_the_sample(
    family, n_features, n_components, dtype, make_flows, jacobian_of
):
    flows = make_flows(family, n_components, n_features, dtype=dtype)
    z = torch.randn(n_components, 50, n_features, dtype=dtype)
    with torch.no_grad():
        x, log_det = flows.from_base(z)
    base = torch.distributions.Normal(torch.zeros((), dtype=dtype), torch.ones((), dtype=dtype))
    given = base.log_prob(z).sum(dim=-1) - log_det
    log_prob = flows.log_prob(x)
    _, _, jacobian = jacobian_of(flows.to_base, x)
    # z comes back with the rounding of x, magnified, and weighs in by its own size; and where a
    # spline's log-slope bends fast, the same rounding moves log_prob by its own slope.
    eps = torch.finfo(dtype).eps
    size = z.double().norm(dim=-1).clamp(min=1)
    tolerance = 100 * eps * size**2 * torch.linalg.cond(jacobian.double())
    rows = x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(flows.log_prob(rows).sum(), rows)
    tolerance = tolerance + 4 * eps * (slope * x).abs().sum(dim=-1).double()
    assert ((log_prob - given).double().abs() <= tolerance).all()


# What it costs


@pytest.mark.parametrize("n_components", [2, 7, 64], ids="K={}".format)
@pytest.mark.parametrize("name", COUNTS)
def test_fewer_rows_are_computed_than_twice_the_rows_asked_for(n_components, name, make_flows):
    flows = make_flows("realnvp", n_components, 2, n_layers=2)
    counts = COUNTS[name](n_components)
    n_rows, n_passes = rows_passed(flows, torch.tensor(counts))
    assert n_rows < 2 * sum(counts)
    assert n_passes <= max(counts).bit_length()


def test_an_even_sample_costs_no_more_rows_for_more_components(make_flows):
    for n_components in (2, 16, 64):
        flows = make_flows("realnvp", n_components, 2, n_layers=2)
        counts = torch.full((n_components,), 1024 // n_components)
        assert rows_passed(flows, counts) == (1024, 1)


def test_no_tensor_of_parameters_per_row_is_made(family, make_family):
    # 10 flows, 10,000 rows: gathering each row's parameters would take gigabytes.
    generator = torch.Generator().manual_seed(0)
    spec = make_family(family, n_layers=2, hidden=(64, 64))
    flows = build_flows(spec, 10, 2, generator=generator)
    n_rows = 10_000
    with torch.no_grad(), LargestTensor() as largest:
        flows.sample(torch.full((10,), n_rows // 10), generator)
    # No more than a hidden layer's values, or two features' splines of 23 parameters.
    widest = 64
    assert largest.n_bytes <= 4 * n_rows * widest
    parameters_per_row = sum(p.numel() for p in flows.parameters()) // 10
    assert largest.n_bytes < 4 * n_rows * parameters_per_row / 100


def test_largest_tensor_is_watched():
    with LargestTensor() as largest:
        torch.ones(10, 100).sum()
    assert largest.n_bytes == 4000


# Gradients through samples


def draw(flows):
    return flows.sample(torch.tensor([6, 0, 3]), torch.Generator().manual_seed(0))


def test_samples_have_finite_gradients_in_every_parameter(family, n_features, dtype, make_flows):
    flows = make_flows(family, 3, n_features, dtype=dtype, mixing="lu")
    draw(flows).square().sum().backward()
    for name, parameter in flows.named_parameters():
        if not parameter.requires_grad:
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert (parameter.grad[1] == 0).all(), f"{name}: component 1 drew no rows"
    assert (flows.whitening.mean.grad[[0, 2]] != 0).all()


def test_gradients_of_samples_are_those_of_finite_differences(family, n_features, make_flows):
    flows = make_flows(family, 3, n_features, mixing="lu")
    generator = torch.Generator().manual_seed(0)
    parameters = [p for p in flows.parameters() if p.requires_grad]
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    # Masked weights are zero for good, and their gradient is that of standing still.
    direction = [d * (p != 0) for d, p in zip(direction, parameters, strict=True)]
    draw(flows).sin().sum().backward()
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, direction, strict=True))

    step = 1e-6
    values = []
    with torch.no_grad():
        for change in (step, -2 * step):
            for parameter, way in zip(parameters, direction, strict=True):
                parameter.add_(change * way)
            values.append(draw(flows).sin().sum())
    torch.testing.assert_close((values[0] - values[1]) / (2 * step), slope, rtol=1e-5, atol=1e-6)
