"""Tests that run the scripts of docs/scoring-at-scale.md as they stand there."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from vmonf import FlowMixture

PAGE = (Path(__file__).parents[1] / "docs" / "scoring-at-scale.md").read_text()
#: The page's Python files by their names.
FILES = dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE, flags=re.DOTALL))
SHELL = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
NAMES = ["x", "y", "z"]


def needs(module):
    """Skip unless a module is installed; what the engines import is left to their processes."""
    is_installed = importlib.util.find_spec(module) is not None
    return pytest.mark.skipif(not is_installed, reason=f"{module} is not installed")


DASK = pytest.param("score_with_dask.py", marks=needs("dask"), id="dask")
ENGINES = [
    pytest.param("score_with_joblib.py", id="joblib"),
    DASK,
    pytest.param("score_with_ray.py", marks=needs("ray"), id="ray"),
    pytest.param(
        "score_with_spark.py",
        marks=[
            needs("pyspark"),
            pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
        ],
        id="spark",
    ),
]
#: Scripts whose results are in the order of the rows, as the page says.
IN_ORDER = {"score_with_joblib.py", "score_with_dask.py"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a model, a table in two files and the page's scripts."""
    folder = tmp_path_factory.mktemp("scale")
    random = np.random.default_rng(0)
    x = random.standard_normal((900, 3)) + 6 * random.integers(0, 3, (900, 1))
    table = pd.DataFrame(x, columns=NAMES)
    mixture = FlowMixture(3, init="kmeans", max_epochs=2, random_state=0).fit(table)
    mixture.save(folder / "model.vmonf")
    table["event"] = random.permutation(900) + 10
    table["note"] = "of no use"
    (folder / "data").mkdir()
    for part, place in enumerate(np.array_split(np.arange(900), 2)):
        columns = ["y", "event", "note", "z", "x"]
        table.loc[place, columns].to_parquet(folder / "data" / f"{part}.parquet", index=False)
    for name, code in FILES.items():
        (folder / name).write_text(code)
    expected = pd.DataFrame(
        {
            "event": table["event"],
            "log_prob": mixture.score_samples(table[NAMES]),
            "cluster": mixture.predict(table[NAMES]),
        }
    )
    return folder, expected


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of the folder."""
    return shutil.copytree(prepared[0], tmp_path / "scale")


@pytest.fixture
def expected(prepared):
    """Id, density and cluster of each row, from the whole table at once."""
    return prepared[1]


@pytest.fixture
def part(folder, monkeypatch):
    """The module score_part, as a worker imports it in the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "score_part", raising=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield importlib.import_module("score_part")
    torch.set_num_threads(threads)
    del sys.modules["score_part"]


def run(command, folder):
    """Run a command in a folder, with the python and the programs of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def compare(found, expected, columns):
    """Compare columns with those of the whole table, by id and up to rounding."""
    assert len(found) == len(expected)
    found = found.set_index("event").loc[expected["event"]]
    for column in columns:
        np.testing.assert_allclose(found[column], expected[column], rtol=1e-5, atol=1e-5)


def test_the_page_has_a_script_for_each_engine():
    scripts = {engine.values[0] for engine in ENGINES}
    assert set(FILES) == scripts | {"score_part.py"}
    assert len(SHELL) == 2


@pytest.mark.parametrize("script", ENGINES)
def test_an_engine_gives_the_results_of_the_whole_table(script, folder, expected):
    result = run([sys.executable, script], folder)
    assert result.returncode == 0, result.stderr
    files = sorted((folder / "scores").glob("*.parquet"))
    found = pd.concat([pd.read_parquet(file) for file in files])
    compare(found, expected, ["log_prob", "cluster"])
    if script in IN_ORDER:
        np.testing.assert_array_equal(found["event"], expected["event"])


@pytest.mark.long
def test_the_command_line_scores_and_clusters_the_folder(folder, expected):
    result = run(["bash", "-euc", "\n".join(SHELL)], folder)
    assert result.returncode == 0, result.stderr
    compare(pd.read_parquet(folder / "scores.parquet"), expected, ["log_prob"])
    compare(pd.read_parquet(folder / "clusters.parquet"), expected, ["cluster"])
    found = pd.concat([pd.read_parquet(folder / "scores" / f"{n}.parquet") for n in range(2)])
    np.testing.assert_array_equal(found["event"], expected["event"])
    compare(found, expected, ["log_prob"])


def test_a_worker_loads_the_model_once_and_uses_one_thread(part, expected, monkeypatch):
    loads = []
    load = FlowMixture.load
    monkeypatch.setattr(
        part.FlowMixture, "load", lambda *args, **options: loads.append(1) or load(*args, **options)
    )
    rows = [pd.read_parquet(f"data/{n}.parquet") for n in range(2)]
    found = [part.score_part(some, "model.vmonf") for some in rows]
    assert len(loads) == 1
    assert torch.get_num_threads() == 1
    compare(pd.concat(found), expected, ["log_prob", "cluster"])


def test_a_part_without_rows_gives_none_of_the_same_types(part):
    rows = pd.read_parquet("data/0.parquet")
    full, empty = (part.score_part(some, "model.vmonf") for some in (rows, rows[:0]))
    assert len(empty) == 0
    assert empty.dtypes.to_dict() == full.dtypes.to_dict() == part.COLUMNS


@pytest.mark.parametrize("script", [DASK])
def test_a_missing_value_stops_the_run_with_its_row_in_the_part(script, folder):
    path = folder / "data" / "1.parquet"
    rows = pd.read_parquet(path)
    rows.loc[[5, 17], "y"] = np.nan
    rows.to_parquet(path, index=False)
    result = run([sys.executable, script], folder)
    assert result.returncode != 0
    message = re.search(r"`(X contains NaN .*?) \.\.\.`", PAGE)[1]
    assert message in result.stderr
