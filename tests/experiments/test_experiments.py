"""Tests that the paper's experiments run, resume where they stopped, and measure correctly."""

import json
import re
import struct
import subprocess
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from vmonf.cli import app
from vmonf.experiments import components, mnist, pinwheel, tables, two_circles
from vmonf.experiments import ledger as module
from vmonf.experiments.common import commit_of
from vmonf.experiments.ledger import Ledger


def reproduce(*arguments):
    result = CliRunner().invoke(app, ["reproduce", *map(str, arguments)], prog_name="vmonf")
    assert result.exit_code == 0, result.output
    return result


def test_the_pinwheel_runs(tmp_path):
    out = tmp_path / "new folder"
    result = reproduce("pinwheel", "--out", out, "--seeds", 1, "--quick")
    assert "our defaults (1 seed)" in result.stdout
    document = json.loads((out / "results.json").read_text())
    assert document["command"] == "vmonf reproduce pinwheel --seeds 1 --quick"
    fits = document["fits"].values()
    assert [fit["case"] for fit in fits] == list(pinwheel.CASES)
    for fit in fits:
        assert fit["below_truth"] == pytest.approx(
            fit["true_log_likelihood"] - fit["log_likelihood"]
        )
        assert 0 <= fit["accuracy"] <= 1
        assert fit["below_truth_worst"] > 0.01 * fit["below_truth"]
        assert fit["gap"] >= 0
    assert sum(path.suffix == ".png" for path in out.iterdir()) == len(pinwheel.CASES)


