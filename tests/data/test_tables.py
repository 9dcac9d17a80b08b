import io
import os
import subprocess
import sys

import numpy as np
import polars
import pytest
from polars.testing import assert_frame_equal

import vmonf.data
from vmonf.data import TableError, read_table, write_table
from vmonf.data.tables import feature_columns, label_column, to_matrix


@pytest.fixture
def frame():
    return polars.DataFrame(
        {
            "width": [1.5, None, -0.25],
            "count": [3, 4, None],
            "name": ["ä, b", None, "c\td"],
            "good": [True, False, None],
        }
    )


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def failure(function, *arguments):
    """Return the message of the TableError, which must be one sentence on one line."""
    with pytest.raises(TableError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert message.endswith(".")
    assert not message.endswith("..")
    assert "\n" not in message
    return message


# Round trips


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ".CSV"])
def test_round_trip_keeps_values_types_and_nulls(tmp_path, frame, ending):
    path = tmp_path / f"table{ending}"
    write_table(frame, path)
    assert_frame_equal(read_table(path), frame)
    assert_frame_equal(read_table(str(path)), frame)


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet"])
def test_round_trip_of_one_column_keeps_empty_cells_at_the_end(tmp_path, ending):
    frame = polars.DataFrame({"x": [1, None, 2, None]})
    write_table(frame, tmp_path / f"table{ending}")
    assert_frame_equal(read_table(tmp_path / f"table{ending}"), frame)


def test_round_trip_of_csv_keeps_every_digit(tmp_path):
    values = np.random.default_rng(0).standard_normal(1000) * 10.0 ** np.arange(-500, 500).clip(
        -300, 300
    )
    write_table(polars.DataFrame({"x": values}), tmp_path / "table.csv")
    assert read_table(tmp_path / "table.csv")["x"].to_list() == values.tolist()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(3, 2),
        np.arange(6).reshape(3, 2),
        np.arange(3.0),
        np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    ],
    ids=["float", "integer", "one axis", "column-major"],
)
def test_round_trip_of_npy(tmp_path, array):
    source, target = tmp_path / "a.npy", tmp_path / "b.npy"
    np.save(source, array)
    frame = read_table(source)
    assert frame.columns == [str(index) for index in range(array.reshape(3, -1).shape[1])]
    write_table(frame, target)
    again = np.load(target, allow_pickle=False)
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize(
    "kind", ["float16", "float32", "longdouble", ">f8", ">i4", "bool", "uint8", "uint64"]
)
def test_npy_of_any_real_type_is_read(tmp_path, kind):
    np.save(tmp_path / "a.npy", np.array([[1, 0], [0, 1], [1, 1]]).astype(kind))
    matrix = to_matrix(read_table(tmp_path / "a.npy"), ["0", "1"])
    np.testing.assert_array_equal(matrix, [[1, 0], [0, 1], [1, 1]])


def test_npy_takes_booleans_and_turns_null_into_nan(tmp_path):
    path = tmp_path / "a.npy"
    write_table(polars.DataFrame({"a": [True, False], "b": [2, 3]}), path)
    assert np.load(path).tolist() == [[1, 2], [0, 3]]
    assert np.load(path).dtype == np.int64
    write_table(polars.DataFrame({"a": [1, None], "b": [0.5, 1.5]}), path)
    np.testing.assert_array_equal(np.load(path), [[1.0, 0.5], [np.nan, 1.5]])


# Reading text as people write it


def test_types_are_inferred_from_the_whole_file(tmp_path):
    path = written(tmp_path, "a.csv", "x\n" + "1\n" * 5000 + "2.5\n")
    assert read_table(path)["x"].dtype == polars.Float64


def test_blanks_around_numbers_and_names_are_no_part_of_them(tmp_path):
    path = written(tmp_path, "a.csv", "a, b , c,d\n 1 , 2.5,x, \n+3,   , y,  \n")
    frame = read_table(path)
    assert frame.columns == ["a", "b", "c", "d"]
    assert frame["a"].to_list() == [1, 3]
    assert frame["a"].dtype == polars.Int64
    assert frame["b"].to_list() == [2.5, None]
    assert frame["c"].to_list() == ["x", " y"]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_blank_lines_at_the_end_are_no_rows(tmp_path, line_end):
    text = line_end.join(["a,b", "1,2", ",", "", "", ""])
    assert read_table(written(tmp_path, "a.csv", text)).rows() == [(1, 2), (None, None)]


def test_file_without_a_last_line_end_and_with_a_byte_order_mark(tmp_path):
    assert read_table(written(tmp_path, "a.csv", "\ufeffa,b\n1,2")).rows() == [(1, 2)]


