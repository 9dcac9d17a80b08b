"""Tests of `toy`: the rows and the files."""

import io
import json
import re

import numpy as np
import polars
import pytest

from vmonf.data import Pinwheel, TwoCircles, read_table


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize(
    ("kind", "label", "mixture"),
    [("pinwheel", "wing", Pinwheel()), ("circles", "circle", TwoCircles())],
)
def test_rows_are_those_of_the_library(vmonf, tmp_path, kind, label, mixture, ending):
    output = tmp_path / f"toy.{ending}"
    result = vmonf.succeed("toy", kind, "-o", output)
    X, labels = mixture.sample(512, random_state=0)
    found = read_table(output)
    assert found.columns == ["x", "y", label]
    np.testing.assert_array_equal(found.select("x", "y").to_numpy(), X)
    assert found[label].to_list() == labels.tolist()
    count = f"{len(X)} rows of {mixture.n_components} {label}s"
    assert (result.stdout, result.stderr) == ("", f"Wrote {output}: {count}.\n")


def test_options_of_the_pinwheel(vmonf):
    options = ("--wings", 3, "--rate", 0.4, "--rows-each", 10, "--seed", 7)
    result = vmonf.succeed("toy", "pinwheel", *options)
    found = polars.read_csv(io.StringIO(result.stdout))
    X, wing = Pinwheel(n_wings=3, rate=0.4).sample(10, random_state=7)
    np.testing.assert_array_equal(found.select("x", "y").to_numpy(), X)
    assert found["wing"].to_list() == wing.tolist()
    assert result.stderr == ""


def test_npy_holds_the_features_alone(vmonf, tmp_path):
    output = tmp_path / "circles.npy"
    assert vmonf.succeed("toy", "circles", "-o", output, "--quiet").stderr == ""
    np.testing.assert_array_equal(np.load(output), TwoCircles().sample(512, random_state=0)[0])


def test_json(vmonf, tmp_path):
    output = tmp_path / "wings.csv"
    result = vmonf.succeed("toy", "pinwheel", "-o", output, "--json")
    assert json.loads(result.stdout) == {"path": str(output), "rows": 2560, "wings": 5}
    assert result.stderr == ""
    result = vmonf.succeed("toy", "circles", "--rows-each", 2, "--json")
    values = json.loads(result.stdout)
    assert (values["path"], values["rows"], values["circles"]) == (None, 4, 2)
    assert sorted(values["table"]["circle"]) == [0, 0, 1, 1]


@pytest.mark.usefixtures("left_alone")
@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ((), "Missing argument"),
        (("spiral",), "'spiral' is not one of 'pinwheel', 'circles'"),
        (("pinwheel", "--rows-each", 0), "--rows-each"),
        (("pinwheel", "--wings", 0), "--wings"),
        (("pinwheel", "--rate", -1), "--rate"),
        (("circles", "--rate", 1), "--rate: It applies only to the pinwheel."),
        (("circles", "--wings", 3), "--wings: It applies only to the pinwheel."),
    ],
)
def test_bad_usage(vmonf, tmp_path, arguments, fault):
    result = vmonf.run("toy", *arguments, "-o", tmp_path / "toy.csv")
    assert (result.exit_code, result.stdout) == (2, "")
    assert fault in " ".join(result.stderr.split())


@pytest.mark.usefixtures("left_alone")
def test_failures_are_one_sentence(vmonf, tmp_path):
    assert "is not that of a known format" in vmonf.fail(
        "toy", "pinwheel", "-o", tmp_path / "toy.xlsx"
    )
    assert "does not exist" in vmonf.fail("toy", "pinwheel", "-o", tmp_path / "none" / "toy.csv")
    message = vmonf.fail("toy", "pinwheel", "--rate", "inf", "-o", tmp_path / "toy.csv")
    assert message == "rate must be at least zero and finite, not inf."


def test_help_names_the_verb_and_the_defaults(vmonf):
    assert "  toy " in vmonf.succeed("--help").stdout
    text = " ".join(vmonf.succeed("toy", "--help").stdout.split())
    pinwheel = Pinwheel()
    # Old versions of typer write a backslash before the bracket.
    assert re.search(r"from each wing or circle\. \\?\[default: 512", text)
    assert f"number of wings; {pinwheel.n_wings} unless given" in text
    assert f"twist; {pinwheel.rate} unless given" in text