def test_two_circles_run_and_go_on_where_they_stopped(tmp_path, monkeypatch):
    arguments = ("two-circles", "--out", tmp_path, "--seeds", 1, "--quick")
    calls = []
    whole = two_circles._fit

    def stopped(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(two_circles, "_fit", stopped)
    result = CliRunner().invoke(app, ["reproduce", *map(str, arguments)])
    assert result.exit_code == 130
    held = json.loads((tmp_path / "results.json").read_text())["fits"]
    assert len(held) == 2
    result = reproduce(*arguments)
    fits = json.loads((tmp_path / "results.json").read_text())["fits"]
    assert len(fits) == 2 * len(two_circles.SETTINGS)
    assert len(calls) == 3 + len(fits) - 2
    assert {name: fits[name] for name in held} == held
    assert "stray samples" in result.stdout
    for fit in fits.values():
        assert 0 <= fit["stray"] <= 1
    assert fits["from the graph, splines: 64 labels + 1024, seed 0"]["accuracy"] > 0.98
    assert len(list(tmp_path.glob("*.png"))) == len(two_circles.SETTINGS)
    again = {path.name: path.read_bytes() for path in tmp_path.glob("*.png")}
    for path in tmp_path.glob("*.png"):
        path.unlink()
    reproduce(*arguments)  # repeats no fit, and draws the figures from the saved models
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.png")} == again


@pytest.fixture
def digits_as_mnist(tmp_path, monkeypatch):
    """scikit-learn's small digits, enlarged and written in the format of MNIST's files."""
    digits = load_digits()
    images = np.zeros((len(digits.data), 28, 28), dtype=np.uint8)
    images[:, 6:22, 6:22] = np.kron(digits.images, np.ones((2, 2))) * 15
    folder = tmp_path / "images"
    folder.mkdir()
    for split, rows in (("train", slice(0, 1200)), ("t10k", slice(1200, None))):
        for name, values in (("images-idx3", images), ("labels-idx1", digits.target)):
            values = values[rows].astype(np.uint8)
            header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
            (folder / f"{split}-{name}-ubyte").write_bytes(header + values.tobytes())
    return folder


def test_mnist_runs(tmp_path, digits_as_mnist):
    out = tmp_path / "out"
    options = ("--out", out, "--folder", digits_as_mnist, "--seeds", 1, "--quick")
    result = reproduce("mnist", *options)
    assert "bits per dimension" in " ".join(result.stdout.split())
    fits = json.loads((out / "results.json").read_text())["fits"]
    assert len(fits) == 3 + len(mnist.LABELS) + 1
    for fit in fits.values():
        counts = np.array(fit["contingency"])
        assert counts.shape == (5, 5)
        assert fit["train_accuracy"] <= 1
        assert fit["macro_accuracy"] <= counts.max(axis=0).sum() / counts.sum() + 0.2
    unlabelled = fits["ours, no labels, seed 0"]
    assert [epoch["epoch"] for epoch in unlabelled["epochs"]] == [0, 1]
    assert unlabelled["start_accuracy"] > 0.8
    assert fits["ours, 100 labels, seed 0"]["accuracy"] > 0.8
    assert fits["paper's settings, seed 0"]["bits_per_dimension"] > 0
    assert {path.suffix for path in out.iterdir()} == {".json", ".png"}  # no checkpoint is left


def test_macro_accuracy_counts_digits_alike():
    digits = np.array([0, 0, 0, 0, 1, 1])
    assert mnist.macro_accuracy(digits, np.array([3, 3, 3, 3, 2, 3])) == pytest.approx(0.75)
    assert mnist.macro_accuracy(digits, np.array([1, 1, 1, 1, 1, 1])) == pytest.approx(0.5)


def test_some_labels_are_as_many_of_each_digit():
    digits = np.random.default_rng(0).integers(5, size=300)
    labels = mnist._some_labels(digits, 50, seed=0)
    assert np.bincount(labels[labels >= 0]).tolist() == [10] * 5
    np.testing.assert_array_equal(labels[labels >= 0], digits[labels >= 0])


def test_other_settings_start_anew(tmp_path):
    path = tmp_path / "results.json"
    ledger = Ledger(path, "a command", {"epochs": 3}, [1.0])
    assert ledger.fit("a case", 0, lambda: {"value": 1})["value"] == 1
    again = Ledger(path, "a command", {"epochs": 3}, [1.0])
    assert again.fit("a case", 0, lambda: pytest.fail("fitted again"))["value"] == 1
    other = Ledger(path, "a command", {"epochs": 4}, [1.0])
    assert other.of("a case") == []
    assert not path.exists()
    kept = json.loads((tmp_path / "results-1.json").read_text())
    assert kept["fits"]["a case, seed 0"]["value"] == 1


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"fits": {}}'])
def test_a_file_that_is_no_results_file_is_kept_aside(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    (tmp_path / "results-1.json").write_text("an older one")
    ledger = Ledger(path, "a command", {}, [1.0])
    assert ledger.document["fits"] == {}
    assert (tmp_path / "results-1.json").read_text() == "an older one"
    assert (tmp_path / "results-2.json").read_text() == text


def test_a_fit_whose_file_is_gone_is_done_again(tmp_path):
    path, figure = tmp_path / "results.json", tmp_path / "figure.png"

    def draw(value):
        figure.write_text("drawn")
        return {"value": value}

    Ledger(path, "a command", {}, [1.0]).fit("a case", 0, lambda: draw(1), figure)
    ledger = Ledger(path, "a command", {}, [1.0])
    assert ledger.fit("a case", 0, lambda: draw(2), figure)["value"] == 1
    figure.unlink()
    assert ledger.fit("a case", 0, lambda: draw(3), figure)["value"] == 3


def test_the_time_left_is_told_and_corrected(tmp_path, monkeypatch, capsys):
    clock = iter([0.0, 120.0, 120.0, 150.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    ledger = Ledger(tmp_path / "results.json", "a command", {}, [1.0, 4.0])
    ledger.fit("a case", 0, dict)
    ledger.fit("a case", 1, dict)
    said = capsys.readouterr().err
    assert "a case, seed 0: fit 1 of 2, about 5 min left" in said
    assert "a case, seed 1: fit 2 of 2, about 8 min left" in said  # the first took twice as long


def test_an_interrupted_fit_is_no_result(tmp_path):
    ledger = Ledger(tmp_path / "results.json", "a command", {}, [1.0])

    def interrupted():
        warnings.warn("Training was interrupted; the best model so far is kept.", stacklevel=1)
        return {}

    with pytest.raises(KeyboardInterrupt):
        ledger.fit("a case", 0, interrupted)
    assert ledger.of("a case") == []


def test_stray_samples_are_those_far_from_both_circles():
    radius = np.array([0.8, 0.4, 0.8 + 0.019, 0.4 - 0.021, 0.6, 1.5])
    angle = np.linspace(0, 6, len(radius))
    samples = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    assert two_circles.stray_share(samples) == pytest.approx(3 / 6)


@pytest.mark.parametrize("n_labelled", [4, 11, 16])
def test_labels_are_spread_over_both_circles(n_labelled):
    circle = np.random.default_rng(0).permutation(np.repeat([0, 1], 100))
    chosen = two_circles._spread(circle, n_labelled)
    assert len(set(chosen)) == n_labelled
    assert abs(np.sum(circle[chosen] == 0) - n_labelled / 2) <= 0.5


def test_components_run(tmp_path):
    result = reproduce("components", "--out", tmp_path, "--seeds", 1, "--quick")
    for part in tables.PARTS["components"]:
        assert part.title in result.stdout
    document = json.loads((tmp_path / "results.json").read_text())
    fits = document["fits"]
    names = [fit["case"] for fit in fits.values()]
    assert len(names) == 9 + 6 + 8
    shown = [
        row
        for part in tables.PARTS["components"]
        for row in tables.table(document, part.figures, part.prefix)
    ]
    assert len(shown) == len(names)
    for fit in fits.values():
        assert fit["elbo"] == pytest.approx(fit["log_likelihood"] - fit["gap"], abs=1e-4)
        assert 1 <= fit["effective_number"] <= 10 + 1e-6
        assert 1 <= fit["in_use"] <= 10
    assert fits["number: K = 10, the paper's start, seed 0"]["kept"] >= 1
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "components-number-K-10-the-papers-start.png",
        "components-number-K-10-the-papers-start-learned-weights.png",
        "components-number-K-10-our-start.png",
    }
    settings = document["settings"]
    assert any(
        case.get("training__consistency") == "turned"
        for case in settings.values()
        if isinstance(case, dict)
    )
    reproduce("components", "--out", tmp_path, "--seeds", 1, "--quick")  # repeats no fit
    assert json.loads((tmp_path / "results.json").read_text()) == document


def test_the_number_of_components_in_use():
    use = np.array([0.5, 0.495, 0.005, 0.0])
    assert components.in_use(use) == 2
    entropy = -sum(u * np.log(u) for u in use[:3])
    assert components.effective_number(use) == pytest.approx(np.exp(entropy))
    assert components.effective_number(np.full(7, 1 / 7)) == pytest.approx(7)


def test_a_changed_python_file_makes_a_commit_dirty_and_a_results_file_does_not(tmp_path):
    (tmp_path / "inner").mkdir()
    results, script = tmp_path / "inner" / "run.json", tmp_path / "script.py"
    assert commit_of(results) is None
    for file in (results, script):
        file.touch()
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for command in (("init", "-q"), ("add", "."), (*author, "commit", "-qm", "All")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = commit_of(results)
    assert re.fullmatch("[0-9a-f]+", clean)
    results.write_text("{}")
    assert commit_of(results) == clean
    script.write_text("pass")
    assert commit_of(results) == f"{clean}-dirty"


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert commit_of(tmp_path / "run.json") is None
