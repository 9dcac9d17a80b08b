"""Tests of missing="marginal": rows with gaps in fits and scores."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars
import pytest
from scipy.special import logsumexp
from sklearn.metrics import adjusted_rand_score
from typer.testing import CliRunner

from vmonf import FlowMixture, RealNVP
from vmonf.cli import app
from vmonf.parameters import ParameterError
from vmonf.plots import plot

SMALL = RealNVP(n_layers=2, hidden=(8,))


def table(n_rows=400, share=0.2, seed=0, n_features=3):
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, n_rows)
    X = random.normal(size=(n_rows, n_features))
    X[:, 1] += np.square(X[:, 0])
    X += 6 * y[:, None]
    whole = X.copy()
    X[random.random(X.shape) < share] = np.nan
    return X, whole, y


def fitted(kept, **parameters):
    X, _, _ = table()
    given = {"random_state": 0, "missing": "marginal", "flow": SMALL}
    if kept == "flows":  # without held-out rows the last epoch is kept
        given |= {"max_epochs": 5, "validation_fraction": 0.0}
    else:
        given |= {"max_epochs": 0}
    return FlowMixture(2, **given | parameters).fit(X)


@pytest.fixture(scope="module", params=["flows", "gaussian mixture"])
def mixture(request):
    found = fitted(request.param)
    assert found.verdict_.kept == request.param
    return found


def integral(mixture, row, column):
    """Log density of a row without a column, by quadrature over it."""
    grid = np.linspace(-15, 60, 15_001)
    rows = np.repeat(np.asarray(row, float)[None], len(grid), axis=0)
    rows[:, column] = grid
    return logsumexp(mixture.score_samples(rows)) + np.log(grid[1] - grid[0])


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.long
def test_the_score_of_a_row_with_a_gap_is_the_integral_over_the_gap(mixture, column):
    _, whole, _ = table(seed=1)
    rows = whole[:6].copy()
    rows[:, column] = np.nan
    found, error = mixture.score_samples(rows), mixture.score_samples_error(rows)
    expected = [integral(mixture, row, column) for row in whole[:6]]
    is_exact = mixture.verdict_.kept == "gaussian mixture"
    assert error.max() < (1e-3 if is_exact else 0.3)
    assert np.abs(found - expected).max() < (1e-3 if is_exact else 4 * error.max() + 0.01)


def test_all_results_of_a_row_with_gaps_agree(mixture):
    X, _, _ = table(seed=2)
    rows = X[:50]
    log_prob = mixture.score_samples(rows)
    joint = mixture.component_log_prob(rows) + np.log(mixture.weights_)
    assert logsumexp(joint, axis=1) == pytest.approx(log_prob, abs=1e-9)
    responsibilities = mixture.predict_proba(rows, "exact")
    assert responsibilities == pytest.approx(np.exp(joint - log_prob[:, None]), abs=1e-9)
    assert mixture.predict_proba(rows).sum(axis=1) == pytest.approx(1)
    assert mixture.elbo(rows) + mixture.gap(rows) == pytest.approx(log_prob, abs=1e-6)
    assert (mixture.predict(rows) == mixture.predict_proba(rows).argmax(axis=1)).all()
    alone = [mixture.score_samples(row[None])[0] for row in rows]
    assert log_prob == pytest.approx(alone, abs=1e-9)


def test_whole_rows_score_as_ever_and_have_no_error(mixture):
    _, whole, _ = table(seed=3)
    X = np.concatenate([whole[:20], np.full((1, 3), np.nan)])
    log_prob, error = mixture.score_samples(X), mixture.score_samples_error(X)
    assert log_prob[:20] == pytest.approx(mixture.score_samples(whole[:20]), abs=1e-12)
    assert (error[:20] == 0).all()
    assert log_prob[20] == pytest.approx(0, abs=0.3)  # nothing is known, and its probability is 1
    assert mixture.predict_proba(X[20:], "exact")[0] == pytest.approx(mixture.weights_, abs=0.1)


def test_clusters_of_rows_with_gaps_are_found():
    X, whole, y = table(share=0.3, n_rows=500)
    known = ~np.isnan(X).all(axis=1)
    found = FlowMixture(2, missing="marginal", max_epochs=0, random_state=0).fit(X)
    assert adjusted_rand_score(y[known], found.predict(X[known])) > 0.9
    assert adjusted_rand_score(y, found.predict(whole)) > 0.95


@pytest.mark.long
def test_values_that_are_missing_at_random_do_not_bias_the_density():
    """The second column is missing where the first is large; complete rows alone are biased."""
    random = np.random.default_rng(0)
    x = random.normal(size=2000)
    whole = np.column_stack([x, x + 0.5 * random.normal(size=2000)])
    X = whole.copy()
    X[(x > 0.5) & (random.random(2000) < 0.9), 1] = np.nan
    settings = {"max_epochs": 3, "random_state": 0, "flow": SMALL}
    mixture = FlowMixture(1, missing="marginal", **settings).fit(X)
    complete = FlowMixture(1, **settings).fit(X[~np.isnan(X).any(axis=1)])
    assert mixture.sample(20_000)[0].mean(axis=0) == pytest.approx(whole.mean(axis=0), abs=0.06)
    assert complete.sample(20_000)[0][:, 0].mean() < -0.2
    assert mixture.score(whole) > complete.score(whole) + 0.2


@pytest.mark.long
def test_a_fit_does_not_depend_on_the_order_of_the_rows_and_merges_equal_ones():
    X, _, _ = table(n_rows=150)
    known = X[~np.isnan(X).all(axis=1)]
    settings = {"missing": "marginal", "max_epochs": 2, "random_state": 0, "flow": SMALL}
    first = FlowMixture(2, **settings).fit(known)
    doubled = np.random.default_rng(0).permutation(np.concatenate([known, known]))
    second = FlowMixture(2, **settings).fit(doubled)
    assert (first.score_samples(X) == second.score_samples(X)).all()


def test_one_gap_in_a_table_is_enough():
    random = np.random.default_rng(0)
    X = random.normal(size=(200, 2)) + 6 * (np.arange(200) % 2)[:, None]
    settings = {"missing": "marginal", "max_epochs": 3, "random_state": 0, "flow": SMALL}
    whole = FlowMixture(2, **settings).fit(X)
    X[7, 1] = np.nan
    mixture = FlowMixture(2, **settings).fit(X)
    assert mixture.n_epochs_ > 0
    rest = np.delete(X, 7, axis=0)
    assert mixture.score(rest) == pytest.approx(whole.score(rest), abs=0.1)


def test_a_model_is_the_same_after_saving(mixture, tmp_path):
    X, _, _ = table(seed=4)
    mixture.save(tmp_path / "model.vmonf")
    loaded = FlowMixture.load(tmp_path / "model.vmonf")
    assert (loaded.score_samples(X) == mixture.score_samples(X)).all()
    assert (loaded.predict(X) == mixture.predict(X)).all()
    reduced = loaded.without_unused(X)
    assert np.isfinite(reduced.score_samples(X)).all()


@pytest.mark.long
def test_rows_may_have_gaps_later_although_those_of_the_fit_had_none():
    _, whole, _ = table()
    settings = {"max_epochs": 1, "random_state": 0, "flow": SMALL}
    mixture = FlowMixture(2, missing="marginal", **settings).fit(whole)
    usual = FlowMixture(2, **settings).fit(whole)
    assert mixture.score_samples(whole) == pytest.approx(usual.score_samples(whole), abs=1e-12)
    assert np.isfinite(mixture.score_samples([[np.nan, 1.0, 2.0]])).all()
    with pytest.raises(ValueError, match="fit with missing='marginal'"):
        usual.score_samples([[np.nan, 1.0, 2.0]])


def test_figures_leave_out_rows_with_gaps(mixture):
    X, _, y = table(seed=5, n_rows=60)
    with pytest.warns(UserWarning, match=f"{np.isnan(X).any(axis=1).sum()} of 60 rows"):
        plot(mixture, X, y, kind="pairs")
    with pytest.raises(ValueError, match="Every row has missing values"):
        plot(mixture, X[np.isnan(X).any(axis=1)])
    assert mixture.__sklearn_tags__().input_tags.allow_nan


def test_bounds_hold_for_what_is_filled():
    random = np.random.default_rng(0)
    X = np.column_stack([random.exponential(size=500), random.normal(size=500)])
    X[:, 1] += X[:, 0]
    fresh = X[:20].copy()
    X[random.random(X.shape) < 0.2] = np.nan
    mixture = FlowMixture(1, missing="marginal", bounds={0: (0, None)}, max_epochs=0).fit(X)
    assert mixture.sample(5000)[0][:, 0].min() >= 0
    rows = fresh.copy()
    rows[:, 1] = np.nan
    grid = np.linspace(-20, 40, 20_001)
    for row, found in zip(fresh[:5], mixture.score_samples(rows[:5]), strict=True):
        over = np.column_stack([np.full(len(grid), row[0]), grid])
        expected = logsumexp(mixture.score_samples(over)) + np.log(grid[1] - grid[0])
        assert found == pytest.approx(expected, abs=2e-3)
    assert mixture.score_samples([[-1.0, np.nan]])[0] == -np.inf


@pytest.mark.long
def test_labels_weights_and_tables_of_several_kinds_have_gaps():
    X, _, y = table(n_rows=200)
    weight = np.random.default_rng(0).random(200) + 0.5
    settings = {"missing": "marginal", "max_epochs": 1, "random_state": 0, "flow": SMALL}
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    labels = np.where(np.arange(200) < 20, np.where(y == 0, "low", "high"), "")
    first = FlowMixture(2, **settings).fit(frame, labels, weight)
    assert set(first.classes_) == {"low", "high"}
    same = polars.from_pandas(frame)
    assert first.score_samples(frame) == pytest.approx(first.score_samples(same))
    masked = np.ma.masked_invalid(X)
    second = FlowMixture(2, **settings).fit(masked, labels, weight)
    assert first.score_samples(frame) == pytest.approx(second.score_samples(X))


@pytest.mark.parametrize(
    ("parameters", "rows", "said"),
    [
        ({"periodic": {0: 24}}, None, "cannot be combined with periodic"),
        ({"missing": "drop"}, None, "choose"),
        ({}, np.full((30, 2), np.nan), "Every value is missing in column 0"),
        ({}, np.where(np.arange(60).reshape(30, 2) % 2, np.nan, 1.0), "missing in column 1"),
        ({}, np.where(np.eye(30, 2) > 0, np.inf, 1.0), "infinity"),
        ({}, np.ones((80, 65)), "at most 64 features"),
    ],
)
def test_what_cannot_be_done_is_said(parameters, rows, said):
    rows = table()[0] if rows is None else rows
    if rows.shape[1] == 65:
        rows = np.random.default_rng(0).normal(size=rows.shape)
    with pytest.raises((ParameterError, ValueError), match=said):
        FlowMixture(2, **{"missing": "marginal"} | parameters).fit(rows)


def test_a_table_that_is_read_in_parts_is_refused(tmp_path):
    polars.DataFrame({"a": [1.0, None, 2.0], "b": [1.0, 2.0, 4.0]}).write_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(ValueError, match="read in parts"):
        FlowMixture(1, missing="marginal").fit(str(tmp_path / "t.parquet"))


def test_the_command_line_fits_scores_and_predicts_rows_with_empty_cells(tmp_path):
    X, _, _ = table(n_rows=120)
    frame = polars.DataFrame(X, schema=["a", "b", "c"]).fill_nan(None)
    data, model, out = (tmp_path / name for name in ("t.csv", "m.vmonf", "out.csv"))
    frame.write_csv(data)

    def run(*arguments):
        return CliRunner().invoke(app, [str(each) for each in arguments])

    refused = run("fit", data, "-o", model, "-k", 2, "--max-epochs", 0)
    assert refused.exit_code == 1
    assert "--missing marginal" in refused.output
    done = run("fit", data, "-o", model, "-k", 2, "--max-epochs", 0, "--missing", "marginal")
    assert done.exit_code == 0, done.output
    assert run("score", model, data, "-o", out).exit_code == 0
    scored = polars.read_csv(out)["log_prob"].to_numpy()
    assert scored == pytest.approx(FlowMixture.load(model).score_samples(frame), abs=1e-9)
    assert run("predict", model, data, "-o", out).exit_code == 0
    assert len(polars.read_csv(out)) == 120
    plotted = run("plot", model, data, "-o", tmp_path / "p.png")
    assert plotted.exit_code == 0
    assert "rows have missing values and are not drawn" in plotted.output


@pytest.mark.long
def test_the_code_of_the_page_runs():
    page = (Path(__file__).parents[1] / "docs" / "missing-values.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    found = {}
    exec(code, found)
    assert np.isfinite(found["density"]).all()
    assert len(found["clusters"]) == 500
