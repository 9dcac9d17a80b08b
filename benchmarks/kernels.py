"""What the kernels of `vmonf.flows.kernels` gain over the plain formulas.

    python benchmarks/kernels.py [--only realnvp|maf|nsf|nsf-ar] [--repeats N]
    python benchmarks/kernels.py --write-page      # the page's table, from the results file

A step is a forward and backward pass of the mean log-density of K flows, at the sizes of
`step.py`; a sample is as many rows of each component as a step has, drawn without gradient. The
same flows go with their kernels and without, in turn. One thread unless `--threads` says
otherwise. Times are those of the processor, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import common
import torch
from step import LARGE_REPEATS, SIZES, Size

from vmonf.experiments.tables import write_between_marks
from vmonf.flows import FAMILIES, ComponentFlows, bijections, build_flows, networks
from vmonf.machine import keep_freed_memory

#: Features up to which samples are timed: autoregressive flows take a pass for each.
SAMPLED_FEATURES = 16


def flows_of(family: str, size: Size) -> ComponentFlows:
    """Flows of ours at random, at a size of `step.py`."""
    architecture = size.architecture
    return build_flows(
        replace(FAMILIES[family], n_layers=architecture.layers, hidden=architecture.hidden),
        architecture.components,
        architecture.features,
        diagonal_whitening=architecture.features > 256,  # as a fit does
        identity=False,
        generator=torch.Generator().manual_seed(0),
    )


@contextmanager
def no_kernels() -> Iterator[None]:
    """Every map takes its plain formula."""
    own = bijections.call
    for module in (bijections, networks):
        module.call = lambda kernel, *tensors: kernel.plain(*tensors)
    try:
        yield
    finally:
        for module in (bijections, networks):
            module.call = own


def by_plain_formula(call: Callable[[], object]) -> Callable[[], object]:
    """The same call, without kernels."""

    def run() -> None:
        with no_kernels():
            call()

    return run


def step_of(flows: ComponentFlows, x: torch.Tensor) -> Callable[[], None]:
    """Forward and backward."""

    def step() -> None:
        for parameter in flows.parameters():
            parameter.grad = None
        (-flows.log_prob(x).mean()).backward()

    return step


def sample_of(flows: ComponentFlows, n_rows: int) -> Callable[[], object]:
    """So many rows of each component."""
    counts = torch.full((flows.n_components,), n_rows)
    return torch.no_grad()(partial(flows.sample, counts))


def cpu_time_in_turn(
    calls: Mapping[str, Callable[[], object]], repeats: int, least_seconds: float = 0.1
) -> dict[str, list[float]]:
    """Processor seconds of a call: every repeat times each once, after a call to warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    n_calls = {}
    for name, call in calls.items():
        call()
        n_calls[name] = max(1, round(least_seconds / max(_cpu_seconds_of(call, 1), 1e-9)))
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(_cpu_seconds_of(call, n_calls[name]))
    return times


def _cpu_seconds_of(call: Callable[[], object], n_calls: int) -> float:
    began = time.process_time()
    for _ in range(n_calls):
        call()
    return (time.process_time() - began) / n_calls


def compare(family: str, size: Size, repeats: int) -> dict[str, Any]:
    """Both paths in turn."""
    flows = flows_of(family, size)
    x = torch.randn(size.rows, flows.n_features, generator=torch.Generator().manual_seed(1))
    calls: dict[str, Callable[[], object]] = {"step": step_of(flows, x)}
    if flows.n_features <= SAMPLED_FEATURES:
        calls["sample"] = sample_of(flows, size.rows)
    both = {f"kernel {what}": call for what, call in calls.items()}
    both |= {f"plain {what}": by_plain_formula(call) for what, call in calls.items()}
    times = cpu_time_in_turn(both, repeats)
    return {
        "family": family,
        "size": str(size),
        "seconds": {name: common.spread(times[name]) for name in times},
        "plain_over_kernel": {
            what: common.ratio(times[f"plain {what}"], times[f"kernel {what}"]) for what in calls
        },
    }


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The table, as Markdown."""
    head = ("size", "flow", "step", "plain step", "gain", "sample", "plain sample", "gain")
    lines = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * (len(head) - 2)]
    return lines + [table_row(run) for run in runs]


def table_row(run: Mapping[str, Any]) -> str:
    """Times in milliseconds with their ranges, and how much longer the plain path takes."""
    cells = [run["size"], run["family"]]
    for what in ("step", "sample"):
        gain = run["plain_over_kernel"].get(what)
        if gain is None:
            cells += ["not timed", "not timed", ""]
            continue
        for name in ("kernel", "plain"):
            seconds = run["seconds"][f"{name} {what}"]
            low, middle, high = (1e3 * seconds[key] for key in ("low", "median", "high"))
            cells.append(f"{middle:.1f} [{low:.1f}, {high:.1f}]")
        cells.append(f"{gain:.2f}x")
    return f"| {' | '.join(cells)} |"


def page(document: Mapping[str, Any]) -> list[str]:
    """What stands between the page's marks."""
    return [
        common.source(document, "kernels"),
        "",
        "Processor milliseconds with kernels and by plain formulas: median [range]; the gain is "
        "the median of plain over kernel, timed in turn. A step is forward and backward of the "
        "flows alone. Affine flows have kernels in large networks alone.",
        "",
        *table(document["runs"]),
    ]


def main() -> None:
    """Run, print, and write the results file."""
    arguments = common.parse_arguments(__doc__, "kernels", add=add_options)
    if arguments.write_page:
        write_between_marks(arguments.page, "kernels", page(json.loads(arguments.out.read_text())))
        return
    families = list(FAMILIES) if arguments.only is None else [arguments.only]
    sizes, repeats = list(SIZES), arguments.repeats
    if arguments.quick:
        sizes, families, repeats = sizes[:1], families[:1], min(3, repeats)
    keep_freed_memory()  # as a fit does
    runs: list[dict[str, Any]] = []
    print("\n".join(table([])))
    for size in sizes:
        for family in families:
            if size.is_large and family == "nsf-ar":
                continue  # a step takes many seconds, and gigabytes
            n_repeats = min(LARGE_REPEATS, repeats) if size.is_large else repeats
            runs.append(compare(family, size, n_repeats))
            print(table_row(runs[-1]), flush=True)
            common.write_results(arguments, runs=runs)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark alone; it takes one thread unless told otherwise."""
    parser.set_defaults(threads=1)
    parser.add_argument("--only", choices=list(FAMILIES), help="one family")


if __name__ == "__main__":
    main()
