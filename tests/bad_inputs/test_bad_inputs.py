"""Every bad input of the catalogue, through Python and the command line."""

import os
import re
import warnings

import numpy as np
import pandas
import polars
import pytest
from typer.testing import CliRunner

import damaged_files
from bad_inputs import catalogue
from bad_inputs.catalogue import GOOD, Model, Parameter, Rows, Table, Use, X
from vmonf import FlowMixture, PosteriorMLP, RealNVP, Training
from vmonf.cli import app
from vmonf.data.tables import feature_columns, label_column, read_table, to_matrix

PARAMETERS = {
    "max_epochs": 0,
    "init": "kmeans",
    "base": 1,
    "training": Training(refine_posterior=False),
    "random_state": 0,
}
#: The same as options of the command line.
OPTIONS = ("--max-epochs", "0", "--init", "kmeans", "--base", "1", "--quiet", "--set")
OPTIONS += ("training__refine_posterior=false",)


def command(*arguments):
    """Run `vmonf` in this process: exit code, and what is said in one line."""
    result = CliRunner().invoke(app, [str(each) for each in arguments], prog_name="vmonf")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.stderr.replace("│", " ").split()), result


def refused(code, said, found_code, line, result):
    """Check the exit code and the words; a failure is one sentence after the warnings."""
    assert found_code == code, result.output
    assert re.sub(r"\s", "", said) in re.sub(r"\s", "", line), line
    if code == 1:
        *before, last = result.stderr.splitlines()
        assert last.startswith("Error: ")
        assert last.endswith(".")
        assert all(each.startswith("Warning: ") for each in before)
        assert "Something unexpected" not in last
        assert len(last) < 1000


def in_python(said, warned, function, *arguments, **keywords):
    """Check that a function raises a ValueError with these words, or warns with them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if warned:
            function(*arguments, **keywords)
            assert any(said in str(warning.message) for warning in caught), caught
            return
        with pytest.raises((ValueError, TypeError)) as error:
            function(*arguments, **keywords)
    message = str(error.value)
    assert said in message


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model fitted to the good rows, with the features x and y."""
    path = tmp_path_factory.mktemp("model") / "good.vmonf"
    frame = polars.DataFrame(X, schema=["x", "y"])
    FlowMixture(
        2, flow=RealNVP(n_layers=2, hidden=(4,)), posterior=PosteriorMLP((4,)), **PARAMETERS
    ).fit(frame).save(path)
    return path


@pytest.mark.parametrize("entry", catalogue.TABLES, ids=lambda entry: entry.name)
def test_tables(entry: Table, tmp_path):
    path = tmp_path / entry.file
    if entry.content == "folder":
        path.mkdir()
    elif entry.content == "pipe":
        os.mkfifo(path)
    elif entry.content == "device":
        path.symlink_to("/dev/zero")
    elif entry.content is not None:
        content = entry.content
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    options = {"components": "2"} | entry.options

    def fit():
        frame = read_table(path)
        label, weight = options.get("label"), options.get("weight")
        beside = [name for name in (label, weight) if name is not None]
        split = {
            name: options[name].split(",") for name in ("columns", "exclude") if name in options
        }
        exclude = beside + split.get("exclude", [])
        features = feature_columns(frame, split.get("columns"), exclude)
        rows = polars.DataFrame(to_matrix(frame, features), schema=features)
        labels = None if label is None else label_column(frame, label)[0]
        weights = None if weight is None else to_matrix(frame, [weight])[:, 0]
        FlowMixture(int(options["components"]), **PARAMETERS).fit(rows, labels, weights)

    in_python(entry.said, entry.code == 0, fit)
    output = tmp_path / "out.vmonf"
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    refused(entry.code, entry.said, *command("fit", path, "-o", output, *given, *OPTIONS))
    assert output.exists() == (entry.code == 0)


@pytest.mark.parametrize("entry", catalogue.ROWS_OF_PYTHON, ids=lambda entry: entry.name)
def test_rows(entry: Rows, tmp_path):
    in_python(entry.said, False, FlowMixture(2, **PARAMETERS).fit, entry.rows, **entry.given)
    if not entry.in_file:
        return
    path = tmp_path / f"rows{entry.in_file}"
    if entry.in_file == ".npy":
        np.save(path, entry.rows)
    elif isinstance(entry.rows, pandas.DataFrame):
        polars.from_pandas(entry.rows, nan_to_null=False).write_parquet(path)
    else:
        entry.rows.write_parquet(path)
    output = tmp_path / "out.vmonf"
    said = entry.file_said or entry.said.replace("column 1", "column '1'")
    refused(1, said, *command("fit", path, "-o", output, "-k", 2, *OPTIONS))
    assert not output.exists()


@pytest.mark.parametrize("entry", catalogue.PARAMETERS, ids=lambda entry: entry.name)
def test_parameters(entry: Parameter, tmp_path):
    def fit():
        FlowMixture().set_params(**({"n_components": 2} | PARAMETERS | entry.parameters)).fit(X)

    in_python(entry.said, False, fit)
    if entry.options is None:
        return
    data = tmp_path / "good.csv"
    data.write_text(GOOD)
    output = tmp_path / "out.vmonf"
    refused(
        entry.code,
        entry.said,
        *command("fit", data, "-o", output, "-k", 2, *OPTIONS, *entry.options),
    )
    assert not output.exists()


@pytest.mark.parametrize("entry", catalogue.MODELS, ids=lambda entry: entry.name)
def test_models(entry: Model, model, tmp_path):
    path = tmp_path / "changed.vmonf"
    if isinstance(entry.change, bytes):
        path.write_bytes(entry.change)
    elif isinstance(entry.change, str):
        damage = getattr(damaged_files, entry.change)
        path.write_bytes(damage(model.read_bytes(), np.random.default_rng(0)))
    else:

        def change(header, tensors):
            for name, value in entry.change.items():
                *above, last = name.split("__")
                owner = header["document"]
                for key in above:
                    owner = owner[key]
                if value is ...:
                    del owner[last]
                else:
                    owner[last] = value

        path.write_bytes(damaged_files.forge(model, change))
    with pytest.raises(ValueError, match=entry.said) as error:
        FlowMixture.load(path)
    code, line, result = command("info", path)
    refused(1, str(error.value), code, line, result)


@pytest.mark.parametrize("entry", catalogue.USES, ids=lambda entry: entry.name)
def test_uses(entry: Use, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [entry.verb, model]
    if entry.frame is not None:
        frame = polars.DataFrame(entry.frame)
        frame.write_parquet("rows.parquet")
        arguments.append("rows.parquet")
        if entry.python:
            method = getattr(FlowMixture.load(model), entry.python)
            in_python(entry.python_said, False, method, frame)
    refused(entry.code, entry.said, *command(*arguments, *entry.options))
    assert set(os.listdir(tmp_path)) <= {"rows.parquet"}


def test_the_catalogue_is_long_and_its_names_differ():
    assert len(catalogue.ALL) >= 150
    for part in (
        catalogue.TABLES,
        catalogue.ROWS_OF_PYTHON,
        catalogue.PARAMETERS,
        catalogue.MODELS,
        catalogue.USES,
    ):
        names = [entry.name for entry in part]
        assert len(names) == len(set(names))
