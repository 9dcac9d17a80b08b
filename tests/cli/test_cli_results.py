"""Tests of `predict`, `score` and `sample`: columns, their order, and formats."""

import io
import json

import numpy as np
import polars
import pytest
from polars.testing import assert_frame_equal

from vmonf import FlowMixture
from vmonf.data import read_table


@pytest.fixture
def mixture(labelled_model):
    return FlowMixture.load(labelled_model)


@pytest.fixture
def rows(table):
    return table.select("x", "y")


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_predict_keeps_ids_and_the_order(
    vmonf, data, table, labelled_model, mixture, rows, tmp_path, ending
):
    output = tmp_path / f"out.{ending}"
    vmonf.succeed("predict", labelled_model, data, "-o", output)
    found = read_table(output)
    assert found.columns == ["id", "kind", "truth", "often", "cluster", "probability"]
    assert_frame_equal(
        found.drop("cluster", "probability"), table.select("id", "kind", "truth", "often")
    )
    assert found["cluster"].to_list() == mixture.predict(rows).tolist()
    probability = mixture.predict_proba(rows).max(axis=1)
    np.testing.assert_allclose(found["probability"], probability)


def test_features_are_found_by_name(vmonf, table, model, tmp_path):
    """The order of the features in the table and other columns do not matter."""
    table.select("y", "id", "x").write_parquet(tmp_path / "other.parquet")
    table.write_parquet(tmp_path / "same.parquet")
    for name in ("other", "same"):
        vmonf.succeed("score", model, tmp_path / f"{name}.parquet", "-o", tmp_path / f"{name}.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "other.npy"), np.load(tmp_path / "same.npy"))


def test_columns_of_other_names_can_be_chosen(vmonf, table, model, rows, tmp_path):
    renamed = table.rename({"x": "a, b", "y": "c"})
    renamed.write_csv(tmp_path / "renamed.csv")
    output = tmp_path / "out.csv"
    columns = ("--columns", "a, b", "--columns", "c")
    vmonf.succeed("score", model, tmp_path / "renamed.csv", "-o", output, *columns)
    found = read_table(output)
    assert found.columns == ["id", "kind", "truth", "often", "log_prob"]
    np.testing.assert_allclose(found["log_prob"], FlowMixture.load(model).score_samples(rows))


def test_npy_has_no_names_so_columns_go_by_place(vmonf, shared, model, rows, tmp_path):
    vmonf.succeed("score", model, shared / "table.npy", "-o", tmp_path / "out.npy")
    expected = FlowMixture.load(model).score_samples(rows)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), expected)


def test_a_model_without_names_takes_all_columns(vmonf, data, rows, tmp_path):
    path = tmp_path / "unnamed.vmonf"
    FlowMixture(2, max_epochs=0, random_state=0).fit(rows.to_numpy()).save(path)
    rows.write_csv(tmp_path / "rows.csv")
    assert len(read_csv(vmonf.succeed("score", path, tmp_path / "rows.csv"))) == len(rows)
    assert "The model has 2 features and the table offers 6 columns" in vmonf.fail(
        "score", path, data
    )
    chosen = ("--exclude", "id,kind", "--exclude", "truth,often")
    assert len(read_csv(vmonf.succeed("score", path, data, *chosen))) == len(rows)
    assert read_csv(vmonf.succeed("sample", path, "-n", 3)).columns == ["0", "1", "component"]


def read_csv(result):
    return polars.read_csv(io.StringIO(result.stdout))


def test_without_output_csv_is_printed(vmonf, data, model, table):
    result = vmonf.succeed("predict", model, data, "--exclude", "kind,often")
    found = read_csv(result)
    assert result.stderr == ""
    assert found.columns == ["id", "truth", "cluster", "probability"]
    assert_frame_equal(found.select("id", "truth"), table.select("id", "truth"))


def test_predict_options(vmonf, data, labelled_model, mixture, rows):
    result = vmonf.succeed(
        *("predict", labelled_model, data, "--method", "exact"),
        *("--probabilities", "--keep-features"),
    )
    found = read_csv(result)
    assert found.columns[:6] == ["id", "x", "kind", "y", "truth", "often"]
    assert found.columns[6:] == ["cluster", "probability", "p(high)", "p(low)"]
    np.testing.assert_allclose(
        found.select("p(high)", "p(low)").to_numpy(), mixture.predict_proba(rows, "exact")
    )
    assert found["cluster"].to_list() == mixture.predict(rows, "exact").tolist()


def test_predict_to_npy_is_what_the_library_returns(vmonf, data, model, rows, tmp_path):
    mixture = FlowMixture.load(model)
    vmonf.succeed("predict", model, data, "-o", tmp_path / "clusters.npy")
    clusters = np.load(tmp_path / "clusters.npy")
    assert clusters.dtype == np.int64
    np.testing.assert_array_equal(clusters, mixture.predict(rows))
    vmonf.succeed("predict", model, data, "-o", tmp_path / "p.npy", "--probabilities")
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), mixture.predict_proba(rows))


@pytest.mark.usefixtures("left_alone")
def test_text_does_not_fit_into_npy(vmonf, data, labelled_model, tmp_path):
    message = vmonf.fail("predict", labelled_model, data, "-o", tmp_path / "clusters.npy")
    assert "'cluster' is not numeric" in message


def test_a_column_of_the_results_name_is_refused(vmonf, table, model, tmp_path):
    path = tmp_path / "again.csv"
    table.with_columns(polars.lit(3).alias("cluster")).write_csv(path)
    message = vmonf.fail("predict", model, path)
    assert "'cluster' is already in the table: leave it out with --exclude cluster." in message
    vmonf.succeed("predict", model, path, "--exclude", "cluster")


