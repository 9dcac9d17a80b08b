"""Tests of tables that are read in parts."""

import numpy as np
import polars as pl
import pytest

from vmonf.data import TableError, open_source
from vmonf.data.source import STRETCH_ROWS, is_source


@pytest.fixture
def frame():
    """A table of two and a half stretches, with an id, a number and text."""
    n = 2 * STRETCH_ROWS + 1000
    return pl.DataFrame({"id": np.arange(n), "x": np.arange(n) / 7, "name": ["a", "b"] * (n // 2)})


@pytest.fixture
def files(frame, tmp_path):
    """The table in three files of uneven size and with small row groups."""
    folder = tmp_path / "parts"
    (folder / "deeper").mkdir(parents=True)
    parts = [("a.parquet", 0, 5), ("b.parquet", 5, 5000), ("deeper/c.parquet", 5005, None)]
    for name, start, length in parts:
        frame.slice(start, length).write_parquet(folder / name, row_group_size=700)
    (folder / "_SUCCESS").touch()
    return folder


def arrow_dataset(folder):
    dataset = pytest.importorskip("pyarrow.dataset")
    return dataset.dataset(sorted(str(path) for path in folder.rglob("*.parquet")))


SOURCES = {
    "folder": lambda folder, frame: folder,
    "pattern": lambda folder, frame: f"{folder}/**/*.parquet",
    "scan": lambda folder, frame: pl.scan_parquet(f"{folder}/**/*.parquet"),
    "frame in memory": lambda folder, frame: frame.lazy(),
    "computed": lambda folder, frame: frame.lazy().filter(pl.col("id") >= 0),
    "arrow": lambda folder, frame: arrow_dataset(folder),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_rows_are_read_in_order_and_by_stretches(kind, files, frame):
    data = SOURCES[kind](files, frame)
    assert is_source(data)
    source = open_source(data)
    assert source.columns == frame.columns
    assert source.n_rows == len(frame)
    parts = list(source.in_order(["x", "id"]))
    assert pl.concat(parts).equals(frame.select("x", "id"))
    for index in (0, len(source.stretches) - 1):
        expected = frame.slice(source.starts[index], source.stretches[index])
        assert source.stretch(index, ["id"]).equals(expected.select("id"))
    assert source.select(["id"]).head().columns == ["id"]


def test_stretches_do_not_depend_on_files(files, frame):
    expected = [STRETCH_ROWS, STRETCH_ROWS, 1000]
    assert open_source(files).stretches.tolist() == expected
    assert open_source(frame.lazy()).stretches.tolist() == expected


def test_a_computed_frame_leaves_no_file(frame, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = open_source(frame.lazy().filter(pl.col("id") > 5))
    assert len(list(tmp_path.iterdir())) == 1
    assert source.n_rows == len(frame) - 6
    narrow = source.select(["x"])
    del source
    assert narrow.head()["x"][0] == pytest.approx(6 / 7)
    del narrow
    assert list(tmp_path.iterdir()) == []


def test_a_text_file_is_a_source_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("x,y\n1,2\n3,4\n")
    assert open_source(path).head().rows() == [(1, 2), (3, 4)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing.parquet", "does not exist"),
        ("none*.parquet", "No file matches"),
        ("empty", "has no .parquet files"),
        ("*", "does not end in .parquet"),
        ("damaged.parquet", "cannot be read"),
        ("no_rows.parquet", "is empty"),
        ("others/*.parquet", "cannot be read"),
    ],
)
def test_faults_are_said_in_one_sentence(name, message, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 and no more")
    pl.DataFrame({"x": []}, schema={"x": pl.Float64}).write_parquet(tmp_path / "no_rows.parquet")
    (tmp_path / "others").mkdir()
    pl.DataFrame({"x": [1.0] * 9}).write_parquet(tmp_path / "others" / "a.parquet")
    pl.DataFrame({"y": [1.0] * 9}).write_parquet(tmp_path / "others" / "b.parquet")
    with pytest.raises(TableError, match=message):
        list(open_source(f"{tmp_path}/{name}").in_order(["x"]))
