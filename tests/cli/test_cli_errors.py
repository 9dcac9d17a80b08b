"""Tests of exit codes, error messages and the time that --help takes."""

import os
import subprocess
import sys
import time

import pytest

from vmonf import __version__

SLOW_TO_IMPORT = ("torch", "sklearn", "scipy", "polars", "matplotlib", "numpy", "vmonf.estimator")


def shell(*arguments, **environment):
    """Run `vmonf` in its own process."""
    return subprocess.run(
        [sys.executable, "-m", "vmonf.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["fit", "--help"], ["demo", "--help"]])
def test_nothing_slow_is_imported_for_help(arguments):
    code = (
        "import sys\n"
        "from vmonf.cli import app\n"
        f"try: app({arguments!r} or ['--version'])\n"
        "except SystemExit: pass\n"
        f"print([name for name in {SLOW_TO_IMPORT!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_is_fast_and_names_every_verb():
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = shell("--help")
        seconds.append(time.perf_counter() - began)
    # The target is half a second; the bound allows for a busy machine.
    assert min(seconds) < 1.0
    assert done.returncode == 0
    for verb in ("fit", "predict", "score", "sample", "plot", "info", "evaluate", "demo"):
        assert f"  {verb} " in done.stdout


@pytest.mark.long
def test_exit_codes_and_streams(data, model, tmp_path):
    done = shell("info", tmp_path / "none.vmonf")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: There is no model file at {tmp_path / 'none.vmonf'}: ")
    assert done.stderr.count("\n") == 1
    done = shell("fit", data, "-o", tmp_path / "m", "--componets", 2)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--componets" in done.stderr
    done = shell("sample", model, "-n", 2)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("x,y,component\n")
    assert not list(tmp_path.iterdir())


def test_version(vmonf):
    assert vmonf.succeed("--version").stdout == f"vmonf {__version__}\n"


def test_no_verb_and_unknown_verb_are_bad_usage(vmonf):
    assert vmonf.run("frobnicate").exit_code == 2
    assert "Usage: vmonf" in vmonf.run().output


def raising(error):
    def function(*_, **__):
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            RuntimeError("a\nb."),
            "Something unexpected went wrong (RuntimeError: a b): set VMONF_DEBUG=1 and run "
            "again for the full trace.",
        ),
        (
            ZeroDivisionError("division by zero"),
            "Something unexpected went wrong (ZeroDivisionError: division by zero): set "
            "VMONF_DEBUG=1 and run again for the full trace.",
        ),
        (
            MemoryError(),
            "There is not enough memory: use fewer rows, columns or --components.",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried ..."),
            "There is not enough memory: use fewer rows, columns or --components.",
        ),
        (ArithmeticError("Row 3 has no density."), "Row 3 has no density."),
        (ValueError("Two\nlines."), "Two lines."),
        (
            PermissionError(13, "Permission denied", "there"),
            "there cannot be used: Permission denied.",
        ),
    ],
)
def test_every_error_is_one_sentence(vmonf, model, monkeypatch, error, sentence):
    monkeypatch.delenv("VMONF_DEBUG", raising=False)
    monkeypatch.setattr("vmonf.estimator.FlowMixture.sample", raising(error))
    assert vmonf.fail("sample", model) == sentence


def test_training_errors_are_one_sentence(vmonf, data, tmp_path, monkeypatch):
    from vmonf.training import TrainingError

    error = TrainingError("Training met values that are not numbers.")
    monkeypatch.setattr("vmonf.estimator.FlowMixture.fit", raising(error))
    message = vmonf.fail("fit", data, "-o", tmp_path / "m", "-k", 2, "--columns", "x,y")
    assert message == "Training met values that are not numbers."


def test_the_trace_is_let_through_on_request(vmonf, model, monkeypatch):
    monkeypatch.setenv("VMONF_DEBUG", "1")
    error = RuntimeError("seen")
    monkeypatch.setattr("vmonf.estimator.FlowMixture.sample", raising(error))
    result = vmonf.run("sample", model)
    assert result.exception is error


def test_warnings_are_one_line(vmonf, model, monkeypatch):
    import warnings

    from vmonf import FlowMixture

    original = FlowMixture.sample

    def warn(*arguments, **settings):
        warnings.warn("This\nis odd.", stacklevel=1)
        return original(*arguments, **settings)

    monkeypatch.setattr(FlowMixture, "sample", warn)
    assert vmonf.succeed("sample", model, "-n", 1).stderr == "Warning: This is odd.\n"


def test_ctrl_c_exits_with_130(vmonf, model, tmp_path, monkeypatch):
    monkeypatch.setattr("vmonf.estimator.FlowMixture.sample", raising(KeyboardInterrupt()))
    result = vmonf.run("sample", model, "-o", tmp_path / "new.csv")
    assert result.exit_code == 130
    assert not list(tmp_path.iterdir())
