"""Time of a training step: ours, other libraries with the same work, and the machine's floor.

    python benchmarks/step.py [--sizes small|mnist|all] [--only realnvp|maf|nsf] [--threads N]
    python benchmarks/step.py --write-page      # the page's table, from the results file

A step is forward, backward and Adam of a mixture of K flows with its posterior and the ELBO,
on the same rows, with the same layers and widths; contestants are timed in turn. `ours` is
that step, on the same number of threads as the others. `ours_full` is the step of a fit, on the
number of threads that a fit chooses; it also takes its batch by index from rows in double
precision, clips the gradient and averages the weights. The floor is the time that the multiply-adds
of the networks would take at the rate of a large matrix product on this machine, measured in the
same turns.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import common
import numpy as np
import torch
from peers import N_BINS, PEERS, POSTERIOR_HIDDEN, Architecture

from vmonf.experiments.tables import write_between_marks
from vmonf.flows import NSF, family_of
from vmonf.machine import keep_freed_memory, threads_for
from vmonf.model import MixtureModel, PosteriorMLP, build_model
from vmonf.rows import unlabelled_rows
from vmonf.training import TemperatureSchedule, Training, TrainingLoop, bound_objective

FAMILIES = ("realnvp", "maf", "nsf")
LEARNING_RATE = 1e-4
#: Number of repeats if a step takes about a second.
LARGE_REPEATS = 3


@dataclass(frozen=True)
class Size:
    """The rows of a batch, and the mixture's architecture without its family."""

    rows: int
    architecture: Architecture

    @classmethod
    def of(cls, K: int, B: int, D: int, hidden: tuple[int, int] = (64, 64)) -> Size:
        """Make a size of K components, B rows per batch and D features."""
        return cls(B, Architecture("", K, D, hidden=hidden))

    @property
    def is_large(self) -> bool:
        """Whether the size is like MNIST's."""
        return self.architecture.features > 100

    def __str__(self) -> str:
        a = self.architecture
        widths = "x".join(map(str, a.hidden))
        return f"K={a.components} B={self.rows} D={a.features}, {a.layers} x {widths}"


SIZES = (
    Size.of(5, 512, 2),
    Size.of(10, 256, 2),
    Size.of(10, 1024, 8),
    Size.of(32, 512, 16),
    Size.of(5, 256, 784, hidden=(512, 512)),
)


def our_model(architecture: Architecture) -> MixtureModel:
    """Build a fresh mixture of ours."""
    generator = torch.Generator().manual_seed(0)
    family = replace(
        family_of(architecture.family), n_layers=architecture.layers, hidden=architecture.hidden
    )
    assert not isinstance(family, NSF) or family.n_bins == N_BINS
    return build_model(
        family,
        PosteriorMLP(POSTERIOR_HIDDEN),
        architecture.components,
        architecture.features,
        generator=generator,
    )


