"""Helpers that the benchmarks share: timing, memory, results files and command-line options."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import torch

import vmonf
from vmonf.experiments.common import commit_of
from vmonf.experiments.tables import write_between_marks
from vmonf.files import written_whole
from vmonf.machine import processor

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent / "README.md"
#: Packages whose versions the results depend on.
PACKAGES = ("torch", "numpy", "scipy", "scikit-learn")


def parse_arguments(
    description: str | None,
    name: str,
    *,
    add: Callable[[argparse.ArgumentParser], object] = lambda _: None,
    **defaults: object,
) -> argparse.Namespace:
    """Parse the common options and those that `add` adds, and set the number of threads.

    `defaults` are other defaults of the common options.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=RESULTS / f"{name}.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="do a short run")
    parser.add_argument("--write-page", action="store_true", help="only write the table")
    parser.add_argument("--page", type=Path, default=PAGE, help=argparse.SUPPRESS)
    parser.add_argument("--point", type=json.loads, help=argparse.SUPPRESS)
    add(parser)
    parser.set_defaults(**defaults)
    arguments = parser.parse_args()
    if not arguments.write_page:
        use_threads(arguments.threads)
    return arguments


def use_threads(number: int) -> None:
    """Set the number of threads, and restrict the process to as many cores.

    Some libraries choose their number of threads from the number of cores.
    """
    torch.set_num_threads(number)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])


def run(
    description: str | None,
    name: str,
    measure: Callable[[argparse.Namespace], object],
    page: Callable[[dict[str, Any]], Sequence[str]],
    *,
    point: Callable[..., object] | None = None,
    add: Callable[[argparse.ArgumentParser], object] = lambda _: None,
    **defaults: object,
) -> None:
    """Measure, and print the tables; or, with --write-page, only write them to the page.

    Parameters
    ----------
    description, name, add, defaults
        See `parse_arguments`. `name` is that of the results file and of the marks on the page.
    measure : callable
        Measures, and writes the results file; see `each`.
    page : callable
        Returns the lines between the page's marks from the document of the results file.
    point : callable, optional
        What a process that `in_fresh_process` started calls instead, with the point as keywords.
        The result is printed, unless it is None.
    """
    arguments = parse_arguments(description, name, add=add, **defaults)
    if arguments.point:
        assert point is not None
        found = point(**arguments.point)
        if found is not None:
            print(json.dumps(found))
        return
    if not arguments.write_page:
        measure(arguments)
    lines = page(json.loads(arguments.out.read_text()))
    if arguments.write_page:
        write_between_marks(arguments.page, name, lines)
    else:
        print("\n".join(lines))


def each(
    part: str, results: Callable[[argparse.Namespace], Iterable[Mapping[str, Any]]]
) -> Callable[[argparse.Namespace], None]:
    """Return a function that prints each result, and writes the results file after each of them."""

    def measure(arguments: argparse.Namespace) -> None:
        found: list[Mapping[str, Any]] = []
        for result in results(arguments):
            found.append(result)
            print(json.dumps(result), flush=True)
            write_results(arguments, **{part: found})

    return measure


def seconds_of(call: Callable[[], object], n_calls: int = 1) -> float:
    """Return the mean time of a call over `n_calls` calls, in seconds."""
    began = time.perf_counter()
    for _ in range(n_calls):
        call()
    return (time.perf_counter() - began) / n_calls


