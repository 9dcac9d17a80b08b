import json

import numpy as np
import polars
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import KFold
from sklearn.preprocessing import StandardScaler

from vmonf import FlowMixture
from vmonf.metrics import clustering_accuracy


def gaussian_mixture(fitted, scored, kind):
    scaler = StandardScaler().fit(fitted)
    mixture = GaussianMixture(2, covariance_type=kind, random_state=0)
    mixture.fit(scaler.transform(fitted))
    return mixture.score_samples(scaler.transform(scored)) - np.log(scaler.scale_).sum()


def test_numbers_are_those_of_scikit_learn(vmonf, data, table, model):
    result = vmonf.succeed("evaluate", model, data, "--label", "kind", "--json")
    values = json.loads(result.stdout)
    rows = table.select("x", "y")
    mixture = FlowMixture.load(model)
    assert values["rows"] == 120
    assert values["log_likelihood"] == pytest.approx(mixture.score(rows))
    assert values["elbo"] == pytest.approx(mixture.elbo(rows).mean())
    assert values["gap"] == pytest.approx(mixture.gap(rows).mean())

    known = table["kind"].is_not_null().to_numpy()
    labels = table["kind"].to_numpy()[known]
    assert values["labelled_rows"] == known.sum() == 40
    for method in ("posterior", "exact"):
        clusters = mixture.predict(rows, method)[known]
        found = values[method]
        assert found["accuracy"] == clustering_accuracy(labels, clusters)
        assert found["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters))
        assert found["ari"] == pytest.approx(adjusted_rand_score(labels, clusters))
        counts = contingency_matrix(labels, clusters).tolist()
        assert found["contingency"]["counts"] == counts
        assert found["contingency"]["labels"] == ["high", "low"]

    X = rows.to_numpy()
    assert values["gaussian_mixtures_fitted_to"] is None
    for kind, score in values["gaussian_mixtures"].items():
        folds = KFold(5, shuffle=True, random_state=0).split(X)
        expected = [gaussian_mixture(X[fitted], X[scored], kind) for fitted, scored in folds]
        assert score["log_likelihood"] == pytest.approx(np.concatenate(expected).mean())
        assert score["converged"]
        assert score["fault"] is None


def test_gaussian_mixtures_of_a_training_table(vmonf, table, model, tmp_path):
    train, test = table[:80], table[80:]
    train.write_csv(tmp_path / "train.csv")
    test.write_csv(tmp_path / "test.csv")
    arguments = (model, tmp_path / "test.csv", "--train", tmp_path / "train.csv")
    values = json.loads(vmonf.succeed("evaluate", *arguments, "--json").stdout)
    assert values["gaussian_mixtures_fitted_to"] == str(tmp_path / "train.csv")
    X, Z = (part.select("x", "y").to_numpy() for part in (train, test))
    for kind in ("full", "tied", "diag", "spherical"):
        found = values["gaussian_mixtures"][kind]["log_likelihood"]
        assert found == pytest.approx(gaussian_mixture(X, Z, kind).mean())
    assert "posterior" not in values


def test_shown_to_a_person(vmonf, data, table, model, tmp_path):
    shown = vmonf.succeed("evaluate", model, data, "--label", "truth").stdout
    for words in ("Gaussian mixture, spherical", "cross-validated on", "ELBO", "NMI", "ARI"):
        assert words in shown
    assert "exact" in shown
    assert any(line.split()[:1] == ["high"] for line in shown.splitlines())
    table[:80].write_csv(tmp_path / "train.csv")
    shown = vmonf.succeed("evaluate", model, data, "--train", tmp_path / "train.csv").stdout
    assert "fitted to" in shown
    assert "NMI" not in shown


def test_too_few_rows_for_a_gaussian_mixture(vmonf, model, tmp_path):
    (tmp_path / "two.csv").write_text("x,y\n0,1\n2,3\n")
    values = json.loads(vmonf.succeed("evaluate", model, tmp_path / "two.csv", "--json").stdout)
    assert values["gaussian_mixtures"]["full"]["log_likelihood"] is None
    assert values["gaussian_mixtures"]["full"]["fault"]
    assert "failed" in vmonf.succeed("evaluate", model, tmp_path / "two.csv").stdout
    (tmp_path / "one.csv").write_text("x,y\n0,1\n")
    assert "failed" in vmonf.succeed("evaluate", model, tmp_path / "one.csv").stdout


def test_failures_are_one_sentence(vmonf, data, model, tmp_path):
    assert "did you mean 'kind'?" in vmonf.fail("evaluate", model, data, "--label", "kinds")
    (tmp_path / "none.csv").write_text("x,y,kind\n0,1,\n2,3,\n")
    message = vmonf.fail("evaluate", model, tmp_path / "none.csv", "--label", "kind")
    assert message == "No row has a label in column 'kind': evaluate without --label."


def test_whole_rows_are_asked_for_even_if_the_model_takes_gaps(vmonf, table, tmp_path):
    path, model = tmp_path / "gaps.csv", tmp_path / "m.vmonf"
    y = polars.when(polars.int_range(polars.len()) == 7).then(None).otherwise(polars.col("y"))
    table.select("x", y.alias("y")).write_csv(path)
    gaps = ("--components", 2, "--missing", "marginal")
    vmonf.succeed("fit", path, "-o", model, *gaps, *vmonf.quick)
    assert vmonf.fail("evaluate", model, path).endswith(
        "or exclude their columns; this command takes whole rows."
    )
