"""Scoring with many components: what is saved, and what is lost, if only likely ones are evaluated.

    python benchmarks/likely.py [--threads N]
    python benchmarks/likely.py --write-page    # the page's table, from the results file

A mixture of K flows is trained on curved clusters. The exact density of a row needs all K
components. A density of its n likeliest components under q alone is never larger. Its error, the
exact log density minus this one, is measured on fresh rows of the same clusters, and on rows far
from them, which are uniform in a box of twice the width of the training rows.

The error is known without evaluating the others only if their densities have an upper bound. The
bound that is measured is what is known of a flow before it is evaluated: the scales and the shifts
of a layer lie in intervals, found by interval arithmetic through its network for all inputs. From
the intervals follow a box that holds z, the largest base density in it, and the largest
log-determinant.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Any

import common
import numpy as np
import torch
from torch import Tensor

from vmonf import FlowMixture
from vmonf.flows.base import DEGREES, Base, GaussianMixtureBase, student_t_constant
from vmonf.flows.bijections import LOG_SCALE_LIMIT
from vmonf.flows.coupling import Coupling
from vmonf.flows.networks import INPUT_LIMIT, ComponentMLP
from vmonf.flows.transform import soft_clip
from vmonf.model import MixtureModel, in_parts

SIZES, QUICK_SIZES = ((64, 8), (512, 8)), ((8, 4),)
EVALUATED = (1, 4, 16, 64)
TRAINING_ROWS, EPOCHS = 20_000, 4
SCORED_ROWS = 1_000
#: The error that a user may allow, in nats.
ALLOWED = 0.01
#: Rows whose bounds are computed at once.
ROWS_AT_ONCE = 32
#: The lowest and the highest outputs of the network of each layer.
Intervals = dict[torch.nn.Module, tuple[Tensor, Tensor]]
TITLES = {"fresh": "fresh rows", "far": "rows far away"}


def curved(n_rows: int, components: int, features: int, seed: int) -> np.ndarray:
    """Draw rows of curved clusters of equal weight."""
    centres = 4 * np.random.default_rng(0).standard_normal((components, features))
    random = np.random.default_rng([1, seed])
    X = random.standard_normal((n_rows, features))
    X[:, 1::2] += 0.5 * X[:, ::2] ** 2
    return X + centres[random.integers(components, size=n_rows)]


def interval(network: ComponentMLP) -> tuple[Tensor, Tensor]:
    """Bound the outputs of perceptrons for all inputs: two tensors of shape (K, 1, out)."""
    shape = len(network.layers[0].weight), 1, network.layers[0].weight.shape[1]
    high = torch.full(shape, INPUT_LIMIT, dtype=torch.float64)  # inputs are soft-clipped to this
    low = -high
    for index, layer in enumerate(network.layers):
        weight, bias = layer.weight.double(), layer.bias.double()
        middle, half = (low + high) / 2 @ weight + bias, (high - low) / 2 @ weight.abs()
        low, high = middle - half, middle + half
        if index + 1 < len(network.layers):
            low, high = low.relu(), high.relu()
    return low, high


def upper_bounds(model: MixtureModel, intervals: Intervals, x: Tensor) -> Tensor:
    """Bound log p(x, c) of affine coupling flows from above: (B, D) to (B, K), in nats."""
    whitening, *layers = model.flows.chain.transforms
    standardised = model._standardised(x)
    z, log_det = (
        part.double() for part in whitening(standardised.expand(model.n_components, -1, -1))
    )
    low, high = z, z
    for layer in layers:
        if not isinstance(layer, Coupling):  # a permutation
            low, high = layer(low)[0], layer(high)[0]
            continue
        (shift_low, raw_low), (shift_high, raw_high) = (
            bound.chunk(2, dim=-1) for bound in intervals[layer]
        )
        small, large = (soft_clip(raw, LOG_SCALE_LIMIT) for raw in (raw_low, raw_high))
        log_det = log_det + large.sum(dim=-1)
        moved_low, moved_high = low[..., layer.moved], high[..., layer.moved]
        least = torch.minimum(moved_low * small.exp(), moved_low * large.exp()) + shift_low
        most = torch.maximum(moved_high * small.exp(), moved_high * large.exp()) + shift_high
        low = layer.join(low[..., layer.given], least)
        high = layer.join(high[..., layer.given], most)
    log_prob = (log_det + largest_base(model.flows.base, low, high)).mT
    return log_prob + model.standardizer.log_det(x) + model.log_weights.double()


def largest_base(base: Base, low: Tensor, high: Tensor) -> Tensor:
    """Bound the log base density in boxes from above: twice (K, B, D) to (K, B), in nats."""
    n_features = low.shape[-1]
    nearest = torch.minimum(low.abs(), high.abs()).where(low * high > 0, 0.0)
    if isinstance(base, GaussianMixtureBase):
        matrix, offset, log_det = (part.double() for part in base._maps())
        middle = torch.einsum("kaij,kbj->kabi", matrix, (low + high) / 2) - offset[:, :, None]
        half = torch.einsum("kaij,kbj->kabi", matrix.abs(), (high - low) / 2)
        distance = (middle.abs() - half).clamp(min=0).square().sum(dim=-1)
        constant = base.logits.double().log_softmax(dim=-1) + log_det
        constant = constant - 0.5 * n_features * math.log(2 * math.pi)
        narrow = torch.logsumexp(constant[:, :, None] - 0.5 * distance, dim=1)
    else:
        narrow = base.narrow(nearest)
    if not base.broad_weight:
        return narrow
    scale = 0.5 * (DEGREES + n_features)
    broad = math.log(base.broad_weight) + student_t_constant(n_features)
    broad = broad - scale * torch.log1p(nearest.square().sum(dim=-1) / DEGREES)
    return torch.logaddexp(math.log1p(-base.broad_weight) + narrow, broad)


def spread_of(errors: Tensor) -> dict[str, float]:
    """Return quantiles of errors in nats, and the share of rows within the allowed error."""
    return {
        "quantile_50": float(errors.median()),
        "quantile_99": float(errors.quantile(0.99)),
        "largest": float(errors.max()),
        "share_within": float((errors <= ALLOWED).double().mean()),
    }


def timed(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, float]:
    """Return what a function of rows returns, and its microseconds a row: the median of three."""
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        with torch.no_grad():
            result = function(x)
        seconds.append(time.perf_counter() - began)
    return result, 1e6 * median(seconds) / len(x)


def far_rows(X: np.ndarray, n_rows: int) -> np.ndarray:
    """Draw uniform rows of the box of X, widened by half of its width on each side."""
    low, high = X.min(axis=0), X.max(axis=0)
    margin = (high - low) / 2
    return np.random.default_rng(2).uniform(low - margin, high + margin, (n_rows, X.shape[1]))


def measure(components: int, features: int, quick: bool) -> dict[str, Any]:
    """Train a mixture, and measure times, errors and bounds on fresh rows and on rows far away."""
    n_training, n_scored = (500, 50) if quick else (TRAINING_ROWS, SCORED_ROWS)
    X = curved(n_training, components, features, seed=0)
    mixture = FlowMixture(
        components,
        init="kmeans",
        max_epochs=1 if quick else EPOCHS,
        validation_fraction=0,  # the flows are kept
        device="cpu",
        random_state=0,
    ).fit(X)
    model = mixture.model_
    rows = {
        "fresh": curved(n_scored, components, features, seed=1),
        "far": far_rows(X, n_scored),
    }
    x = torch.from_numpy(np.concatenate(list(rows.values())))
    places = dict(zip(rows, (slice(0, n_scored), slice(n_scored, None)), strict=True))

    log_joint, exact_time = timed(lambda x: in_parts(model.log_joint, x, model.rows_at_once), x)
    log_posterior, q_time = timed(model.log_posterior, x)
    with torch.no_grad():
        intervals = {
            layer: interval(layer.network)
            for layer in model.flows.chain.transforms
            if isinstance(layer, Coupling)
        }
    bound = partial(upper_bounds, model, intervals)
    bounds, bound_time = timed(lambda x: in_parts(bound, x, ROWS_AT_ONCE), x)
    too_low = float((log_joint - bounds).max())
    if too_low > 1e-3:  # rounding of float32
        raise ArithmeticError(f"an upper bound is {too_low} nats below what it bounds")
    exact = log_joint.logsumexp(dim=1)
    runs = []
    for n in (n for n in EVALUATED if n < components):
        likely = log_posterior.topk(n, dim=1).indices
        row = torch.arange(len(x)).repeat_interleave(n)
        _, seconds = timed(pairs_of(model, row, likely.flatten()), x)
        found = log_joint.gather(1, likely).logsumexp(dim=1)
        rest = bounds.scatter(1, likely, -math.inf).logsumexp(dim=1)
        known = torch.nn.functional.softplus(rest - found)
        runs.append(
            {
                "evaluated": n,
                "microseconds_a_row": q_time + seconds,
                **{name: spread_of((exact - found)[place]) for name, place in places.items()},
                "known": {name: spread_of(known[place]) for name, place in places.items()},
            }
        )
    return {
        "components": components,
        "features": features,
        "exact_microseconds_a_row": exact_time,
        "bound_microseconds_a_row": bound_time,
        "bound_nats_too_high": float((bounds - log_joint).median()),
        "runs": runs,
    }


def sizes(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure mixtures of all sizes."""
    for components, features in QUICK_SIZES if arguments.quick else SIZES:
        yield measure(components, features, arguments.quick)


