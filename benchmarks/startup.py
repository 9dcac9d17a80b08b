"""Start-up time: imports, the command's help, and the first step of a fit.

    python benchmarks/startup.py [--threads N]
    python benchmarks/startup.py --write-page    # the page's table, from the results file

Each time is measured in fresh processes, in turn. Commands are timed from outside, including the
start of Python. The fit is timed from within, on 1,000 rows of the pinwheel with 2 features, K = 5
and defaults: from the call until the objective of the first batch is known, and until the fit
returns. It is the first call in its process, so that the time includes what libraries load late.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import common

from vmonf import FlowMixture
from vmonf.data import Pinwheel
from vmonf.training import Objective

COMPONENTS = 5
ROWS_A_COMPONENT = 200
COMMANDS = {
    "python, nothing imported": ("-c", "pass"),
    "import vmonf": ("-c", "import vmonf"),
    "vmonf --help": ("-m", "vmonf.cli", "--help"),
    "from vmonf import FlowMixture": ("-c", "from vmonf import FlowMixture"),
    "import torch": ("-c", "import torch"),
    "import sklearn.mixture": ("-c", "import sklearn.mixture"),
    "import zuko": ("-c", "import zuko"),
    "import flowjax": ("-c", "import flowjax.flows"),
}
#: The commands of a quick run.
QUICK = ("python, nothing imported", "import vmonf", "vmonf --help")
PEERS = ("zuko", "flowjax")
FIT = {
    "to_first_step": "from `fit` to the first step",
    "to_end": "from `fit` to its end",
}


def is_installed(command: Sequence[str]) -> bool:
    """Return whether the library that a command imports is installed."""
    return all(find_spec(name) for name in PEERS if name in command[-1])


def seconds_of_fit(rows_a_component: int) -> dict[str, float]:
    """Time a fit in this process."""
    X, _ = Pinwheel().sample(rows_a_component, random_state=0)
    with common.watched(Objective, "__call__") as objectives:
        began = time.perf_counter()
        FlowMixture(COMPONENTS, random_state=0).fit(X)
        ended = time.perf_counter()
    return {"to_first_step": objectives[0][1] - began, "to_end": ended - began}


def measure(arguments: argparse.Namespace) -> None:
    """Time all commands and the fit, in turn, and write the results file."""
    commands = {
        name: partial(
            subprocess.run, [sys.executable, *command], check=True, stdout=subprocess.DEVNULL
        )
        for name, command in COMMANDS.items()
        if is_installed(command) and (name in QUICK or not arguments.quick)
    }
    times: dict[str, list[float]] = {name: [] for name in (*commands, *FIT.values())}
    for _ in range(1 if arguments.quick else arguments.repeats):
        for name, command in commands.items():
            times[name].append(common.seconds_of(command))
        fit = common.in_fresh_process(arguments, {"rows_a_component": ROWS_A_COMPONENT})
        for name, title in FIT.items():
            times[title].append(fit[name])
    spreads = {name: common.spread(seconds) for name, seconds in times.items()}
    for name, seconds in spreads.items():
        print(f"{name:32} {seconds['median']:.2f} s", flush=True)
    common.write_results(arguments, seconds=spreads)


def page(document: Mapping[str, Any]) -> list[str]:
    """Return the lines between the page's marks."""
    lines = [
        common.source(document, "startup"),
        "",
        "| what | seconds, median | lowest to highest |",
        "|---|---|---|",
    ]
    lines += [
        f"| {name} | {of['median']:.2f} | {of['low']:.2f} to {of['high']:.2f} |"
        for name, of in document["seconds"].items()
    ]
    lines += [
        f"| import {library} | not installed | |"
        for library in PEERS
        if library not in document["versions"]
    ]
    return lines


def main() -> None:
    """Run, print, and write the results file."""
    common.run(__doc__, "startup", measure, page, point=seconds_of_fit, repeats=7)


if __name__ == "__main__":
    main()