def test_names_with_wildcards_are_plain_names(tmp_path):
    path = written(tmp_path, "a[1]*.csv", "a\n1\n")
    written(tmp_path, "a1.csv", "b\n2\n")
    assert read_table(path).columns == ["a"]


# Files that cannot be read


def test_missing_file_folder_and_unknown_endings(tmp_path):
    missing = tmp_path / "none.csv"
    assert failure(read_table, missing) == (
        f"The file '{missing}' does not exist: check its name and folder."
    )
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "is a folder, not a file" in failure(read_table, folder)
    assert "has the ending '.xlsx'" in failure(read_table, tmp_path / "a.xlsx")
    assert "has no ending: use .csv," in failure(read_table, tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", ""),
        ("a.csv", "\n\n"),
        ("a.csv", "a,b\n"),
        ("a.csv", "a,b\n\n"),
        ("a.tsv", "a\tb"),
        ("a.npy", ""),
    ],
)
def test_empty_text_file(tmp_path, name, content):
    path = written(tmp_path, name, content)
    assert failure(read_table, path) == (
        f"'{path}' is empty: a table needs at least one row and one column."
    )


@pytest.mark.parametrize("ending", [".parquet", ".npy"])
def test_empty_binary_table(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_table(polars.DataFrame({"a": polars.Series([], dtype=polars.Float64)}), path)
    assert "is empty" in failure(read_table, path)
    if ending == ".npy":
        np.save(path, np.empty((3, 0)))
        assert "is empty" in failure(read_table, path)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.csv", "a,b\n1,2,3\n", "cannot be read as .csv (found more fields"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16")[:-1], "begins as text in UTF-16, but is not"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16-le"), "is not text in UTF-8"),
        ("a.csv", b"PAR1 and nothing more PAR1", "is not text, but a Parquet file: name it .parq"),
        ("a.tsv", b"\x93NUMPY\x01\x00", "is not text, but an array of numpy: name it .npy"),
        ("a.csv", b"\x1f\x8b\x08", "is not text, but compressed by gzip: decompress it first"),
        ("a.csv", 'a,b\n1,2\n3,"4', "has a quotation mark without its end (it has 1)"),
        ("a.csv", "5.1,3.5\n4.9,3.0\n", "has numbers in its first line (5.1, 3.5), where names"),
        ("a.csv", "5.1,setosa\n4.9,virginica\n", "has numbers in its first line (5.1), where"),
        ("a.csv", "a,b,a\n1,2,3\n", "has 2 columns named 'a': give each its name"),
        ("a.parquet", b"PAR1 and nothing more PAR1", "cannot be read as .parquet ("),
        ("a.parquet", b"", "cannot be read as .parquet ("),
        ("a.parquet", "a,b\n1,2\n3,4\n", "its ending matches its content"),
        ("a.npy", "a,b\n1,2\n", "cannot be read as .npy (the magic string is not correct"),
        ("a.npy", b"\x93NUMPY\x01\x00", "cannot be read as .npy ("),
    ],
)
def test_damaged_file(tmp_path, name, content, expected):
    path = written(tmp_path, name, content)
    message = failure(read_table, path)
    assert expected in message
    assert message.startswith(f"'{path}'")


@pytest.mark.parametrize("ending", [".parquet", ".npy"])
def test_truncated_file(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    write_table(polars.DataFrame({"a": np.arange(1000.0), "b": np.arange(1000.0)}), path)
    path.write_bytes(path.read_bytes()[:-500])
    assert f"cannot be read as {ending}" in failure(read_table, path)


def test_panic_of_polars_is_a_table_error(tmp_path, monkeypatch):
    def panic(*arguments, **options):
        raise polars.exceptions.PanicException("assertion failed\nleft: 0")

    monkeypatch.setattr(polars, "read_parquet", panic)
    message = failure(read_table, written(tmp_path, "a.parquet", b"x"))
    assert "cannot be read as .parquet (assertion failed)" in message


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(polars, "read_csv", refuse)
    message = failure(read_table, written(tmp_path, "a.csv", "a\n1\n"))
    assert "cannot be read: Permission denied; check the file" in message


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([1 + 2j]), "holds an array of type complex128"),
        (np.array(["a"]), "holds an array of type <U1"),
        (np.array(["2024-01-01"], dtype="datetime64[D]"), "holds an array of type datetime64"),
        (np.array([(1, 2.0)], dtype="i4,f8"), "holds an array of type"),
        (np.array(1.0), "of type float64 and 0 axes"),
        (np.zeros((2, 2, 2)), "and 3 axes: save real numbers with rows"),
    ],
)
def test_npy_that_is_no_table(tmp_path, array, expected):
    np.save(tmp_path / "a.npy", array)
    assert expected in failure(read_table, tmp_path / "a.npy")


