"""Tests that run the README's code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def snippet(language):
    """Return all code blocks of a language as one script."""
    found = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    assert found
    return "\n".join(found)


@pytest.fixture(scope="module")
def environment():
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }


@pytest.mark.long
def test_the_python_snippet_runs(tmp_path, environment):
    # Warnings are errors, so that the README shows code without warnings.
    subprocess.run(
        [sys.executable, "-W", "error", "-c", snippet("python")],
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    assert (tmp_path / "wings.vmonf").stat().st_size > 1000


@pytest.mark.long
def test_the_shell_snippet_runs(tmp_path, environment):
    result = subprocess.run(
        ["bash", "-euc", snippet("sh")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for name in ("wings.vmonf", "clusters.csv", "scores.parquet", "samples.npy", "training.png"):
        assert (tmp_path / name).stat().st_size > 0
    assert "accuracy" in result.stdout.lower()


def test_the_figure_and_the_pages_it_names_exist():
    root = Path(__file__).parents[1]
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (root / target).is_file(), target
