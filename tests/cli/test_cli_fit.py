import inspect
import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import polars
import pytest

from vmonf import NSF, FlowMixture, PosteriorMLP, RealNVP, Training
from vmonf.cli.fit import OPTIONS, describe, fit
from vmonf.judge import Verdict
from vmonf.start import Agreement, Number


@pytest.mark.parametrize("ending", ["csv", "parquet", "npy"])
def test_reads_every_format(vmonf, shared, table, tmp_path, ending):
    output = tmp_path / "m.vmonf"
    columns = () if ending == "npy" else ("--columns", "x", "--columns", "y")
    vmonf.succeed("fit", shared / f"table.{ending}", "-o", output, "-k", 2, *columns, *vmonf.quick)
    mixture = FlowMixture.load(output)
    names = ["0", "1"] if ending == "npy" else ["x", "y"]
    assert mixture.feature_names_in_.tolist() == names
    rows = polars.DataFrame(table.select("x", "y").to_numpy(), schema=names)
    expected = FlowMixture(
        2,
        flow=RealNVP(hidden=(16,)),
        posterior=PosteriorMLP(hidden=(16,)),
        max_epochs=3,
        random_state=0,
    ).fit(rows)
    np.testing.assert_array_equal(mixture.score_samples(rows), expected.score_samples(rows))


