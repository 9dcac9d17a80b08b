import inspect
import json
from types import SimpleNamespace

import numpy as np
import polars
import pytest

from vmonf import FlowMixture
from vmonf.cli.fit import OPTION_OF_PARAMETER, describe_training, fit


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
        2, hidden=(16,), posterior_hidden=(16,), max_epochs=3, random_state=0
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
    """A table with weights and one with rows repeated as often give the same start."""
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


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ({"n_epochs_": 0}, "too few rows or epochs"),
        ({"best_epoch_": 0}, "no better than chance on the held-out rows (difference 0.5000 nats"),
        ({"validation_fraction": 0}, "no rows held out"),
        ({}, "Held-out log-likelihood: -2.0000 nats per row"),
        ({}, "Gain over a Gaussian mixture: 0.5000 nats per row (standard error 0.1000)"),
        ({}, "Kept epoch 2 of 3, still improving"),
        ({"converged_": True}, "Kept epoch 2 of 3."),
    ],
)
def test_what_training_came_to(results, words):
    found = {
        "n_epochs_": 3,
        "best_epoch_": 2,
        "validation_fraction": 0.1,
        "converged_": False,
        "held_out_log_likelihood_": -2.0,
        "gain_": 0.5,
        "gain_error_": 0.1,
    }
    assert words in describe_training(SimpleNamespace(**(found | results)))


def test_summary_and_bar(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    result = vmonf.succeed(
        *("fit", data, "-o", output, "-k", 2, "--columns", "x,y", "--label", "kind"),
        *("--max-epochs", 2, "--hidden", 8),
    )
    assert "Fitted 2 components to 120 rows of 2 features" in result.stdout
    assert "40 of 120 rows had a label in column 'kind'." in result.stdout
    assert f"Wrote {output}." in result.stdout
    assert "Training" in result.stderr
    assert FlowMixture.load(output).verbose == 0


def test_every_option_reaches_its_parameter(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    given = {
        "flow": "nsf",
        "layers": 3,
        "hidden": "8,4",
        "bins": 5,
        "mixing": "lu",
        "posterior-hidden": "6",
        "weights": "0.25,0.75",
        "components-per-row": "all",
        "objective": "marginal",
        "temperature": "4,1.5",
        "temperature-epochs": 1,
        "init": "random",
        "restarts": 2,
        "pretrain-epochs": 1,
        "learning-rate": 0.002,
        "learning-rate-schedule": "cosine",
        "weight-decay": 0.01,
        "gradient-clip": 2.5,
        "averaging": 0.5,
        "batch-size": 50,
        "max-epochs": 2,
        "validation-fraction": 0.2,
        "patience": 0,
        "device": "cpu",
        "seed": 7,
    }
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    options += ["--no-refine-posterior", "--checkpoint", tmp_path / "m.checkpoint"]
    vmonf.succeed("fit", data, "-o", output, "-k", 2, "--columns", "x,y", "--quiet", *options)
    assert (tmp_path / "m-2.checkpoint").exists()  # of the second start
    settings = FlowMixture.load(output).get_params()
    assert settings.pop("n_components") == 2
    assert settings.pop("verbose") == 0
    expected = given | {
        "hidden": (8, 4),
        "posterior-hidden": (6,),
        "weights": (0.25, 0.75),
        "temperature": (4.0, 1.5),
        "patience": None,
        "components-per-row": None,
        "refine-posterior": False,
        "checkpoint": None,  # no property of the model
    }
    for parameter, value in settings.items():
        option = OPTION_OF_PARAMETER.get(parameter, parameter).replace("_", "-")
        assert value == expected.pop(option), parameter
    assert not expected


def test_defaults_are_those_of_the_library():
    options = inspect.signature(fit).parameters
    for name, parameter in inspect.signature(FlowMixture).parameters.items():
        if name in ("n_components", "random_state", "verbose"):
            continue
        default = options[OPTION_OF_PARAMETER.get(name, name)].default
        expected = parameter.default
        if isinstance(default, str) and not isinstance(expected, str):
            expected = np.atleast_1d(expected)
            default = [float(part) for part in default.split(",")]
        message = f"The default of {name} in FlowMixture and in vmonf.cli.fit differ."
        np.testing.assert_array_equal(default, expected, err_msg=message)


def test_choices_are_those_of_the_library():
    options = inspect.signature(fit, eval_str=True).parameters
    constraints = FlowMixture._parameter_constraints
    for name in ("flow", "mixing", "objective", "init", "learning_rate_schedule"):
        literal = options[name].annotation.__origin__
        assert set(literal.__args__) == set(constraints[name][0].options), name


def test_an_existing_model_is_replaced(vmonf, data, tmp_path):
    output = tmp_path / "m.vmonf"
    output.write_text("not a model")
    vmonf.succeed("fit", data, "-o", output, "-k", 1, "--columns", "x,y", *vmonf.quick)
    assert FlowMixture.load(output).n_components == 1
    assert list(tmp_path.iterdir()) == [output]


def test_interruption_keeps_the_best_model_so_far(vmonf, data, tmp_path, monkeypatch):
    from vmonf.training.loop import Training

    whole_epoch = Training._epoch

    def interrupted_epoch(self, epoch, *rest):
        if epoch == 3:
            raise KeyboardInterrupt
        return whole_epoch(self, epoch, *rest)

    monkeypatch.setattr(Training, "_epoch", interrupted_epoch)
    output = tmp_path / "m.vmonf"
    result = vmonf.succeed(
        "fit", data, "-o", output, "-k", 2, "--columns", "x,y", "--hidden", 8, "--quiet"
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
        (["--flow", "glow"], "'glow' is not one of"),
        (["--hidden", "16,wide"], "'16,wide' is not whole numbers"),
        (["--temperature", "hot"], "'hot' is not numbers"),
        (["--layers", "-1"], "--layers: It must be an int in the range [0, inf). Got -1"),
        (["--learning-rate", "0"], "--learning-rate: It must be a float in the range"),
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


@pytest.mark.usefixtures("left_alone")
@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ([], "The column 'id' is not numeric"),
        (["--columns", "x,z"], "The table has no column 'z'"),
        (["--columns", "x", "--exclude", "idd"], "did you mean 'id'?"),
        (["--columns", "x", "--label", "y"], "must be whole numbers or text"),
        (["--columns", "x", "--weight", "kind"], "'kind' is not numeric"),
        (["--columns", "x", "--components", "1000"], "at least as many distinct rows"),
        (["--columns", "x", "--weights", "0.5,0.6"], "sum to one"),
        (["--columns", "x", "--temperature", "3,2,1"], "a number or a pair"),
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
