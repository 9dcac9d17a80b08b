"""Tests of fits to tables that are read in parts."""

import numpy as np
import polars as pl
import pytest
import torch

from vmonf import FlowMixture, Training
from vmonf.data import TableError, open_source
from vmonf.rows import row_keys
from vmonf.stream import Stream, StreamedTable, survey
from vmonf.training.passes import Passes

QUICK = {"max_epochs": 2, "init": "kmeans", "base": 1, "random_state": 0}
SMALL = Training(epoch_rows=4000, batch_size=500, refine_posterior=False)


@pytest.fixture
def small(monkeypatch):
    """Parts so small that a quick test reads many: see each constant for what it is."""
    monkeypatch.setattr("vmonf.stream.SAMPLE_ROWS", 3000)
    monkeypatch.setattr("vmonf.data.source.STRETCH_ROWS", 100)
    monkeypatch.setattr("vmonf.stream.BUFFER_VALUES", 6000)


def curved(n_rows, seed=0):
    """Rows of three curved clusters, and the cluster of each."""
    random = np.random.default_rng(seed)
    cluster = random.integers(0, 3, n_rows)
    x = random.standard_normal((n_rows, 2))
    x[:, 1] += x[:, 0] ** 2
    return x + np.array([[-6.0, 0], [6, 0], [0, 9]])[cluster], cluster


def frame_of(x, **others):
    return pl.DataFrame({"a": x[:, 0], "b": x[:, 1], **others})


def table_of(x, label=None, weight=None, **others):
    return StreamedTable(open_source(frame_of(x, **others).lazy()), ["a", "b"], label, weight)


def stream_of(table, **settings):
    seen = survey(table, seed=0)
    codes = {label: code for code, label in enumerate(seen.labels)}
    mean = seen.moments.weight / seen.moments.n_rows
    return Stream(table, codes, seen.counts, mean, **settings)


