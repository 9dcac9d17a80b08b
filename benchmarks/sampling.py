"""Sampling: samples per second against K, and memory against the number of samples and K.

    python benchmarks/sampling.py [--threads N]
    python benchmarks/sampling.py --write-page    # the page's table, from the results file

Our models are fresh: their flows are the identity, but cost the same as trained ones. They are
compared with a Python loop over the same number of zuko's flows, each of which draws its share of
the samples, and with flowjax's `VmapMixture`, compiled, which copies one component's parameters for
each sample. These two are timed for few K, without compilation. Memory is the largest resident set
during the call, minus the memory of the process before it; flowjax's includes compilation. Each
value of memory comes from its own process.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import product
from typing import Any

import common
import torch
from peers import BOUND, N_BINS, Architecture, ZukoLoop
from torch import nn

from vmonf.flows import FAMILIES
from vmonf.model import MixtureModel, PosteriorMLP, build_model

COMPONENTS = (1, 8, 32, 128)
FEATURES = (2, 16)
TIMED_SAMPLES = 50_000
#: The numbers of components for which the other libraries are timed.
ZUKO_COMPONENTS = (8, 128)
FLOWJAX_COMPONENTS = (8,)
#: Number of samples that flowjax draws at once; each needs up to half a MiB.
FLOWJAX_SAMPLES = 2_000
MEMORY_SAMPLES = (10_000, 100_000, 1_000_000)
MEMORY_COMPONENTS = (2, 8, 32, 128)
MEMORY_FEATURES = 8
LAYERS = FAMILIES["realnvp"].n_layers
CONTESTANTS = {"vmonf": "vmonf", "zuko loop": "zuko", "flowjax VmapMixture": "flowjax"}


def our_model(architecture: Architecture) -> MixtureModel:
    """Build a mixture as `FlowMixture` does, without training it."""
    components, features = architecture.components, architecture.features
    generator = torch.Generator().manual_seed(0)
    family = replace(
        FAMILIES[architecture.family],
        n_layers=architecture.layers,
        hidden=architecture.hidden,
    )
    posterior = PosteriorMLP(architecture.hidden)
    return build_model(family, posterior, components, features, generator=generator)


def our_sampler(architecture: Architecture) -> Callable[[int], object]:
    """Return a function that draws a given number of samples."""
    return torch.no_grad()(our_model(architecture).sample)


def zuko_sampler(architecture: Architecture) -> Callable[[int], object]:
    """Return a function that samples from one flow after the other."""
    if architecture.family == "nsf-ar":
        import zuko

        flows = nn.ModuleList(
            zuko.flows.NSF(
                architecture.features,
                bins=N_BINS,
                transforms=architecture.layers,
                hidden_features=architecture.hidden,
            )
            for _ in range(architecture.components)
        )
    else:
        flows = ZukoLoop(architecture, learning_rate=0.0).flows

    @torch.no_grad()
    def sample(n_samples: int) -> torch.Tensor:
        component = torch.randint(len(flows), (n_samples,))
        counts = component.bincount(minlength=len(flows)).tolist()
        drawn = [flow().sample((n,)) for flow, n in zip(flows, counts, strict=True) if n]
        return torch.cat(drawn)[torch.randperm(n_samples)]

    return sample


def flowjax_sampler(architecture: Architecture) -> Callable[[int], object]:
    """Return a function that samples from flowjax's mixture, compiled at its first call."""
    import equinox as eqx
    import jax
    from flowjax.bijections import RationalQuadraticSpline
    from flowjax.distributions import StandardNormal, VmapMixture
    from flowjax.flows import coupling_flow, masked_autoregressive_flow

    is_autoregressive = architecture.family in ("maf", "nsf-ar")
    make = masked_autoregressive_flow if is_autoregressive else coupling_flow
    spline = None  # None is affine
    if architecture.family in ("nsf", "nsf-ar"):
        # A spline has one more bin than inner knots.
        spline = RationalQuadraticSpline(knots=N_BINS - 1, interval=BOUND)
    build = partial(
        make,
        base_dist=StandardNormal((architecture.features,)),
        transformer=spline,
        flow_layers=architecture.layers,
        nn_width=architecture.hidden[0],
        nn_depth=len(architecture.hidden),
    )
    key, *keys = jax.random.split(jax.random.key(0), 1 + architecture.components)
    flows = eqx.filter_vmap(build)(jax.numpy.stack(keys))
    mixture = VmapMixture(flows, weights=jax.numpy.ones(architecture.components))
    draw = eqx.filter_jit(lambda mixture, n_samples: mixture.sample(key, (n_samples,)))
    return lambda n_samples: jax.block_until_ready(draw(mixture, n_samples))