def test_score_adds_columns(vmonf, data, labelled_model, mixture, rows):
    result = vmonf.succeed("score", labelled_model, data, "--components", "--elbo")
    found = read_csv(result)
    new = ["log_prob", "log_prob(high)", "log_prob(low)", "elbo", "gap"]
    assert found.columns == ["id", "kind", "truth", "often", *new]
    expected = np.column_stack(
        [
            mixture.score_samples(rows),
            mixture.component_log_prob(rows),
            mixture.elbo(rows),
            mixture.gap(rows),
        ]
    )
    np.testing.assert_allclose(found.select(new).to_numpy(), expected)
    assert f"Mean log-likelihood: {mixture.score(rows):.4f} nats per row" in result.stderr
    assert vmonf.succeed("score", labelled_model, data, "--quiet").stderr == ""


def test_json_says_what_was_found(vmonf, data, labelled_model, mixture, rows, tmp_path):
    output = tmp_path / "out.csv"
    result = vmonf.succeed("score", labelled_model, data, "--json", "--elbo", "-o", output)
    values = json.loads(result.stdout)
    assert result.stderr == ""
    assert output.exists()
    assert values["path"] == str(output)
    assert values["mean_log_likelihood"] == pytest.approx(mixture.score(rows))
    assert values["mean_elbo"] == pytest.approx(mixture.elbo(rows).mean())
    values = json.loads(vmonf.succeed("predict", labelled_model, data, "--json").stdout)
    assert values["path"] is None
    names, counts = np.unique(mixture.predict(rows), return_counts=True)
    assert values["clusters"] == dict(zip(names.tolist(), counts.tolist(), strict=True))
    output = tmp_path / "new.csv"
    values = json.loads(
        vmonf.succeed("sample", labelled_model, "-n", 4, "-o", output, "--json").stdout
    )
    assert values == {"path": str(output), "rows": 4, "component": None}


def test_sample(vmonf, labelled_model, mixture, tmp_path):
    expected, component = mixture.sample(20, random_state=3)
    output = tmp_path / "new.parquet"
    vmonf.succeed("sample", labelled_model, "-n", 20, "-o", output, "--seed", 3)
    found = read_table(output)
    assert found.columns == ["x", "y", "component"]
    np.testing.assert_array_equal(found.select("x", "y").to_numpy(), expected)
    assert found["component"].to_list() == component.tolist()
    vmonf.succeed("sample", labelled_model, "-n", 20, "-o", tmp_path / "n.npy", "--seed", 3)
    np.testing.assert_array_equal(np.load(tmp_path / "n.npy"), expected)


def test_sample_of_one_component(vmonf, model, labelled_model):
    found = read_csv(vmonf.succeed("sample", labelled_model, "-n", 5, "--component", "low"))
    assert found["component"].to_list() == ["low"] * 5
    found = read_csv(vmonf.succeed("sample", model, "-n", 5, "--component", 1))
    assert found["component"].to_list() == [1] * 5
    message = vmonf.fail("sample", labelled_model, "-n", 5, "--component", "middle")
    assert "'middle' is not one of high, low" in message


@pytest.mark.parametrize("verb", ["predict", "score"])
def test_failures_are_one_sentence(vmonf, shared, data, model, tmp_path, verb):
    assert "no model file" in vmonf.fail(verb, tmp_path / "none.vmonf", data)
    assert "is not a model file" in vmonf.fail(verb, data, data)
    assert "'none.csv' does not exist" in vmonf.fail(verb, model, "none.csv")
    assert "is not that of a known format" in vmonf.fail(
        verb, model, data, "-o", tmp_path / "out.xlsx"
    )
    assert "no column 'frog'" in vmonf.fail(verb, model, data, "--exclude", "frog")
    assert "the table offers 1 columns" in vmonf.fail(verb, model, data, "--columns", "x")
    (tmp_path / "half.csv").write_text("x,yy\n1,2\n")
    assert "no column 'y' (did you mean 'yy'?)" in vmonf.fail(verb, model, tmp_path / "half.csv")
    (tmp_path / "nan.csv").write_text("x,y\n1,NaN\n")
    assert "column 'y', row 1 is NaN" in vmonf.fail(verb, model, tmp_path / "nan.csv")


@pytest.mark.usefixtures("left_alone")
def test_a_full_disk_leaves_nothing(vmonf, data, model, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    for arguments in (("predict", model, data), ("score", model, data), ("sample", model)):
        message = vmonf.fail(*arguments, "-o", tmp_path / "out.parquet")
        assert "No space left on device" in message


def test_bad_usage(vmonf, model, data):
    assert vmonf.run("predict", model).exit_code == 2
    assert vmonf.run("predict", model, data, "--method", "guess").exit_code == 2
    assert vmonf.run("sample", model, "-n", 0).exit_code == 2


@pytest.mark.parametrize(
    ("words", "columns"),
    [
        (("predict", "model", "data"), {"cluster", "probability"}),
        (("score", "model", "data"), {"log_prob"}),
        (("sample", "model", "-n", 4), {"component"}),
    ],
)
def test_json_without_an_output_holds_the_table(vmonf, model, data, words, columns):
    places = {"model": model, "data": data}
    result = vmonf.succeed(*(places.get(word, word) for word in words), "--json")
    table = json.loads(result.stdout)["table"]
    assert columns <= set(table)
    assert len({len(values) for values in table.values()}) == 1