def same_weights(one, two):
    pairs = zip(one.model_.state_dict().values(), two.model_.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


# ------------------------------------------------------------------ the look at all rows


def test_moments_are_those_of_the_whole(small):
    x, _ = curved(8000)
    x = x * [1, 1e-3] + [1e6, 0]
    weight = np.random.default_rng(1).integers(0, 3, 8000)
    seen = survey(table_of(x, weight="w", w=weight), seed=0)
    kept = weight > 0
    mean = np.average(x[kept], axis=0, weights=weight[kept])
    variance = np.average((x[kept] - mean) ** 2, axis=0, weights=weight[kept])
    assert not seen.is_whole
    assert seen.counts.sum() == kept.sum()
    np.testing.assert_allclose(seen.moments.origin + seen.moments.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(seen.moments.squares / seen.moments.weight, variance, rtol=1e-8)


def test_the_sample_is_uniform_and_depends_on_values_alone(small):
    x, cluster = curved(20_000)
    order = np.argsort(cluster, kind="stable")
    one, two = survey(table_of(x), seed=0), survey(table_of(x[order]), seed=0)
    assert len(one.x) == 3000
    assert set(map(tuple, one.x)) == set(map(tuple, two.x))
    place = {tuple(row): c for row, c in zip(x, cluster, strict=True)}
    share = np.bincount([place[tuple(row)] for row in one.x]) / 3000
    np.testing.assert_allclose(share, 1 / 3, atol=4 * np.sqrt(2 / 9 / 3000))
    other = survey(table_of(x), seed=1)
    assert 200 < len(set(map(tuple, one.x)) & set(map(tuple, other.x))) < 700  # 450 expected


def test_a_sampled_row_counts_with_all_its_equals(small):
    x = np.random.default_rng(0).integers(0, 100, (20_000, 2)).astype(float)
    seen = survey(table_of(x), seed=0)
    found, counts = np.unique(x, axis=0, return_counts=True)
    expected = dict(zip(map(tuple, found), counts, strict=True))
    counted = np.array([expected[tuple(row)] for row in seen.x])
    assert len(np.unique(seen.x, axis=0)) == len(seen.x) == 3000
    np.testing.assert_allclose(seen.weight, counted * (len(x) / counted.sum()))


def test_few_labels_are_all_in_the_sample(small):
    x, cluster = curved(20_000)
    label = [f"c{c}" if i % 1000 == 0 else None for i, c in enumerate(cluster)]
    seen = survey(table_of(x, label="y", y=label), seed=0)
    assert (seen.label >= 0).sum() == seen.n_labelled == 20
    assert sorted(seen.labels) == sorted({name for name in label if name})
    assert seen.weight.sum() == pytest.approx(20_000)
    assert seen.weight[seen.label >= 0].sum() == pytest.approx(20)


# ------------------------------------------------------------------ passes


def test_a_pass_has_every_row_once_but_those_held_out(small):
    x, cluster = curved(10_050)
    held_out = x[::7]
    stream = stream_of(table_of(x, "y", "w", y=cluster, w=np.arange(10_050) % 3))
    stream = stream.without(held_out, torch.device("cpu"))
    batches = list(stream.batches(100, torch.Generator().manual_seed(0)))
    assert len(batches) == stream.n_batches(100)
    assert max(batch.n_rows for batch in batches) < 130
    seen = torch.cat([batch.x for batch in batches]).numpy()
    expected = np.setdiff1d(np.flatnonzero(np.arange(10_050) % 3), np.arange(0, 10_050, 7))
    keys = row_keys(x[expected])
    place = dict(zip(keys.tolist(), expected, strict=True))
    rows = np.array([place[key] for key in row_keys(seen).tolist()])
    assert sorted(rows) == expected.tolist()
    component = torch.cat([batch.component for batch in batches]).numpy()
    codes = np.array([stream.component_of[int(c)] for c in cluster[rows]])
    np.testing.assert_array_equal(component, codes)
    weight = torch.cat([batch.weight for batch in batches]).numpy()
    np.testing.assert_allclose(weight, (rows % 3) / 1.5)


def test_ranks_share_a_pass(small):
    x, _ = curved(10_000)
    table = table_of(x)
    keys = [
        key
        for rank in range(3)
        for batch in stream_of(table).batches(50, torch.Generator().manual_seed(4), part=(rank, 3))
        for key in row_keys(batch.x.numpy()).tolist()
    ]
    assert sorted(keys) == sorted(row_keys(x).tolist())


@pytest.mark.parametrize("kind", ["stream", "memory"])
def test_a_pass_goes_on_from_its_place(kind, small):
    x, _ = curved(10_000)
    rows = stream_of(table_of(x))
    if kind == "memory":
        rows = next(iter(rows.batches(10_000, torch.Generator().manual_seed(0))))
    generator = torch.Generator().manual_seed(1)
    passes = Passes(rows, 100, generator)
    n = rows.n_batches(100)
    list(passes.take(n + n // 2))
    place, begun, state = passes.place, passes.begun, generator.get_state()
    expected = [batch.x for batch in passes.take(n)]

    other = Passes(rows, 100, torch.Generator())
    other.generator.set_state(state)
    other.go_to(place, begun)
    for one, two in zip(other.take(n), expected, strict=True):
        assert torch.equal(one.x, two)


# ------------------------------------------------------------------ fits


def test_the_same_rows_give_the_same_model_from_memory_and_from_files(small, tmp_path):
    x, _ = curved(6000)
    frame = frame_of(x)
    frame.slice(0, 1234).write_parquet(tmp_path / "1.parquet", row_group_size=77)
    frame.slice(1234).write_parquet(tmp_path / "2.parquet")
    mixture = FlowMixture(3, training=SMALL, **QUICK)
    of_files = mixture.fit(tmp_path)
    of_memory = FlowMixture(3, training=SMALL, **QUICK).fit(frame.lazy())
    assert same_weights(of_files, of_memory)
    assert of_files.history_["log_likelihood"] == of_memory.history_["log_likelihood"]
    assert of_files.n_epochs_ == 2
    np.testing.assert_array_equal(of_files.score_samples(tmp_path), of_memory.score_samples(frame))


def test_a_stream_knows_bounds_and_periods(small):
    x, _ = curved(8000)
    lowest = x[:, 1].min()
    domains = {"bounds": {"b": (lowest, None)}, "periodic": {"a": 30}}
    mixture = FlowMixture(3, **domains, **QUICK, training=SMALL).fit(frame_of(x).lazy())
    assert mixture.score_samples(frame_of(x[:1] * [1, 0] + [0, lowest - 1]))[0] == -np.inf
    np.testing.assert_allclose(
        mixture.score(frame_of(x + np.array([60, 0]))), mixture.score(frame_of(x))
    )
    assert mixture.sample(2000)[0][:, 1].min() >= lowest
    x[5] = [0, lowest - 3]
    with pytest.raises(ValueError, match="in column 'b', beyond its bounds"):
        FlowMixture(3, **domains, **QUICK, training=SMALL).fit(frame_of(x).lazy())


def test_few_distinct_rows_are_fitted_as_a_table_in_memory(small, tmp_path):
    x, cluster = curved(1000)
    x = np.concatenate([x] * 5)  # more rows than the sample has, but no more distinct ones
    y = np.where(np.arange(5000) % 1000 < 30, np.resize(cluster, 5000), -1)
    frame_of(x, y=y).write_parquet(tmp_path / "all.parquet")
    of_file = FlowMixture(3, **QUICK).fit(tmp_path / "all.parquet", "y")
    of_memory = FlowMixture(3, **QUICK).fit(frame_of(x), y)
    assert same_weights(of_file, of_memory)
    assert of_file.labelled_classes_.tolist() == [0, 1, 2]


@pytest.mark.long
def test_a_file_sorted_by_cluster_trains_as_well_as_a_shuffled_one(small, tmp_path):
    x, cluster = curved(12_000)
    fresh, _ = curved(4000, seed=1)
    settings = QUICK | {"max_epochs": 8, "training": SMALL}
    scores = {}
    for name, order in {"shuffled": slice(None), "sorted": np.argsort(cluster)}.items():
        frame_of(x[order]).write_parquet(tmp_path / "x.parquet")
        mixture = FlowMixture(3, **settings).fit(tmp_path / "x.parquet")
        assert mixture.verdict_.kept == "flows"
        scores[name] = mixture.score(frame_of(fresh))
    assert scores["sorted"] == pytest.approx(scores["shuffled"], abs=0.02)


@pytest.mark.long
def test_an_interrupted_fit_of_a_stream_goes_on_exactly(small, tmp_path, monkeypatch):
    monkeypatch.setattr("vmonf.checkpoint.INTERVAL", 0.0)
    x, _ = curved(6000)
    lazy = frame_of(x).lazy()
    training = Training(epoch_rows=1700, batch_size=100, refine_posterior=False)
    settings = QUICK | {"max_epochs": 5, "training": training}
    whole = FlowMixture(3, **settings).fit(lazy)
    settings["checkpoint"] = tmp_path / "state"

    def stop(mixture):
        if mixture.n_epochs_ == 2:
            raise OSError("stopped")

    with pytest.raises(OSError, match="stopped"):
        FlowMixture(3, **settings).fit(lazy, watchers=[stop])
    resumed = FlowMixture(3, **settings).fit(lazy)
    assert same_weights(whole, resumed)


@pytest.mark.long
def test_epochs_of_a_table_in_memory_may_be_parts_of_a_pass(tmp_path, monkeypatch):
    monkeypatch.setattr("vmonf.checkpoint.INTERVAL", 0.0)
    x, _ = curved(1000)
    settings = QUICK | {"max_epochs": 6, "training": Training(epoch_rows=333, batch_size=50)}
    whole = FlowMixture(3, **settings).fit(x)
    settings["checkpoint"] = tmp_path / "state"

    def stop(mixture):
        if mixture.n_epochs_ == 4:
            raise OSError("stopped")

    with pytest.raises(OSError, match="stopped"):
        FlowMixture(3, **settings).fit(x, watchers=[stop])
    assert same_weights(whole, FlowMixture(3, **settings).fit(x))
    assert whole.n_epochs_ == 6


def test_labels_and_weights_are_columns(small):
    x, cluster = curved(6000)
    names = np.array(["left", "right", "top"])[cluster]
    known = [name if i % 100 == 0 else None for i, name in enumerate(names)]
    lazy = frame_of(x, y=known, w=np.where(cluster == 2, 0, 1)).lazy()
    mixture = FlowMixture(2, training=SMALL, **QUICK).fit(lazy, "y", "w")
    assert mixture.classes_.tolist() == ["left", "right"]
    assert mixture.feature_names_in_.tolist() == ["a", "b"]
    seen = cluster != 2
    assert (mixture.predict(lazy)[seen] == names[seen]).mean() > 0.99
    reduced = mixture.without_unused(lazy, 0.01, "w")
    assert reduced.classes_.tolist() == ["left", "right"]


def test_methods_read_a_source_in_parts(small):
    x, _ = curved(5000)
    frame = frame_of(x).with_columns(id=pl.lit("row"))
    mixture = FlowMixture(3, training=SMALL, **QUICK).fit(frame.lazy().select("a", "b"))
    rows = frame.select("a", "b")
    for name in ("predict", "predict_proba", "score_samples", "elbo"):
        of_source = getattr(mixture, name)(frame.lazy())
        np.testing.assert_allclose(of_source, getattr(mixture, name)(rows), rtol=1e-9, atol=1e-9)
    assert mixture.score(frame.lazy()) == pytest.approx(mixture.score(rows))
    unnamed = FlowMixture(3, **QUICK).fit(x[:500])  # which has all columns for features
    np.testing.assert_allclose(unnamed.elbo(rows.lazy()), unnamed.elbo(x), rtol=1e-9)
    with pytest.raises(TableError, match="has 2 columns, and the model has 1 features"):
        FlowMixture(1, **QUICK).fit(x[:500, :1]).score(rows.lazy())


@pytest.mark.parametrize(
    ("others", "arguments", "message"),
    [
        ({"id": ["x"] * 5000}, {}, "column 'id' is not numeric"),
        ({"c": [1.0] * 4500 + [np.nan] + [1.0] * 499}, {}, "column 'c', row 4501 is NaN"),
        ({"c": [1.0] * 5000}, {}, "'c' is constant over the 5000 rows"),
        ({"w": [0] * 5000}, {"sample_weight": "w"}, "zero for every row"),
        ({"w": [1] * 4999 + [-1]}, {"sample_weight": "w"}, "row 5000 is negative"),
        ({}, {"y": [1, 2]}, "name of a column as y"),
        ({}, {"y": "z"}, "no column 'z'"),
        ({}, {"clusters": [1, 2]}, "clusters cannot be given"),
    ],
)
def test_faults_of_rows_are_said_in_one_sentence(others, arguments, message, small):
    x, _ = curved(5000)
    with pytest.raises((ValueError, TableError), match=message):
        FlowMixture(3, **QUICK).fit(frame_of(x, **others).lazy(), **arguments)


def test_a_term_that_needs_neighbours_is_refused(small):
    x, _ = curved(5000)
    with pytest.raises(ValueError, match="read in parts"):
        FlowMixture(3, training=Training(consistency="noise")).fit(frame_of(x).lazy())