def our_step(model: MixtureModel, X: np.ndarray) -> Callable[[], None]:
    """Return our step with the same work as the peers'."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, fused=True)
    objective = bound_objective("elbo")
    batch = unlabelled_rows(torch.from_numpy(X).float())
    generator = torch.Generator()

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        value, _ = objective(model, batch, 1.0, generator)
        (-value).backward()
        optimizer.step()

    return step


def our_full_step(model: MixtureModel, X: np.ndarray) -> Callable[[], object]:
    """Return the step of a fit: a pass of the training loop over one batch."""
    rows = unlabelled_rows(torch.from_numpy(X))
    loop = TrainingLoop(
        model,
        rows,
        None,
        bound_objective("elbo"),
        Training(batch_size=len(X), learning_rate=LEARNING_RATE),
        max_epochs=1,
        temperature=TemperatureSchedule(1.0, 1.0, 0),
        generator=torch.Generator().manual_seed(0),
    )
    return lambda: loop._steps(loop.passes.take(loop.n_batches), 1.0)


def on_threads_of_a_fit(
    step: Callable[[], object], model: MixtureModel, n_rows: int
) -> Callable[[], None]:
    """Return the step on the number of threads that `FlowMixture.fit` would choose."""
    multiply_adds = n_rows * sum(p.numel() for p in model.parameters())

    def run() -> None:
        with threads_for(multiply_adds):
            step()

    return run


def network_weights(architecture: Architecture) -> tuple[int, int]:
    """Count the weights by which each row is multiplied: all of them, and those not masked."""
    n_features, hidden = architecture.features, architecture.hidden
    widths = [n_features, *POSTERIOR_HIDDEN, architecture.components]
    posterior = sum(a * b for a, b in pairwise(widths))
    n_layer_weights = n_unmasked = 0
    for layer in range(architecture.layers):
        if architecture.family == "maf":
            n_layer_weights += n_features * hidden[0] + math.prod(hidden)
            n_layer_weights += hidden[1] * 2 * n_features
            n_unmasked += _unmasked_weights(n_features, hidden)
        else:
            n_moved = n_features // 2 if layer % 2 else n_features - n_features // 2
            n_outputs = n_moved * (3 * N_BINS - 1 if architecture.family == "nsf" else 2)
            weights = (n_features - n_moved) * hidden[0] + math.prod(hidden) + hidden[1] * n_outputs
            n_layer_weights += weights
            n_unmasked += weights
    return (
        architecture.components * n_layer_weights + posterior,
        architecture.components * n_unmasked + posterior,
    )


def _unmasked_weights(n_features: int, hidden: Sequence[int]) -> int:
    """Count the connections of an affine masked autoregressive network with even degrees."""
    features = np.arange(1, n_features + 1)
    below: np.ndarray = features
    n_weights = 0
    for width in hidden:
        here = np.linspace(n_features - 1, min(1, n_features - 1), width).round()
        n_weights += int((here >= below[:, None]).sum())
        below = here
    return n_weights + 2 * int((features > below[:, None]).sum())


def compare(family: str, size: Size, repeats: int) -> dict[str, Any]:
    """Time every contestant in turn on the same rows."""
    architecture = replace(size.architecture, family=family)
    X = np.random.default_rng(0).normal(size=(size.rows, architecture.features))
    calls: dict[str, Callable[[], object]] = {"product": common.product_rate()}
    n_parameters: dict[str, int] = {}
    keep_freed_memory()  # as in a fit; it applies to the peers in this process too
    for name, make in (("ours", our_step), ("ours_full", our_full_step)):
        model = our_model(architecture)
        n_parameters[name] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        calls[name] = make(model, X)
    calls["ours_full"] = on_threads_of_a_fit(calls["ours_full"], model, size.rows)
    unavailable: dict[str, str] = {}
    first_step: dict[str, float] = {}
    for name, build in PEERS.items():
        if size.is_large and name == "zuko_vmap_masked":
            unavailable[name] = "not run: it has twice the weights, which dominate the time"
            continue
        try:
            peer = build(architecture, LEARNING_RATE)
            x = peer.rows(X)
            began = time.perf_counter()
            peer.step(x)
            first_step[name] = time.perf_counter() - began
        except ImportError as error:
            unavailable[name] = f"not installed: {error}"
            continue
        except Exception as error:  # a peer's failure is part of the result
            unavailable[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            continue
        calls[name] = partial(peer.step, x)
        n_parameters[name] = peer.n_parameters
    times = common.time_in_turn(calls, repeats)
    rates = [common.PRODUCT / seconds for seconds in times.pop("product")]
    n_weights, n_unmasked = network_weights(architecture)
    # One product forward and two backward: for the inputs and for the weights.
    floors = [3 * n_weights * size.rows / rate for rate in rates]
    floors_unmasked = [3 * n_unmasked * size.rows / rate for rate in rates]
    return {
        "family": family,
        "size": str(size),
        "is_large": size.is_large,
        "rows": size.rows,
        "architecture": asdict(architecture),
        "n_parameters": n_parameters,
        "seconds": {name: common.spread(times[name]) for name in times},
        "over_ours": {
            name: common.ratio(times[name], times["ours"]) for name in times if name != "ours"
        },
        "first_step_seconds": first_step,
        "unavailable": unavailable,
        "multiply_adds_a_second": common.spread(rates),
        "network_weights": n_weights,
        "network_weights_unmasked": n_unmasked,
        "floor_seconds": common.spread(floors),
        "floor_unmasked_seconds": common.spread(floors_unmasked),
        "ours_over_floor": common.ratio(times["ours"], floors),
        "ours_over_floor_unmasked": common.ratio(times["ours"], floors_unmasked),
    }


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table as Markdown."""
    head = ("size", "flow", "ours", "in a fit", "zuko loop", "zuko vmap", "flowjax", "floor")
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    return lines + [table_row(run) for run in runs]