def time_in_turn(
    calls: Mapping[str, Callable[[], object]], repeats: int, least_seconds: float = 0.2
) -> dict[str, list[float]]:
    """Return the seconds of each call in each repeat.

    A repeat times all calls one after the other, so that changes in the machine's load affect all
    of them. Each call is first made twice to warm up. In a repeat it is made as often as is needed
    to fill `least_seconds`.
    """
    n_calls = {}
    for name, call in calls.items():
        seconds_of(call)
        n_calls[name] = max(1, round(least_seconds / max(seconds_of(call), 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds_of(call, n_calls[name]))
    return times


def spread(times: Sequence[float]) -> dict[str, float]:
    """Return the median and the range, in seconds."""
    return {"median": median(times), "low": min(times), "high": max(times)}


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    """Return the median over the repeats of the ratio of two times."""
    return median(a / b for a, b in zip(of, to, strict=True))


def in_fresh_process(
    arguments: argparse.Namespace, point: Mapping[str, object]
) -> dict[str, float]:
    """Run this script in its own process for one point, and return the result.

    The process reads the point from `arguments.point` and prints the result as JSON on its last
    line.
    """
    command = [sys.executable, sys.argv[0], f"--threads={arguments.threads}"]
    output = subprocess.run(
        [*command, "--point", json.dumps(point)], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    answer: dict[str, float] = json.loads(output.splitlines()[-1])
    return answer


def peak_memory(call: Callable[[], object]) -> float:
    """Return by how many MiB a call raises the largest resident set of this process."""
    # This makes Linux forget an earlier peak, which could hide that of the call.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    before = largest_resident_set()
    call()
    return largest_resident_set() - before


def resident_set() -> float:
    """Return the resident set of this process, in MiB; the largest one if only that is known."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return largest_resident_set()
    return int(status.split("VmRSS:")[1].split()[0]) / 2**10


def largest_resident_set() -> float:
    """Return the largest resident set of this process, in MiB."""
    # On Linux, `getrusage` would include the memory of the parent process before the fork.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest / (2**20 if sys.platform == "darwin" else 2**10)
    return int(status.split("VmHWM:")[1].split()[0]) / 2**10


@contextmanager
def watched(owner: type, name: str, most: float = math.inf) -> Iterator[list[tuple[float, float]]]:
    """Record when each call of a method began and ended, by `time.perf_counter`.

    Call number `most` raises KeyboardInterrupt, which ends a training early in the regular way.
    """
    method = getattr(owner, name)
    calls: list[tuple[float, float]] = []

    @wraps(method)
    def watching(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = method(*args, **kwargs)
        calls.append((began, time.perf_counter()))
        if len(calls) == most:
            raise KeyboardInterrupt
        return result

    setattr(owner, name, watching)
    try:
        yield calls
    finally:
        setattr(owner, name, method)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of a line through the logarithms; 1 means growth in proportion."""
    return linear_regression([math.log(x) for x in sizes], [math.log(y) for y in values]).slope


def product_rate() -> Callable[[], object]:
    """Return a function that does `PRODUCT` multiply-adds: a large float32 matrix product."""
    a, b = torch.randn(2, 1024, 1024)
    return lambda: torch.mm(a, b)


#: Multiply-adds in one call of the function that `product_rate` returns.
PRODUCT = 1024**3


def write_results(arguments: argparse.Namespace, **results: object) -> None:
    """Write the results file, with the command, commit, date, versions and machine."""
    document = {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": commit_of(Path(__file__)),
        "date": time.strftime("%Y-%m-%d"),
        "versions": {"python": platform.python_version()} | _versions(),
        "machine": f"{processor()}, {arguments.threads} threads",
        **results,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(arguments.out) as stream:
        stream.write(f"{json.dumps(document, indent=1)}\n".encode())


def settings_of(arguments: argparse.Namespace, **further: object) -> dict[str, object]:
    """Return what results depend on: options, vmonf's code, and versions of other libraries."""
    package = Path(vmonf.__file__).parent
    code = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        code.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return {
        "quick": arguments.quick,
        "threads": arguments.threads,
        "versions": {name: version(name) for name in PACKAGES},
        "code": code.hexdigest()[:12],
        **further,
    }


def earlier_results(
    path: Path,
    settings: Mapping[str, Any],
    *,
    ours: Callable[[Mapping[str, Any]], bool] = lambda fit: True,
) -> dict[str, Any]:
    """Return the results of an earlier run with these settings; rename any other file.

    Fits of other libraries do not depend on vmonf's code, nor on the "parameters" of our
    contestants. If nothing else differs, those that are not `ours` are returned. If there are no
    results, the answer is empty.
    """
    if not path.exists():
        return {}
    document: dict[str, Any] = json.loads(path.read_text())
    before = document.get("settings", {})
    if before == settings:
        print(f"{path} has {len(document['fits'])} fits of an earlier run, which are kept.")
        return document
    others = (path.with_stem(f"{path.stem}-{number}") for number in count(1))
    aside = next(other for other in others if not other.exists())
    path.rename(aside)
    print(f"{path} has other settings, code or versions: it is renamed to {aside.name}.")
    only_ours = {"code", "parameters"}
    if {name: before.get(name) for name in settings if name not in only_ours} != {
        name: value for name, value in settings.items() if name not in only_ours
    }:
        return {}
    kept = [fit for fit in document["fits"] if not ours(fit)]
    if not kept:
        return {}
    print(f"Its {len(kept)} fits of other libraries are kept.")
    return {**document, "fits": kept}


def is_ours(fit: Mapping[str, Any]) -> bool:
    """Return whether a fit is of vmonf, and depends on its code."""
    return str(fit["contestant"]).startswith(("FlowMixture", "start:"))


def with_ours(fits: Sequence[Mapping[str, Any]], drawn: str) -> list[Mapping[str, Any]]:
    """Return the fits of the seeds or splits, the entry `drawn`, of which there are fits of ours.

    Fits of other libraries may have been kept from a run with more of them. If there are no fits of
    ours, all are returned.
    """
    of_ours = {fit[drawn] for fit in fits if is_ours(fit)}
    return [fit for fit in fits if not of_ours or fit[drawn] in of_ours]


def attempted(fit: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a fit returns, with its seconds and its warnings.

    An exception is a result as well: its message is the "failure".
    """
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = dict(fit())
        except Exception as error:
            result = {"failure": one_line(error)}
        seconds = time.perf_counter() - began
    messages = sorted({one_line(warning.message) for warning in caught})
    if any("Training was interrupted" in message for message in messages):
        raise KeyboardInterrupt
    return {"seconds": seconds, **result, "warnings": messages}


def finite(value: float) -> float:
    """Return the value; raise FloatingPointError if it is not finite.

    A results file has finite numbers only.
    """
    if not math.isfinite(value):
        raise FloatingPointError(f"a result is not finite: {value}")
    return value


def one_line(message: Warning | str | Exception) -> str:
    """Return the class and the beginning of a message."""
    text = " ".join(str(message).split())
    return f"{type(message).__name__}: {text if len(text) <= 160 else text[:157] + '...'}"


def source(document: Mapping[str, object], name: str) -> str:
    """Return the line above a table, which says where its values come from."""
    return (
        f"From `results/{name}.json`: `{document['command']}` at commit {document['commit']}, "
        f"{document['date']}, {document['machine']}."
    )


def why_missing(document: Mapping[str, Any], library: str) -> str:
    """Return the text of a table's cell for which a library has no value."""
    return "not timed" if library in document["versions"] else "not installed"


def _versions() -> dict[str, str]:
    versions = {"vmonf": vmonf.__version__}  # vmonf need not be installed as a package
    for package in ("torch", "numpy", "scikit-learn", "zuko", "flowjax", "jax"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
