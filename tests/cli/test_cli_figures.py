"""Tests of `info`, `plot` and `demo`."""

import json

import numpy as np
import pytest

from vmonf import FlowMixture, Training


def test_info_holds_everything(vmonf, labelled_model):
    values = json.loads(vmonf.succeed("info", labelled_model, "--json").stdout)
    mixture = FlowMixture.load(labelled_model)
    assert values["file"] == {
        "path": str(labelled_model),
        "bytes": labelled_model.stat().st_size,
        "format_version": 2,
    }
    assert values["mixture"]["classes"] == ["high", "low"]
    assert values["mixture"]["weights"] == mixture.weights_.tolist()
    assert values["mixture"]["feature_names"] == ["x", "y"]
    count = sum(parameter.numel() for parameter in mixture.model_.parameters())
    assert values["mixture"]["parameters"] == count
    assert values["training"]["epochs"] == 3
    assert values["training"]["gain"] == mixture.gain_
    assert set(values["settings"]) == set(mixture.get_params(deep=False))
    assert values["settings"]["posterior"] == {"type": "PosteriorMLP", "hidden": [16]}
    # None stands for the defaults, which are shown too.
    assert values["settings"]["training"]["type"] == "Training"
    assert values["settings"]["training"]["batch_size"] == Training().batch_size


def test_every_kind_of_figure_is_a_choice_of_the_command_line():
    import inspect

    from vmonf.cli.plot import plot
    from vmonf.plots import KINDS

    annotation = inspect.signature(plot, eval_str=True).parameters["kind"].annotation
    assert annotation.__origin__.__args__ == KINDS


def test_info_for_a_person(vmonf, labelled_model):
    shown = vmonf.succeed("info", labelled_model).stdout
    lines = {tuple(line.split(maxsplit=1)) for line in shown.splitlines()}
    for name, value in FlowMixture.load(labelled_model).get_params(deep=False).items():
        assert any(line[0] == name for line in lines), (name, value)
    stripped = {tuple(part.strip() for part in line) for line in lines}
    assert ("classes", "high, low") in stripped
    assert ("components", "2") in stripped
    assert ("temperature_epochs", "none") in stripped


def test_info_never_hides_a_nan(vmonf, data, tmp_path):
    path = tmp_path / "m.vmonf"
    arguments = ("-o", path, "-k", 1, "--columns", "x", "--max-epochs", 0)
    vmonf.succeed("fit", data, *arguments, "--quiet")
    values = json.loads(vmonf.succeed("info", path, "--json").stdout)
    assert values["training"]["gain"] == "NaN"


def test_info_needs_a_model(vmonf, data, tmp_path):
    assert "no model file" in vmonf.fail("info", tmp_path / "none")
    assert "is not a model file" in vmonf.fail("info", data)


SIGNATURES = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}


@pytest.mark.parametrize("ending", SIGNATURES)
def test_plot_by_ending(vmonf, model, tmp_path, ending):
    output = tmp_path / f"figure.{ending}"
    result = vmonf.succeed("plot", model, "-o", output, "--kind", "training")
    assert result.stderr == f"Wrote {output}.\n"
    assert output.read_bytes().startswith(SIGNATURES[ending])
    assert list(tmp_path.iterdir()) == [output]


def test_plot_hands_over_rows_and_labels(vmonf, data, table, model, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    calls = []

    def plot(mixture, X=None, labels=None, kind="auto", random_state=0):
        calls.append((X, labels, kind, random_state))
        return Figure()

    monkeypatch.setattr("vmonf.plots.plot", plot)
    output = tmp_path / "figure.png"
    result = vmonf.succeed(
        *("plot", model, data, "-o", output, "--label", "kind"),
        *("--kind", "regions", "--seed", 5, "--json"),
    )
    assert json.loads(result.stdout) == {"path": str(output), "kind": "regions"}
    vmonf.succeed("plot", model, "-o", output)
    (X, labels, *settings), nothing = calls
    np.testing.assert_array_equal(X.to_numpy(), table.select("x", "y").to_numpy())
    assert labels.tolist() == table["kind"].fill_null("").to_list()
    assert settings == ["regions", 5]
    assert nothing == (None, None, "auto", 0)


@pytest.mark.usefixtures("left_alone")
def test_plot_failures_leave_nothing(vmonf, data, model, tmp_path, monkeypatch):
    output = tmp_path / "figure.png"
    assert ".png, .pdf or .svg" in vmonf.fail("plot", model, "-o", tmp_path / "figure.bmp")
    assert "no column 'truce'" in vmonf.fail("plot", model, data, "-o", output, "--label", "truce")
    assert vmonf.run("plot", model, "-o", output, "--label", "truth").exit_code == 2
    assert vmonf.run("plot", model, "-o", output, "--kind", "pie").exit_code == 2

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    message = vmonf.fail("plot", model, "-o", output, "--kind", "training")
    assert "No space left on device" in message


def test_plot_without_matplotlib(vmonf, model, tmp_path, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("vmonf.plots")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    message = vmonf.fail("plot", model, "-o", tmp_path / "figure.png")
    assert message == "Plots need matplotlib: pip install 'vmonf[plots]'."


def test_demo(vmonf, tmp_path, monkeypatch):
    monkeypatch.setitem(FlowMixture.__init__.__kwdefaults__, "max_epochs", 2)
    out = tmp_path / "new" / "demo"
    result = vmonf.succeed("demo", "--out", out)
    assert "$ vmonf fit" in result.stdout
    assert "the true density" in result.stdout
    assert "scikit-learn's best Gaussian mixture" in result.stdout
    names = {path.name for path in out.iterdir()}
    assert names == {
        "pinwheel.vmonf",
        "pinwheel-regions.png",
        "pinwheel-density.png",
        "pinwheel-training.png",
        "wine-train.csv",
        "wine-test.csv",
        "wine.vmonf",
        "wine-clusters.csv",
        "wine-pairs.png",
        "wine-sizes.png",
        "wine-evaluation.json",
        "wine-info.json",
    }
    assert json.loads((out / "wine-evaluation.json").read_text())["posterior"]["accuracy"] > 0.8
    for name in names:
        assert str(out / name) in result.stdout
