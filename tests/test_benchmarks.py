"""Tests that every benchmark runs, records the source of its values, and writes its table."""

import json
import math
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
SCRIPTS = sorted(
    path
    for path in BENCHMARKS.glob("*.py")
    if "\ndef main(" in path.read_text() and path.stem != "quality"
)
#: Words in the names of values that must be positive; other values may be in nats and negative.
POSITIVE = ("second", "mebibytes", "ratio", "median", "low", "high", "rows", "steps")


def run(script, out):
    """Run a script as a user would, on one thread."""
    return subprocess.run(
        [sys.executable, "-W", "error", script, "--quick", "--threads", "1", "--out", out],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=BENCHMARKS.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def begin(script):
    """Return the mark on a page above a table."""
    return f"\n<!-- {script.stem}:begin -->\n"


def end(script):
    """Return the mark on a page below a table."""
    return f"\n<!-- {script.stem}:end -->\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, request):
    """The short run of every script that is tested, with one script per core at a time."""
    parameters = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {each.params.get("script") for each in parameters if each is not None}
    folder = tmp_path_factory.mktemp("results")
    cores = list(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else [None]

    def keep_to_a_core():
        # This applies only to this thread and the processes that it starts.
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores.pop()})

    with ThreadPoolExecutor(min(2, len(cores)), initializer=keep_to_a_core) as pool:
        yield {
            script: (out, pool.submit(run, script, out))
            for script in SCRIPTS
            if script in chosen
            for out in [folder / f"{script.stem}.json"]
        }


def numbers(value, name=""):
    """Yield all numbers in a document, each with its path of names."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from numbers(entry, f"{name}.{key}")
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from numbers(entry, f"{name}.{index}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, value


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_runs_and_writes_its_table(script, runs, tmp_path, monkeypatch):
    out, pending = runs[script]
    completed = pending.result()
    assert completed.returncode == 0, completed.stderr

    document = json.loads(out.read_text())
    assert document["command"].startswith(f"python benchmarks/{script.name} ")
    assert document["commit"]
    assert {"python", "vmonf", "torch"} <= set(document["versions"])
    assert document["machine"].endswith(", 1 threads")
    assert [fit for fit in document.get("fits", ()) if "failure" in fit] == []
    found = list(numbers(document))
    assert found
    for name, value in found:
        assert math.isfinite(value), name
        assert value > 0 or not any(word in name for word in POSITIVE), name

    page = tmp_path / "page.md"
    page.write_text(f"before{begin(script)}an old table{end(script)}after\n")
    options = ["--write-page", "--out", out, "--page", page]
    monkeypatch.setattr(sys, "argv", [str(word) for word in (script, *options)])
    monkeypatch.syspath_prepend(BENCHMARKS)
    runpy.run_path(str(script), run_name="__main__")
    head, rest = page.read_text().split(begin(script))
    table, tail = rest.split(end(script))
    assert (head, tail) == ("before", "after\n")
    assert "an old table" not in table
    assert document["date"] in table
    assert re.search(r"\n\|[-:|]+\|\n\|.*\d.*\|", table)  # the first row has a number
