"""Training shared by processes: throughput of one and two, and a model on paper of many machines.

    python benchmarks/ranks.py
    python benchmarks/ranks.py --write-page    # the page's tables, from the results file

The step of a fit (K=8, D=10, five layers of 64x64) is timed under torchrun with batches of several
sizes, by one process and by two that share each batch, each with one thread and, if there are two,
a core of its own. The launches of one and of two alternate. The sum of the gradients alone is
timed, too.

On paper, n > 1 machines with one such process each take

    t(B/n) + S + 2 (n - 1) (L + G / (n W))

for a step of B rows. t(b) = a + b c is a line through the measured steps of one process, S the
measured sum of two processes on one machine, G the bytes of the gradients, W the bandwidth of the
network and L its latency, which are assumed. The last term is that of a ring: every machine sends
2 (n - 1) messages of G / n bytes, one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from statistics import linear_regression, median
from typing import Any

import common
import torch

from vmonf import ranks
from vmonf.flows import RealNVP
from vmonf.model import PosteriorMLP, build_model
from vmonf.rows import unlabelled_rows
from vmonf.training import TemperatureSchedule, Training, TrainingLoop, bound_objective

#: The cores, before `common` leaves some of them out.
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
FEATURES = 10
COMPONENTS = 8
BATCHES = (256, 512, 1024, 4096)
MACHINES = (1, 2, 4, 8, 16, 32, 64)
PAPER_BATCHES = (512, 4096, 32_768, 262_144)
#: Assumed: bytes a second of a network of 10 Gbit/s, and seconds until a message arrives.
BANDWIDTH = 1.25e9
LATENCY = 1e-4
#: The sum of the gradients is cheap if it is at most this share of the step.
CHEAP = 0.2


def loop_of(batch_size: int) -> TrainingLoop:
    """Return a training whose epoch is a few batches of standard normal rows."""
    generator = torch.Generator().manual_seed(0)
    model = build_model(RealNVP(), PosteriorMLP(), COMPONENTS, FEATURES, generator=generator)
    rows = unlabelled_rows(torch.randn(4 * batch_size, FEATURES, generator=generator).double())
    return TrainingLoop(
        model,
        rows,
        None,
        bound_objective("elbo"),
        Training(batch_size=batch_size),
        max_epochs=1,
        temperature=TemperatureSchedule(1.0, 1.0, 0),
        generator=generator,
    )


def measure_rank(cores: list[int], seconds: float, batches: list[int]) -> dict[str, Any] | None:
    """Time steps and sums of gradients in this process, together with the others if it has any.

    Only the first process returns what it found.
    """
    own = int(os.environ["LOCAL_RANK"])
    if cores:
        os.sched_setaffinity(0, {cores[own % len(cores)]})
    torch.set_num_threads(1)
    found: dict[str, Any] = {"step_seconds": {}}
    with ranks.joined():
        for batch_size in batches:
            loop = loop_of(batch_size)
            loop._steps(loop.passes.take(2), 1.0)
            began, n_steps = time.perf_counter(), 0
            # All processes stop together: they follow the clock of the first.
            while ranks.from_first(lambda began=began: time.perf_counter() - began < seconds):
                loop._steps(loop.passes.take(4), 1.0)
                n_steps += 4
            found["step_seconds"][str(batch_size)] = (time.perf_counter() - began) / n_steps
        gradients = torch.zeros(sum(p.numel() for p in loop.parameters))
        found["bytes_of_gradients"] = 4 * len(gradients)
        if ranks.count() > 1:
            found["sum_seconds"] = common.seconds_of(lambda: ranks.add_up(gradients), 50)
    return found if os.environ["RANK"] == "0" else None


def launched(n_processes: int, point: Mapping[str, object]) -> dict[str, Any]:
    """Run this script in several processes, and return what the first one found."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(n_processes), sys.argv[0], "--threads=1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    completed = subprocess.run(
        [*command, "--point", json.dumps(point)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment,
    )
    answer: dict[str, Any] = json.loads(completed.stdout.splitlines()[-1])
    return answer


def measure(arguments: argparse.Namespace) -> None:
    """Measure one process and two in turn, and write medians to the results file."""
    batches = (32, 64) if arguments.quick else BATCHES
    seconds = 0.1 if arguments.quick else 3.0
    point = {"cores": CORES[:2], "seconds": seconds, "batches": batches}
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    for _ in range(1 if arguments.quick else arguments.repeats):
        for n_processes, runs in found.items():
            runs.append(launched(n_processes, point))
            print(n_processes, json.dumps(runs[-1]), flush=True)
    runs = [
        {
            "batch_rows": batch,
            "step_seconds_of_one": median(run["step_seconds"][str(batch)] for run in found[1]),
            "step_seconds_of_two": median(run["step_seconds"][str(batch)] for run in found[2]),
        }
        for batch in batches
    ]
    common.write_results(
        arguments,
        cores=min(2, len(CORES)),
        bytes_of_gradients=found[1][0]["bytes_of_gradients"],
        sum_seconds=median(run["sum_seconds"] for run in found[2]),
        runs=runs,
    )


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    lines = [
        common.source(document, "ranks"),
        "",
        f"Measured on {document['cores']} cores. The gradients have "
        f"{document['bytes_of_gradients']:,} bytes; two processes add them up in "
        f"{1e3 * document['sum_seconds']:.2f} ms.",
        "",
        "| rows of a batch | one process, ms a step | rows/s | two processes, ms a step | rows/s "
        "| two beside one |",
        "|---" * 6 + "|",
    ]
    for run in document["runs"]:
        rows, one, two = (
            run[name] for name in ("batch_rows", "step_seconds_of_one", "step_seconds_of_two")
        )
        lines.append(
            f"| {rows:,} | {1e3 * one:.1f} | {rows / one:,.0f} | {1e3 * two:.1f} "
            f"| {rows / two:,.0f} | {one / two:.2f} |"
        )
    runs = document["runs"]
    line = linear_regression(
        [run["batch_rows"] for run in runs], [run["step_seconds_of_one"] for run in runs]
    )
    fixed, of_row = max(line.intercept, 0.0), line.slope
    lines += [
        "",
        f"On paper: a = {1e3 * fixed:.1f} ms, c = {1e6 * of_row:.1f} µs a row, "
        f"S = {1e3 * document['sum_seconds']:.1f} ms, W = {8e-9 * BANDWIDTH:.0f} Gbit/s, "
        f"L = {1e3 * LATENCY:.1f} ms.",
        "",
        "| machines | sum of the gradients, ms "
        + "".join(f"| {batch:,} rows: rows/s (times one) " for batch in PAPER_BATCHES)
        + f"| rows of a batch from which the sum is at most {CHEAP:.0%} of a step |",
        "|---" * (3 + len(PAPER_BATCHES)) + "|",
    ]
    for n in MACHINES:
        ring = 2 * (n - 1) * (LATENCY + document["bytes_of_gradients"] / (n * BANDWIDTH))
        total = document["sum_seconds"] + ring if n > 1 else 0.0
        cells = [f"{n}", f"{1e3 * total:.1f}"]
        for batch in PAPER_BATCHES:
            seconds = fixed + of_row * batch / n + total
            cells.append(f"{batch / seconds:,.0f} ({(fixed + of_row * batch) / seconds:.1f})")
        least = max(0.0, (total / CHEAP - total - fixed) / of_row * n)
        cells.append(f"{least:,.0f}" if least else "any")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Run, print, and write the results file."""
    common.run(__doc__, "ranks", measure, page, point=measure_rank, threads=1, repeats=3)


if __name__ == "__main__":
    main()
