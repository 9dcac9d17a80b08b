"""Tests that every benchmark runs, records the source of its values, and writes its table."""

import importlib
import json
import math
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

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


def test_a_page_has_the_seeds_of_our_fits_alone(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    common = importlib.import_module("common")
    others = [{"contestant": "KMeans", "seed": seed} for seed in range(3)]
    ours = [
        {"contestant": "FlowMixture, K found", "seed": 1},
        {"contestant": "start: auto", "seed": 0},
    ]
    assert common.with_ours(others + ours, "seed") == others[:2] + ours
    assert common.with_ours(others, "seed") == others


@pytest.fixture
def time_to_quality(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("time_to_quality")


def test_generated_tables_have_the_density_that_is_said(time_to_quality):
    curved = time_to_quality.Curved(components=3, features=2)
    axis = np.linspace(-15, 15, 601)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_density = logsumexp(curved.log_joint(grid), axis=1)
    mass = np.exp(log_density) * (axis[1] - axis[0]) ** 2
    assert mass.sum() == pytest.approx(1, abs=1e-4)
    X, labels = curved.sample(20_000, seed=0)
    of_rows = logsumexp(curved.log_joint(X), axis=1)
    error = of_rows.std() / math.sqrt(len(X))
    assert of_rows.mean() == pytest.approx((mass * log_density).sum(), abs=4 * error)
    shares = np.exp(curved.log_joint(grid)).sum(axis=0) / np.exp(log_density).sum()
    assert np.bincount(labels) / len(X) == pytest.approx(shares, abs=0.02)


def reading(seconds, log_likelihood):
    return {"seconds": seconds, "log_likelihood": log_likelihood, "accuracy": 0.9}


def fit(contestant, *curve, is_stopped=False, table="200000x10x8"):
    return {
        "table": table,
        "contestant": contestant,
        "seconds": curve[-1]["seconds"] + is_stopped,
        "is_stopped": is_stopped,
        "curve": list(curve),
        "last": curve[-1],
    }


def page_of(time_to_quality, rows, fits):
    tables = {each["table"] for each in fits}
    described = [
        {"table": name, "rows": rows, "features": 10, "components": 8, "truth": -0.9}
        for name in sorted(tables)
    ]
    document = {"command": "", "commit": "", "date": "", "machine": ""}
    return "\n".join(time_to_quality.page({**document, "tables": described, "fits": fits}))


def test_time_to_quality_counts_the_first_reading_near_the_best_of_all(time_to_quality):
    fits = [
        fit("vmonf", reading(10, -1.04), reading(20, -1.01), reading(30, -1.03)),
        fit("long run, splines", reading(100, -1.0)),
        fit("vmonf at 7efdb76", reading(50, -1.2), reading(310, -1.015)),
        fit("GaussianMixture", reading(5, -1.3)),
    ]
    lines = page_of(time_to_quality, 200_000, fits)
    assert "| 20.0 | 310.0 (vmonf at 7efdb76) | 15.5 | 15 |" in lines
    assert "-1.000 | long run, splines | 0.100 | 10.0 / 20.0 (0.900) | 310.0 / 310.0" in lines
    assert "| -0.300 in 5.0 |" in lines
    assert "| 30.0 | -0.030 | 0.900 |" in lines


def test_time_to_quality_says_more_than_of_a_fit_that_was_stopped(time_to_quality):
    fits = [
        fit("vmonf", reading(10, -1.0)),
        fit("vmonf at 7efdb76", reading(50, -1.1), is_stopped=True),
    ]
    lines = page_of(time_to_quality, 2_000_000, fits)
    assert "| 10.0 | > 51.0 (vmonf at 7efdb76) | > 5.1 | 30 |" in lines
    assert "-0.100 > 51.0" in lines


def test_time_to_quality_compares_whole_fits_of_small_tables(time_to_quality):
    fits = [
        fit(name, reading(seconds, nats), table=table)
        for table, nats in (("500x10x8", -1.0), ("1000x10x8", -2.0))
        for name, seconds in (("vmonf", 10), ("vmonf at 7efdb76", 25))
    ]
    lines = page_of(time_to_quality, 1000, fits)
    assert "nats above theirs: +0.000 ± 0.000" in lines
    assert "| 20.0 | 50.0 (vmonf at 7efdb76) | 2.50 (2.50, median) | 2 |" in lines


def test_time_to_quality_tells_when_the_level_of_the_old_fits_is_reached(time_to_quality):
    ours = {
        "500x10x8": [reading(4, -1.2), reading(8, -0.9), reading(30, -0.8)],
        "1000x10x8": [reading(10, -1.2), reading(20, -1.1)],  # never reached
    }
    fits = [fit("vmonf", *curve, table=table) for table, curve in ours.items()]
    fits += [fit("vmonf at 7efdb76", reading(40, -1.0), table=table) for table in ours]
    lines = page_of(time_to_quality, 1000, fits)
    assert "which is reached on 1 (or of the whole fit) | 28.0 | 80.0" in lines
    assert "| 2.86 (3.50, median) | 2 |" in lines