def pairs_of(model: MixtureModel, row: Tensor, component: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a function of all rows that evaluates these pairs of a row and a component."""
    return lambda x: model.flows.log_prob_of_pairs(model._standardised(x), row, component)


def nats(value: float) -> str:
    """Return an error as the text of a cell."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    lines = [common.source(document, "likely")]
    for size in document["sizes"]:
        lines += [
            "",
            f"K = {size['components']}, D = {size['features']}. All components: "
            f"{size['exact_microseconds_a_row']:,.0f} µs a row. The upper bounds: "
            f"{size['bound_microseconds_a_row']:,.0f} µs a row, and "
            f"{size['bound_nats_too_high']:,.0f} nats too high (median).",
            "",
            "| evaluated | µs a row | rows | error, nats: median | 99% | largest "
            f"| within {ALLOWED} nats | known to be within {ALLOWED} nats |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for run in size["runs"]:
            for name, title in TITLES.items():
                error = run[name]
                lines.append(
                    f"| {run['evaluated']} | {run['microseconds_a_row']:,.0f} | {title} "
                    f"| {nats(error['quantile_50'])} | {nats(error['quantile_99'])} "
                    f"| {nats(error['largest'])} | {error['share_within']:.1%} "
                    f"| {run['known'][name]['share_within']:.1%} |"
                )
    return lines


def main() -> None:
    """Run, print, and write the results file after each part."""
    common.run(__doc__, "likely", common.each("sizes", sizes), page, threads=1)


if __name__ == "__main__":
    main()
