"""Tests of text files as people have them: what is taken for granted, and said."""

import time
import warnings

import polars
import pytest

from vmonf.data import TableError, read_table
from vmonf.data.text import MISSING


def read(tmp_path, content, name="a.csv"):
    """The table of a file, and the warnings."""
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = read_table(path)
    return frame, [str(warning.message).replace(str(path), "a") for warning in caught]


@pytest.mark.parametrize(
    "content",
    [
        ",x,y\n0,1,5\n1,2,3\n",  # pandas
        '"","x","y"\n"1",1,5\n"2",2,3\n',  # R's write.csv
        '"x","y"\n"1",1,5\n"2",2,3\n',  # R's write.table
        "x,y\nfirst,1,5\nsecond,2,3\n",
        "Unnamed: 0,x,y\n0,1,5\n1,2,3\n",
        " ,x,y\na,1,5\nb,2,3\n",
    ],
)
def test_a_first_column_without_a_name_is_left_out(tmp_path, content):
    frame, said = read(tmp_path, content)
    assert frame.to_dict(as_series=False) == {"x": [1, 2], "y": [5, 3]}
    assert said == [
        "The first column of 'a' has no name: it is taken for the numbers or names of the rows "
        "and left out. If it is data, give it a name."
    ]


def test_other_columns_without_a_name(tmp_path):
    for content in ("x,y,\n1,5,\n2,3,\n", "x,y\n1,5,\n2,3,\n"):
        frame, said = read(tmp_path, content)
        assert frame.rows() == [(1, 5), (2, 3)]
        assert said == []
    frame, said = read(tmp_path, "x,,y,\n1,8,5,9\n2,8,3,9\n")
    assert frame.columns == ["x", "y"]
    assert said[0].startswith("Columns of 'a' without a name are left out (column 2, 4 of 4)")


def test_a_row_that_is_too_long_is_no_name_of_a_row(tmp_path):
    for content in ("a,b\n1,2,3\n", "a,b\n1,2,3\n1,2,4\n", "a,b\n1,2,3\n2,2\n"):
        with pytest.raises(TableError, match="found more fields"):
            read(tmp_path, content)


@pytest.mark.parametrize("missing", ["", "  ", *MISSING])
def test_missing_cells_of_numbers(tmp_path, missing):
    frame, _ = read(tmp_path, f"x,y\n1,a\n{missing},b\n2.5,c\n")
    assert frame["x"].dtype == polars.Float64
    assert frame["x"].fill_nan(None).to_list() == [1.0, None, 2.5]


def test_what_is_missing_among_numbers_is_text_among_texts(tmp_path):
    frame, _ = read(tmp_path, "x\nNA\nNone\n-\nyes\n")
    assert frame["x"].to_list() == ["NA", "None", "-", "yes"]


@pytest.mark.parametrize(
    ("separator", "name"),
    [(";", "';'"), ("\t", "tabs"), ("|", "'|'")],
    ids=["semicolon", "tab", "bar"],
)
def test_other_separators_are_found(tmp_path, separator, name):
    frame, said = read(tmp_path, "x,y\n1,5\n2,3\n".replace(",", separator))
    assert frame.rows() == [(1, 5), (2, 3)]
    assert said == [f"'a' has no ',' in its first line, and is read as separated by {name}."]


def test_commas_in_a_tsv_are_found_and_one_column_has_no_separator(tmp_path):
    frame, said = read(tmp_path, "x,y\n1,5\n2,3\n", "a.tsv")
    assert frame.width == 2
    assert "by ','" in said[0]
    frame, said = read(tmp_path, '"x;y"\n1\n2\n')
    assert frame.columns == ["x;y"]
    assert said == []


def test_decimal_commas_are_points_unless_commas_separate(tmp_path):
    frame, said = read(tmp_path, "x;y;z\n1,5;5;a\n-2,25e3;NA;1,5\n3;1;b\n")
    assert frame["x"].to_list() == [1.5, -2250.0, 3.0]
    assert frame["y"].to_list() == [5, None, 1]
    assert frame["z"].to_list() == ["a", "1,5", "b"]
    assert said[1] == "'a' has decimal commas, which are read as points: column 'x'."
    frame, _ = read(tmp_path, 'x,y\n"1,5",2\n"2,5",3\n')
    assert frame["x"].to_list() == ["1,5", "2,5"]


def test_encodings(tmp_path):
    text = "größe,x\n1.5,ä\n2.5,ß\n"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        frame, said = read(tmp_path, text.encode(encoding))
        assert frame.columns == ["größe", "x"]
        assert frame["x"].to_list() == ["ä", "ß"]
        assert said == []
    for encoding in ("latin-1", "cp1252"):
        frame, said = read(tmp_path, text.encode(encoding))
        assert frame.columns == ["größe", "x"]
        assert "is read as Windows-1252 (Latin-1)" in said[0]
    frame, _ = read(tmp_path, b"x,y\n1,\x81\n")  # not in Windows-1252
    assert frame["y"].to_list() == ["\x81"]
    # A byte of Latin-1 behind the sample from which the layout is found.
    frame, said = read(tmp_path, b"x\n" + b"1\n" * 50_000 + b"\xe9\n")
    assert frame["x"].to_list()[-1] == "é"
    assert len(said) == 1


@pytest.mark.parametrize(
    "header", ["0,1,2", "1,2,3", "1990,2000,2010", "0.1,0.2,0.3", "id,2019,2021", "5,x,3"]
)
def test_numbers_that_may_be_names(tmp_path, header):
    rows = "a,1.5,2.5\n" if header.startswith("id") else "4,a,2.5\n" if "x" in header else "4,5,6\n"
    if header == "5,x,3":
        with pytest.raises(TableError, match="numbers in its first line"):
            read(tmp_path, f"{header}\n{rows}")
    elif header == "id,2019,2021":
        with pytest.raises(TableError, match="2019, 2021"):
            read(tmp_path, f"{header}\n{rows}")
    else:
        assert read(tmp_path, f"{header}\n{rows}")[0].columns == header.split(",")


@pytest.mark.parametrize(
    "content", ["3\n1\n", "1\n2\n", "5.1,3.5,1.4\n4.9,3.0,1.4\n", "7,3\n1,2\n"]
)
def test_a_missing_header_is_refused(tmp_path, content):
    with pytest.raises(TableError, match="where names are expected"):
        read(tmp_path, content)


def test_thousands_of_columns_are_read_in_seconds(tmp_path):
    rows = "\n".join(",".join([str(i / 7)] * 3000) for i in range(100))
    began = time.process_time()
    frame, _ = read(tmp_path, ",".join(f"c{j}" for j in range(3000)) + f"\n{rows}\n")
    assert frame.shape == (100, 3000)
    assert time.process_time() - began < 10  # it takes half a second


def test_devices_and_pipes_are_refused_at_once(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    for name in ("pipe.csv", "zero.csv"):
        with pytest.raises(TableError, match="is a device or a pipe, not a file"):
            read_table(tmp_path / name)