def table_row(run: Mapping[str, Any]) -> str:
    """Return a row of the table: times in milliseconds, their ranges and their ratios to ours."""
    stacked = "zuko_vmap" if "zuko_vmap" in run["seconds"] else "zuko_vmap_masked"
    peers = [_peer_cell(run, name) for name in ("zuko_loop", stacked, "flowjax")]
    floor = f"{1e3 * run['floor_seconds']['median']:.1f} (ours {run['ours_over_floor']:.1f}x)"
    cells = [run["size"], run["family"], _range(run, "ours"), _range(run, "ours_full")]
    return f"| {' | '.join([*cells, *peers, floor])} |"


def _range(run: Mapping[str, Any], name: str) -> str:
    seconds = run["seconds"][name]
    low, middle, high = (1e3 * seconds[key] for key in ("low", "median", "high"))
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def _peer_cell(run: Mapping[str, Any], name: str) -> str:
    if name in run["unavailable"]:
        return run["unavailable"][name].split(":")[0]
    mark = "*" if name == "zuko_vmap_masked" else ""
    return f"{_range(run, name)}{mark} ({run['over_ours'][name]:.1f}x)"


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    return [
        common.source(document, "step"),
        "",
        "Milliseconds per step: median [range]. (x) is the ratio of a peer's time to ours, or of "
        "ours to the floor. A step in a fit includes the other work of the training loop and uses "
        "the fit's number of threads. * is `zuko_vmap_masked`. Targets: zuko's loop at least 3x, "
        "at MNIST's size 1.4x; flowjax at least 1.5x; ours at most 3x the floor, at MNIST's size "
        "1.4x.",
        "",
        *table(document["runs"]),
        "",
        *notes(document),
    ]


def notes(document: Mapping[str, Any]) -> list[str]:
    """Return notes on the contestants' differences and on what the table omits."""
    runs = document["runs"]
    lines = [f"- `{name}`: {note}" for name, note in document["peers"].items()]
    reasons = {(name, why): None for run in runs for name, why in run["unavailable"].items()}
    lines += [f"- `{name}`, no time: {why}" for name, why in reasons]
    compiled = [s["flowjax"] for run in runs if "flowjax" in (s := run["first_step_seconds"])]
    if compiled:
        lines.append(
            f"- the first step of flowjax, which compiles, takes {min(compiled):.1f} to "
            f"{max(compiled):.1f} s and is not counted"
        )
    masked = [run for run in runs if run["network_weights_unmasked"] < run["network_weights"]]
    lines += [
        f"- {run['family']} at {run['size']}: "
        f"{run['network_weights_unmasked'] / run['network_weights']:.0%} of the weights are not "
        f"masked; ours is {run['ours_over_floor_unmasked']:.1f}x the floor of these weights"
        for run in masked
    ]
    return lines


def parameter_counts(run: Mapping[str, Any]) -> str:
    """Return the number of parameters that each contestant trains."""
    counts = (f"{name} {number:,}" for name, number in run["n_parameters"].items())
    return f"{run['size']} {run['family']}, parameters: {', '.join(counts)}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--only", choices=FAMILIES, help="run only this family")
    parser.add_argument("--sizes", choices=("small", "mnist", "all"), default="all")


def main() -> None:
    """Run, print, and write the results file."""
    arguments = common.parse_arguments(__doc__, "step", add=add_options)
    if arguments.write_page:
        write_between_marks(arguments.page, "step", page(json.loads(arguments.out.read_text())))
        return
    families = FAMILIES if arguments.only is None else (arguments.only,)
    kinds = ("small", "mnist") if arguments.sizes == "all" else (arguments.sizes,)
    sizes = [size for size in SIZES if ("mnist" if size.is_large else "small") in kinds]
    repeats = arguments.repeats
    if arguments.quick:
        sizes, families, repeats = sizes[:1], families[:1], min(3, repeats)
    runs: list[dict[str, Any]] = []
    print("\n".join(table([])))
    for size in sizes:
        for family in families:
            n_repeats = min(LARGE_REPEATS, repeats) if size.is_large else repeats
            runs.append(compare(family, size, n_repeats))
            print(table_row(runs[-1]), flush=True)
    peers = {name: peer.notes for name, peer in PEERS.items()}
    common.write_results(arguments, runs=runs, peers=peers)
    print("\n".join(["", *notes(json.loads(arguments.out.read_text())), ""]))
    print("\n".join(map(parameter_counts, runs)))


if __name__ == "__main__":
    main()