def test_npy_of_objects_is_never_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    assert "(Object arrays cannot be loaded" in failure(read_table, tmp_path / "a.npy")
    assert not (tmp_path / "exploded").exists()


def test_archive_under_the_name_of_an_array_is_refused(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, a=np.zeros(3))
    path = written(tmp_path, "a.npy", stream.getvalue())
    assert "cannot be read as .npy (the magic string" in failure(read_table, path)


# Writing


def test_places_that_cannot_be_written_to(tmp_path):
    assert "has the ending '.txt'" in failure(write_table, EXAMPLE, tmp_path / "a.txt")
    assert failure(write_table, EXAMPLE, tmp_path / "none" / "a.csv") == (
        f"The folder '{tmp_path / 'none'}' does not exist: create it first."
    )
    assert not list(tmp_path.iterdir())


EXAMPLE = polars.DataFrame({"a": [1, 2]})


def test_npy_refuses_columns_that_are_not_numbers(tmp_path, frame):
    path = tmp_path / "a.npy"
    assert failure(write_table, frame, path) == (
        f"The column 'name' is not numeric, so that '{path}' cannot hold it: use .csv or .parquet."
    )
    huge = polars.DataFrame({"a": polars.Series([2**64 - 1], dtype=polars.UInt64)})
    assert "failed in column 'a'" in failure(write_table, huge, path)
    assert "has no columns" in failure(write_table, polars.DataFrame(), path)
    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write_table(EXAMPLE, path)
    nested = polars.DataFrame({"a": [[1, 2]]})
    message = failure(write_table, nested, path)
    assert message.startswith(f"'{path}' cannot be written (CSV format does not")
    assert message.endswith("choose .parquet.")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert "cannot be written (No space left on device): choose another" in failure(
            write_table, EXAMPLE, path
        )
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.csv"]
    assert_frame_equal(read_table(path), EXAMPLE)


# Choosing columns


def test_features_are_all_columns_but_the_excluded_in_order(frame):
    numbers = frame.drop("name")
    assert feature_columns(numbers, None, []) == ["width", "count", "good"]
    assert feature_columns(frame, None, ["name", "width"]) == ["count", "good"]
    assert feature_columns(frame, ["good", "width"], []) == ["good", "width"]
    assert feature_columns(frame, ["good", "name", "width"], ["name"]) == ["good", "width"]


def test_missing_names_are_answered_with_the_nearest(frame):
    assert failure(feature_columns, frame, ["wdith"], []) == (
        "The table has no column 'wdith' (did you mean 'width'?): its columns are 'width', "
        "'count', 'name', 'good'."
    )
    assert "(did you mean 'count'?)" in failure(feature_columns, frame, None, ["Count "])
    assert "'label': its columns" in failure(label_column, frame, "label")
    wide = polars.DataFrame({f"x{index}": [0.0] for index in range(15)})
    assert "'x11' and 3 more." in failure(feature_columns, wide, ["something"], [])


def test_names_given_twice_and_none_left(frame):
    assert "'width' is chosen twice" in failure(feature_columns, frame, ["width", "width"], [])
    expected = "No column is left to be a feature"
    assert expected in failure(feature_columns, frame, None, frame.columns)
    assert expected in failure(feature_columns, frame, [], [])
    assert expected in failure(to_matrix, frame, [])


def test_column_that_is_not_numeric_is_named_with_its_first_bad_value(tmp_path):
    frame = read_table(written(tmp_path, "a.csv", "x,y\n1,1\n2,\n3,2.5\n4,few\n5,none\n"))
    assert failure(feature_columns, frame, None, []) == (
        "The column 'y' is not numeric (row 4 holds 'few', of type String): correct such cells, "
        "leave them empty, exclude it, or choose columns."
    )


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (polars.Series([None, "1", "2"]), "row 2 holds '1', of type String"),
        (polars.Series([None, "x" * 100]), f"row 2 holds '{'x' * 59}..., of type String"),
        (polars.Series(["a", "b"], dtype=polars.Categorical), "row 1 holds 'a', of type Categ"),
        (polars.Series(["2024-01-02"]).str.to_date(), "holds dates or times (row 1 holds 2024-0"),
        (polars.Series(["2024-01-02 10:00"]), "holds dates or times (row 1 holds '2024-01-02 10"),
        (polars.Series(["3.4.2024"]), "convert it to a number, such as days since the first, excl"),
        (polars.Series([3], dtype=polars.Duration), "holds dates or times (row 1 holds 0:00:00"),
        (polars.Series(["1,5"]), "of type String; write decimals with a point)"),
        (polars.Series([None, [1, 2]]), "row 2 holds [1, 2], of type List"),
        (polars.Series([None, None]), "has no values: exclude it"),
        (polars.Series([None, None], dtype=polars.String), "has no values: exclude it"),
    ],
)
def test_other_columns_that_are_not_numeric(series, expected):
    assert expected in failure(feature_columns, polars.DataFrame({"y": series}), None, [])


