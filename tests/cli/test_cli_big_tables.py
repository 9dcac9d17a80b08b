"""Tests of verbs that read Parquet files in parts."""

import json

import numpy as np
import polars as pl
import pytest

from vmonf import FlowMixture


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A folder of Parquet files with ids, and a model of their features."""
    folder = tmp_path_factory.mktemp("big")
    random = np.random.default_rng(0)
    c = random.integers(0, 2, 9000)
    x = random.standard_normal((9000, 2)) + 6 * c[:, None]
    frame = pl.DataFrame(
        {
            "id": np.arange(9000),
            "a": x[:, 0],
            "b": x[:, 1],
            "note": ["t"] * 9000,
            "y": np.where(np.arange(9000) % 10 == 0, c, -1),
        }
    )
    (folder / "data").mkdir()
    frame.slice(0, 2000).write_parquet(folder / "data" / "1.parquet")
    frame.slice(2000).write_parquet(folder / "data" / "2.parquet", row_group_size=500)
    mixture = FlowMixture(2, init="kmeans", max_epochs=1, random_state=0)
    mixture.fit(frame.select("a", "b").head(500)).save(folder / "model.vmonf")
    return folder, frame, mixture


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    """Parts so small that the table has several."""
    monkeypatch.setattr("vmonf.stream.SAMPLE_ROWS", 1000)
    monkeypatch.setattr("vmonf.data.source.VALUES_AT_ONCE", 2000)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy"])
def test_results_are_those_of_a_table_in_memory_in_its_order(ending, big, vmonf, tmp_path):
    folder, frame, mixture = big
    out = tmp_path / f"out{ending}"
    expected = mixture.score_samples(frame.select("a", "b"))
    vmonf.succeed("score", folder / "model.vmonf", folder / "data", "-o", out, "--id", "id,note")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    if ending == ".npy":
        np.testing.assert_allclose(np.load(out), expected, rtol=1e-9)
    else:
        found = pl.read_csv(out) if ending == ".csv" else pl.read_parquet(out)
        assert found.columns == ["id", "note", "log_prob"]
        assert found["id"].to_list() == list(range(9000))
        np.testing.assert_allclose(found["log_prob"].to_numpy(), expected, rtol=1e-9)
    vmonf.succeed("predict", folder / "model.vmonf", f"{folder}/data/*.parquet", "-o", out)
    clusters = mixture.predict(frame.select("a", "b"))
    if ending == ".npy":
        np.testing.assert_array_equal(np.load(out), clusters)
    else:
        found = pl.read_csv(out) if ending == ".csv" else pl.read_parquet(out)
        assert found.columns == ["id", "note", "y", "cluster", "probability"]
        np.testing.assert_array_equal(found["cluster"].to_numpy(), clusters)


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".npy"])
def test_a_fault_far_into_the_table_leaves_no_file(ending, big, vmonf, tmp_path):
    folder, frame, _ = big
    a = frame["a"].to_numpy().copy()
    a[8123] = np.nan
    frame.with_columns(a=a).write_parquet(tmp_path / "bad.parquet")
    (tmp_path / "out").mkdir()
    out = tmp_path / "out" / f"out{ending}"
    said = vmonf.fail("score", folder / "model.vmonf", tmp_path / "bad.parquet", "-o", out)
    assert "row 8124 is NaN" in said
    assert list(out.parent.iterdir()) == []


def test_a_folder_is_fitted_and_evaluated_in_parts(big, vmonf, tmp_path):
    folder, frame, _ = big
    model = tmp_path / "model.vmonf"
    options = ["-k", "2", "--init", "kmeans", "--max-epochs", "2", "--columns", "b,a"]
    options += ["--label", "y", "--set", "training__epoch_rows=1000", "--json"]
    fitted = json.loads(vmonf.succeed("fit", folder / "data", "-o", model, *options).stdout)
    assert fitted["rows"] == 9000
    assert fitted["labelled_rows"] == 900
    assert fitted["features"] == ["b", "a"]
    assert fitted["epochs"] == 2
    mixture = FlowMixture.load(model)
    found = vmonf.succeed("evaluate", model, folder / "data", "--label", "y", "--json")
    found = json.loads(found.stdout)
    assert found["rows"] == 9000
    assert found["sampled_rows"] == 1000
    assert 50 < found["labelled_rows"] < 150
    assert found["log_likelihood"] == pytest.approx(mixture.score(frame.select("b", "a")))
    assert found["posterior"]["accuracy"] > 0.99
    assert "drawn at random" in vmonf.succeed("evaluate", model, folder / "data").stdout