def rates(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure the samples per second of every contestant, for every family, D and K."""
    points = list(product(FAMILIES, FEATURES, COMPONENTS))
    if arguments.quick:
        points = [("realnvp", 2, 8)]
    runs = []
    for family, features, components in points:
        architecture = Architecture(family, components, features, layers=LAYERS)
        calls = {"vmonf": partial(our_sampler(architecture), TIMED_SAMPLES)}
        if find_spec("zuko") and components in ZUKO_COMPONENTS:
            calls["zuko loop"] = partial(zuko_sampler(architecture), TIMED_SAMPLES)
        times = common.time_in_turn(calls, arguments.repeats, least_seconds=0.02)
        rate = {
            name: TIMED_SAMPLES / common.spread(seconds)["median"]
            for name, seconds in times.items()
        }
        if find_spec("flowjax") and components in FLOWJAX_COMPONENTS and not arguments.quick:
            point = {"family": family, "components": components, "features": features}
            rate |= common.in_fresh_process(arguments, point)
        run = {
            "family": family,
            "features": features,
            "components": components,
            "samples_per_second": rate,
            "seconds": {name: common.spread(seconds) for name, seconds in times.items()},
        }
        shown = "  ".join(f"{name} {value:,.0f}" for name, value in rate.items())
        print(f"{family:8} D = {features:2} K = {components:3}: samples/s  {shown}", flush=True)
        runs.append(run)
    return runs


def flowjax_rate(family: str, components: int, features: int) -> dict[str, float]:
    """Measure flowjax's samples per second, in a process where nothing else is timed."""
    # The threads of jax would slow down other contestants in the same process.
    sample = flowjax_sampler(Architecture(family, components, features, layers=LAYERS))
    times = common.time_in_turn({"": partial(sample, FLOWJAX_SAMPLES)}, repeats=3, least_seconds=0)
    return {"flowjax VmapMixture": FLOWJAX_SAMPLES / common.spread(times[""])["median"]}


def memory(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure peak memory against the number of samples and K, each value in its own process."""
    points = [
        *(("vmonf", f, 8, n) for f, n in product(("realnvp", "nsf"), MEMORY_SAMPLES)),
        *(("vmonf", "realnvp", components, 100_000) for components in MEMORY_COMPONENTS),
        ("flowjax VmapMixture", "realnvp", 8, MEMORY_SAMPLES[0]),
    ]
    runs = []
    for contestant, family, components, n_samples in points[:1] if arguments.quick else points:
        if find_spec(CONTESTANTS[contestant]) is None:
            continue
        point = {
            "contestant": contestant,
            "family": family,
            "components": components,
            "n_samples": n_samples,
        }
        run = point | common.in_fresh_process(arguments, point)
        print(
            f"{contestant} {family}, K = {components}, {n_samples:,} samples: peak "
            f"{run['peak_mebibytes']:.0f} MiB, output {run['output_mebibytes']:.1f} MiB",
            flush=True,
        )
        runs.append(run)
    return runs


def measure_memory(
    contestant: str, family: str, components: int, n_samples: int
) -> dict[str, float]:
    """Measure the peak memory of one call, in this process."""
    architecture = Architecture(family, components, MEMORY_FEATURES, layers=LAYERS)
    sample = (our_sampler if contestant == "vmonf" else flowjax_sampler)(architecture)
    sample(16)  # loads what libraries load late
    peak = common.peak_memory(lambda: sample(n_samples))
    # The features are float64 and the component is int64.
    output = 8 * n_samples * (MEMORY_FEATURES + 1)
    return {"peak_mebibytes": peak, "output_mebibytes": output / 2**20}


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    rate_runs, memory_runs = document["rates"], document["memory"]
    lines = [
        common.source(document, "sampling"),
        "",
        f"Samples per second, {TIMED_SAMPLES:,} at once ({FLOWJAX_SAMPLES:,} with flowjax):",
        "",
        f"| family | D | K | {' | '.join(CONTESTANTS)} |",
        "|---" * (3 + len(CONTESTANTS)) + "|",
    ]
    for run in rate_runs:
        cells = [
            f"{run['samples_per_second'][name]:,.0f}"
            if name in run["samples_per_second"]
            else common.why_missing(document, library)
            for name, library in CONTESTANTS.items()
        ]
        lines.append(
            f"| {run['family']} | {run['features']} | {run['components']} | {' | '.join(cells)} |"
        )
    lines += [
        "",
        f"Memory of the call, beyond that of the process before it, D = {MEMORY_FEATURES}:",
        "",
        "| library | family | K | samples | peak, MiB | output, MiB |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {run['contestant']} | {run['family']} | {run['components']} | {run['n_samples']:,} "
        f"| {run['peak_mebibytes']:.0f} | {run['output_mebibytes']:.1f} |"
        for run in memory_runs
    ]
    return lines


def of_point(**point: Any) -> dict[str, float]:
    """Measure a point in this process: memory, or the rate of flowjax."""
    return measure_memory(**point) if "n_samples" in point else flowjax_rate(**point)


def measure(arguments: argparse.Namespace) -> None:
    """Measure rates and memory, and write the results file."""
    common.write_results(arguments, rates=rates(arguments), memory=memory(arguments))


def main() -> None:
    """Run, print, and write the results file."""
    common.run(__doc__, "sampling", measure, page, point=of_point, repeats=3)


if __name__ == "__main__":
    main()