def test_features_are_all_columns_but_those_named(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    result = vmonf.succeed(
        *("fit", data, "-o", output, "-k", 2, "--label", "kind", "--weight", "often"),
        *("--exclude", "id, truth", *vmonf.quick),
    )
    assert result.output == ""
    mixture = FlowMixture.load(output)
    assert mixture.feature_names_in_.tolist() == ["x", "y"]
    assert mixture.classes_.tolist() == ["high", "low"]


def test_weights_count(vmonf, table, tmp_path):
    """A table with weights and one with repeated rows give the same start."""
    table.select("x", "often").write_csv(tmp_path / "weighted.csv")
    repeated = table.select(polars.col("x").repeat_by("often").explode())
    repeated.write_csv(tmp_path / "repeated.csv")
    scores = []
    for name, extra in (("weighted", ("--weight", "often")), ("repeated", ())):
        output = tmp_path / f"{name}.vmonf"
        arguments = ("-o", output, "-k", 2, "--max-epochs", 0, "--quiet")
        vmonf.succeed("fit", tmp_path / f"{name}.csv", *arguments, *extra)
        scores.append(FlowMixture.load(output).score_samples(table.select("x")))
    np.testing.assert_allclose(*scores, rtol=1e-6)


def test_json(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    result = vmonf.succeed(
        *("fit", data, "-o", output, "-k", 2, "--columns", "x,y", "--label", "kind", "--json"),
        *vmonf.quick,
    )
    assert result.stderr == ""
    values = json.loads(result.stdout)
    mixture = FlowMixture.load(output)
    assert values["path"] == str(output)
    assert values["rows"] == 120
    assert values["labelled_rows"] == 40
    assert values["features"] == ["x", "y"]
    assert values["components"] == 2
    assert values["classes"] == ["high", "low"]
    assert values["epochs"] == mixture.n_epochs_ == 3
    assert values["best_epoch"] == mixture.best_epoch_
    assert values["gain"] == mixture.gain_
    assert values["converged"] is False
    assert values["seconds"] > 0


def test_json_says_null_where_there_is_no_number(vmonf, data, tmp_path):
    result = vmonf.succeed(
        *("fit", data, "-o", tmp_path / "m", "-k", 2, "--columns", "x,y", "--json"),
        *("--max-epochs", 0),
    )
    values = json.loads(result.stdout)
    assert [values[n] for n in ("held_out_log_likelihood", "gain", "gain_error")] == [None] * 3


VERDICT = {
    "kept": "flows",
    "reason": "gain",
    "gain": 0.5,
    "gain_error": 0.1,
    "log_likelihood": -2.0,
    "epoch": 2,
    "n_epochs": 3,
}


@pytest.mark.parametrize(
    ("verdict", "converged", "words"),
    [
        ({"kept": "gaussian mixture", "reason": "not trained"}, False, "no epoch was trained"),
        (
            {"kept": "gaussian mixture", "reason": "no gain", "epoch": 0},
            False,
            "gained 0.5000 ± 0.1000 nats per row of held-out log-likelihood, perhaps by chance",
        ),
        ({"reason": "not judged"}, False, "No rows were held out to judge the flows"),
        ({}, False, "Held-out log-likelihood: -2.0000 nats per row."),
        ({}, False, "The flows gained 0.5000 ± 0.1000 nats per row"),
        ({}, False, "epoch 2 of 3 was kept.\n"),
        ({}, False, "Training ended before it converged"),
        ({}, True, "-2.0000 nats per row."),
    ],
)
def test_the_verdict_is_told(verdict, converged, words):
    found = Verdict(**VERDICT | verdict)
    mixture = SimpleNamespace(
        verdict_=found,
        converged_=converged,
        best_epoch_=found.epoch,
        held_out_log_likelihood_=found.log_likelihood,
        start_=Agreement("kmeans"),
        number_=Number(2),
    )
    assert words in describe(mixture)
    assert ("before it converged" in describe(mixture)) == (
        found.reason == "gain" and not converged
    )


def test_summary_and_bar(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    result = vmonf.succeed(
        *("fit", data, "-o", output, "-k", 2, "--columns", "x,y", "--label", "kind"),
        *("--max-epochs", 2, "--set", "flow__hidden=8,"),
    )
    assert "Fitted 2 components to 120 rows of 2 features" in result.stdout
    assert "40 of 120 rows had a label in column 'kind'." in result.stdout
    assert f"Wrote {output}." in result.stdout
    assert "Training" in result.stderr
    assert FlowMixture.load(output).verbose == 0


def test_every_option_reaches_its_parameter(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    options = {
        "flow": "nsf",
        "base": 2,
        "weights": "0.25,0.75",
        "init": "random",
        "restarts": 2,
        "max-epochs": 2,
        "max-seconds": 3600,
        "device": "cpu",
        "seed": 7,
        "checkpoint": tmp_path / "m.checkpoint",
        "bounds": "x=-100,",
        "periodic": "y=50",
        "missing": "refuse",
    }
    changes = {
        "flow__n_layers": "3",
        "flow__hidden": "8,4",
        "flow__n_bins": "5",
        "flow__mixing": "lu",
        "posterior__hidden": "6,",
        "objective": "marginal",
        "precision": "single",
        "temperature": "4,1.5",
        "temperature_epochs": "1",
        "validation_fraction": "0.2",
        "training__learning_rate": "0.002",
        "training__learning_rate_schedule": "cosine",
        "training__patience": "none",
        "training__pretrain_epochs": "1",
        "training__components_per_row": "None",
        "training__refine_posterior": "false",
    }
    given = [part for name, value in options.items() for part in (f"--{name}", value)]
    given += [part for change in changes.items() for part in ("--set", "=".join(change))]
    vmonf.succeed("fit", data, "-o", output, "-k", 2, "--columns", "x,y", "--quiet", *given)
    assert (tmp_path / "m-2.checkpoint").exists()  # belongs to the second start
    assert FlowMixture.load(output).get_params(deep=False) == {
        "n_components": 2,
        "max_components": 40,
        "flow": NSF(n_layers=3, hidden=(8, 4), mixing="lu", n_bins=5),
        "base": 2,
        "posterior": PosteriorMLP(hidden=(6,)),
        "weights": (0.25, 0.75),
        "objective": "marginal",
        "temperature": (4, 1.5),
        "temperature_epochs": 1,
        "init": "random",
        "n_init": 2,
        "max_epochs": 2,
        "max_seconds": 3600.0,
        "validation_fraction": 0.2,
        "training": Training(
            learning_rate=0.002,
            learning_rate_schedule="cosine",
            patience=None,
            pretrain_epochs=1,
            components_per_row=None,
            refine_posterior=False,
        ),
        "checkpoint": None,  # not saved with the model
        "bounds": {"x": (-100, None)},
        "periodic": {"y": 50},
        "missing": "refuse",  # with a period it can be nothing else
        "precision": "single",
        "device": "cpu",
        "random_state": 7,
        "warm_start": False,
        "verbose": 0,
    }


def test_defaults_are_those_of_the_library():
    options = inspect.signature(fit).parameters
    library = inspect.signature(FlowMixture).parameters
    for name, option in OPTIONS.items():
        if name in ("n_components", "random_state", "verbose"):
            continue
        argument = option.removeprefix("--").replace("-", "_")
        assert options[argument].default == library[name].default, name


def test_help_names_every_family_and_start(vmonf):
    from vmonf.flows import FAMILIES
    from vmonf.start import STARTS

    shown = vmonf.succeed("fit", "--help").stdout
    for name in (*FAMILIES, *STARTS):
        assert name in shown, name


def test_the_choice_of_the_start_is_told(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    options = ("-k", 2, "--columns", "x,y", "--init", "auto", "--max-epochs", 0)
    told = vmonf.succeed("fit", data, "-o", output, *options).stdout
    start = FlowMixture.load(output).start_
    assert str(start) in told
    shown = json.loads(vmonf.succeed("info", output, "--json").stdout)["start"]
    assert (shown["summary"], shown["chosen"]) == (str(start), start.chosen)
    assert shown["agreement_of_peaks"]["peaks"] == 1
    assert f"peaks {start.table[0][3]:.6g}" in vmonf.succeed("info", output).stdout


def test_the_choice_of_the_number_is_told(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    options = ("-k", "auto", "--columns", "x,y", "--max-epochs", 0, "--set", "max_components=4")
    told = vmonf.succeed("fit", data, "-o", output, *options).stdout
    number = FlowMixture.load(output).number_
    assert str(number) in told.replace("\n", " ")
    shown = json.loads(vmonf.succeed("info", output, "--json").stdout)["number"]
    assert shown["chosen"] == number.chosen
    assert shown["with_2_components"]["agreement"] == number.agreement[0]
    assert f"agreement {number.agreement[0]:.6g}" in vmonf.succeed("info", output).stdout


def test_an_existing_model_is_replaced(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    output.write_text("not a model")
    vmonf.succeed("fit", data, "-o", output, "-k", 1, "--columns", "x,y", *vmonf.quick)
    assert FlowMixture.load(output).n_components == 1
    assert list(tmp_path.iterdir()) == [output]


def test_interruption_keeps_the_best_model_so_far(vmonf, data, tmp_path, monkeypatch):
    from vmonf.training import TrainingLoop

    whole_epoch = TrainingLoop._epoch

    def interrupted_epoch(self, epoch, *rest):
        if epoch == 3:
            raise KeyboardInterrupt
        return whole_epoch(self, epoch, *rest)

    monkeypatch.setattr(TrainingLoop, "_epoch", interrupted_epoch)
    output = tmp_path / "m.vmonf"
    result = vmonf.succeed(
        "fit",
        data,
        "-o",
        output,
        "-k",
        2,
        "--columns",
        "x,y",
        "--set",
        "flow__hidden=8,",
        "--quiet",
    )
    assert result.stderr == ("Warning: Training was interrupted; the best model so far is kept.\n")
    assert FlowMixture.load(output).n_epochs_ == 2


@pytest.mark.usefixtures("left_alone")
def test_interruption_before_training_writes_nothing(vmonf, data, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("vmonf.estimator.FlowMixture.fit", interrupted)
    result = vmonf.run("fit", data, "-o", tmp_path / "m", "-k", 2, "--columns", "x,y")
    assert result.exit_code == 130
    assert result.stderr == "Stopped: no unfinished file was left.\n"


@pytest.mark.usefixtures("left_alone")
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--flow", "glow"], "--flow: flow='glow' is not known: choose one of realnvp"),
        (["--init", "best"], "--init: init='best' is not known"),
        (["--components", "0"], "--components: n_components=0 must be a whole number"),
        (["--components", "two"], "--components: n_components='two' must be a whole number, or"),
        (["--set", "max_components=0"], "--set: max_components=0 must be a whole number"),
        (["--set", "flow__hidden=16,wide"], "--set: flow__hidden='16,wide' must be a sequence"),
        (["--set", "temperature=hot"], "--set: temperature='hot' must be a number or a pair"),
        (["--set", "temperature=3,2,1"], "a number or a pair"),
        (["--set", "flow__n_layers=-1"], "flow__n_layers=-1 must be a whole number of at least 0"),
        (["--set", "flow__n_bins=3"], "flow__n_bins is not a parameter of RealNVP"),
        (
            ["--set", "training__learning_rate=0"],
            "learning_rate=0 must be a number above",
        ),
        (["--set", "learning_rate=0.1"], "learning_rate is not a parameter of FlowMixture"),
        (["--set", "temperature"], "'temperature' is not NAME=VALUE"),
        (["--set", "n_components=3"], "n_components is set by --components"),
        (["--epochs", "3"], "No such option"),
    ],
)
def test_bad_usage(vmonf, data, tmp_path, options, fault):
    result = vmonf.run(
        "fit", data, "-o", tmp_path / "m.vmonf", "-k", 2, "--columns", "x,y", *options
    )
    assert result.exit_code == 2
    assert result.stdout == ""
    assert fault in " ".join(result.stderr.split())


def test_the_table_is_not_replaced_by_the_model(vmonf, data, tmp_path):
    before = data.read_bytes()
    for output, fault in ((data, "is read, and would be replaced"), ("m.csv", "of a table")):
        message = vmonf.fail("fit", data, "-o", tmp_path / output, "--components", 2)
        assert fault in message
    assert data.read_bytes() == before
    assert not (tmp_path / "m.csv").exists()


def test_a_cell_of_text_in_a_later_row_is_named(vmonf, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("x,y\n" + "".join(f"{i},{'oops' if i == 149 else i}\n" for i in range(300)))
    message = vmonf.fail("fit", path, "-o", tmp_path / "m.vmonf", "--components", 2)
    assert "row 150 holds 'oops'" in message


@pytest.mark.usefixtures("left_alone")
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ([], "The column 'id' is not numeric"),
        (["--columns", "x,z"], "The table has no column 'z'"),
        (["--columns", "x", "--exclude", "idd"], "did you mean 'id'?"),
        (["--columns", "x", "--label", "y"], "must be whole numbers or text"),
        (["--columns", "x", "--weight", "kind"], "'kind' is not numeric"),
        (["--columns", "x", "--components", "1000"], "n_components=1000 is more than the"),
        (["--columns", "x", "--weights", "0.5,0.6"], "sum to one"),
    ],
)
def test_failures_are_one_sentence(vmonf, data, tmp_path, options, fault):
    options = options if "--components" in options else ["--components", 2, *options]
    assert fault in vmonf.fail("fit", data, "-o", tmp_path / "m.vmonf", "--quiet", *options)


def test_an_empty_cell_is_named(vmonf, tmp_path):
    (tmp_path / "gap.csv").write_text("x,y\n1,2\n3,\n5,6\n")
    message = vmonf.fail("fit", tmp_path / "gap.csv", "-o", tmp_path / "m", "-k", 1)
    assert "column 'y', row 2 is empty" in message


@pytest.mark.parametrize(
    ("output", "fault"),
    [("", "is a folder"), ("missing/m.vmonf", "does not exist")],
)
def test_the_output_is_checked_before_the_data(vmonf, tmp_path, output, fault):
    message = vmonf.fail("fit", tmp_path / "no.csv", "-o", tmp_path / output, "-k", 2)
    assert fault in message
    assert "no.csv" not in message


@pytest.mark.usefixtures("left_alone")
def test_a_full_disk_leaves_nothing(vmonf, data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    message = vmonf.fail(
        "fit", data, "-o", tmp_path / "m", "-k", 1, "--columns", "x,y", *vmonf.quick
    )
    assert "No space left on device" in message


@pytest.mark.long
def test_components_without_rows_are_dropped(vmonf, data, tmp_path):
    quick = [argument for argument in vmonf.quick if argument != "--quiet"]
    arguments = ("fit", data, "-k", 4, "--columns", "x,y", *quick)
    whole, some = tmp_path / "whole.vmonf", tmp_path / "some.vmonf"
    vmonf.succeed(*arguments, "-o", whole)
    mixture = FlowMixture.load(whole)
    result = vmonf.succeed(*arguments, "-o", some, "--drop-unused", 0.9)
    reduced = FlowMixture.load(some)
    assert reduced.n_components_ == 1
    left = [str(c) for c in mixture.classes_ if c not in reduced.classes_]
    assert f"left out, with less than 90.00% of the rows: {', '.join(left)}." in result.stdout
    result = vmonf.succeed(*arguments, "-o", some, "--drop-unused", 0.9, "--json")
    values = json.loads(result.stdout)
    assert values["components"] == 1
    assert list(map(str, values["dropped"])) == left
    result = vmonf.succeed(*arguments, "-o", some, "--drop-unused", 0)
    assert "of the rows: none." in result.stdout
    assert FlowMixture.load(some).n_components_ == 4
    result = vmonf.run("fit", data, "-o", some, "-k", 2, "--drop-unused", 1)
    assert result.exit_code == 2
    assert "--drop-unused: 1 must be a share" in " ".join(result.stderr.split())


def test_sigterm_saves_the_checkpoint_and_exits_with_143(vmonf, data, tmp_path, monkeypatch):
    from vmonf.training import TrainingLoop

    whole = TrainingLoop._epoch
    before = signal.getsignal(signal.SIGTERM)

    def terminated(self, epoch, began):
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, epoch, began)

    out, state = tmp_path / "m.vmonf", tmp_path / "m.checkpoint"
    options = ("-k", 2, "--columns", "x,y", "--init", "kmeans", *vmonf.quick, "--max-epochs", 4)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLoop, "_epoch", terminated)
        result = vmonf.run("fit", data, "-o", out, *options, "--checkpoint", state)
    assert result.exit_code == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.checkpoint"]
    assert signal.getsignal(signal.SIGTERM) == before
    seen = []

    def watched(self, epoch, began):
        seen.append(epoch)
        return whole(self, epoch, began)

    monkeypatch.setattr(TrainingLoop, "_epoch", watched)
    vmonf.succeed("fit", data, "-o", out, *options, "--checkpoint", state)
    assert seen == [3, 4]