# Matrices


def test_matrix_is_in_the_order_of_the_names_and_row_major():
    frame = polars.DataFrame(
        {
            "a": [1, 2],
            "b": [True, False],
            "c": polars.Series([0.5, 1.5], dtype=polars.Float32),
            "d": polars.Series(["1.25", "2"]).cast(polars.Decimal(10, 2)),
        }
    )
    matrix = to_matrix(frame, ["d", "c", "b", "a"])
    assert matrix.tolist() == [[1.25, 0.5, 1.0, 1.0], [2.0, 1.5, 0.0, 2.0]]
    assert matrix.dtype == np.float64
    assert matrix.flags.c_contiguous
    assert matrix.flags.writeable


def test_first_gap_of_a_matrix_is_named_by_rows():
    frame = polars.DataFrame(
        {"a": [0.0, 1.0, np.nan], "b": [0.0, np.inf, 1.0], "c": [3, None, None]}
    )
    assert failure(to_matrix, frame, ["a", "b", "c"]) == (
        "The cell in column 'b', row 2 is infinite, one of 4 that are empty or not finite "
        "('c': 2, 'a': 1, 'b': 1): fill such cells, remove their rows, or exclude their columns."
    )
    assert "column 'c', row 2 is empty, one of 3 that" in failure(to_matrix, frame, ["a", "c"])
    assert "column 'a', row 3 is NaN, one of 1 that" in failure(to_matrix, frame, ["a"])
    assert "'n' is not numeric" in failure(to_matrix, polars.DataFrame({"n": ["a"]}), ["n"])


# Labels


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (polars.Series([2, None, 0, -1]), [2, -1, 0, -1]),
        (polars.Series([2, None, 0], dtype=polars.UInt8), [2, -1, 0]),
        (polars.Series([True, None, False]), [1, -1, 0]),
        (polars.Series([2.0, None, np.nan, 7.0]), [2, -1, -1, 7]),
        (polars.Series([None, None]), [-1, -1]),
    ],
)
def test_whole_number_labels(series, expected):
    labels, is_labelled = label_column(polars.DataFrame({"y": series}), "y")
    assert labels.dtype == np.int64
    assert labels.tolist() == expected
    assert is_labelled.dtype == np.bool_
    assert is_labelled.tolist() == [label != -1 for label in expected]
    assert labels.flags.writeable


@pytest.mark.parametrize("kind", [polars.String, polars.Categorical])
def test_text_labels(kind):
    series = polars.Series(["cat", None, "-1", "a longer one", "  "]).cast(kind)
    labels, is_labelled = label_column(polars.DataFrame({"y": series}), "y")
    assert labels.dtype == np.object_
    assert labels.tolist() == ["cat", "", "", "a longer one", ""]
    assert is_labelled.tolist() == [True, False, False, True, False]


def test_labels_with_empty_cells_from_a_text_file(tmp_path):
    frame = read_table(written(tmp_path, "a.csv", 'x,y,z\n1,,a\n2,3,\n3,"",b\n'))
    labels, is_labelled = label_column(frame, "y")
    assert labels.tolist() == [-1, 3, -1]
    assert is_labelled.tolist() == [False, True, False]
    labels, is_labelled = label_column(frame, "z")
    assert labels.tolist() == ["a", "", "b"]


@pytest.mark.parametrize("bad", [0.5, np.inf, 2.0**60])
def test_labels_that_are_no_whole_numbers(bad):
    message = failure(label_column, polars.DataFrame({"y": [1.0, None, bad]}), "y")
    assert message == (
        f"The labels in column 'y' must be whole numbers or text, but row 3 holds {bad}: choose "
        "another column, round it, or make it text."
    )


def test_labels_of_other_types():
    dates = polars.DataFrame({"y": polars.Series(["2024-01-02"]).str.to_date()})
    assert "has the type Date, but labels are" in failure(label_column, dates, "y")
    huge = polars.DataFrame({"y": polars.Series([2**64 - 1], dtype=polars.UInt64)})
    assert "but row 1 holds 18446744073709551615" in failure(label_column, huge, "y")


# The package


def test_names_are_those_that_a_user_needs():
    names = [
        "Pinwheel",
        "Source",
        "TableError",
        "ToyMixture",
        "TwoCircles",
        "open_source",
        "read_table",
        "write_table",
    ]
    assert dir(vmonf.data) == vmonf.data.__all__ == names


def test_import_is_light():
    code = (
        "import sys, vmonf; before = set(sys.modules); import vmonf.data; "
        "print({'polars', 'torch', 'sklearn', 'matplotlib'} & (set(sys.modules) - before))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
