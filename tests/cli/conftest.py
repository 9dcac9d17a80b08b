"""Fixtures: a table, models fitted to it once, and functions that run the command line."""

from types import SimpleNamespace

import numpy as np
import polars
import pytest
from typer.testing import CliRunner

from vmonf.cli import app

N_ROWS = 120
NARROW = ("--set", "flow__hidden=16,", "--set", "posterior__hidden=16,")
QUICK = ("--max-epochs", 3, *NARROW, "--quiet")


def run(*arguments):
    """Run `vmonf` in this process; the result has exit_code, stdout and stderr."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="vmonf")


def succeed(*arguments):
    """Run `vmonf`, which must succeed, and return the result."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def fail(*arguments):
    """Run `vmonf`, which must fail, and return its one sentence."""
    result = run(*arguments)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert lines[0].endswith(".")
    return lines[0].removeprefix("Error: ")


@pytest.fixture(scope="session")
def vmonf():
    """The functions that run a command, and the options of a quick fit."""
    return SimpleNamespace(run=run, succeed=succeed, fail=fail, quick=QUICK)


@pytest.fixture(scope="session")
def table():
    """Two clusters in the plane, with ids, labels for every third row, and weights."""
    random = np.random.default_rng(0)
    cluster = random.integers(2, size=N_ROWS)
    place = random.normal(size=(N_ROWS, 2)) + 6 * cluster[:, None]
    names = np.array(["low", "high"])[cluster].tolist()
    return polars.DataFrame(
        {
            "id": [f"row {i}" for i in random.permutation(N_ROWS)],
            "x": place[:, 0],
            "kind": [name if i % 3 == 0 else None for i, name in enumerate(names)],
            "y": place[:, 1],
            "truth": names,
            "often": random.integers(1, 4, size=N_ROWS),
        }
    )


@pytest.fixture(scope="session")
def shared(tmp_path_factory, table):
    """A folder with the table and two models, which tests must not change."""
    folder = tmp_path_factory.mktemp("shared")
    table.write_csv(folder / "table.csv")
    table.write_parquet(folder / "table.parquet")
    np.save(folder / "table.npy", table.select("x", "y").to_numpy())
    data = folder / "table.csv"
    for name, *labels in (("plain.vmonf",), ("labelled.vmonf", "--label", "kind")):
        arguments = ("-o", folder / name, "--components", 2, "--columns", "x,y", *labels)
        succeed("fit", data, *arguments, *QUICK)
    return folder


@pytest.fixture
def data(shared):
    return shared / "table.csv"


@pytest.fixture
def model(shared):
    """A model fitted without labels, with clusters 0 and 1."""
    return shared / "plain.vmonf"


@pytest.fixture
def labelled_model(shared):
    """A model fitted with labels, with clusters "high" and "low"."""
    return shared / "labelled.vmonf"


@pytest.fixture
def left_alone(tmp_path):
    """Check that a test leaves no new files in its folder."""
    before = set(tmp_path.iterdir())
    yield
    assert set(tmp_path.iterdir()) == before
