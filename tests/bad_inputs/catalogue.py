"""The catalogue of bad inputs: how each is made, what is said about it, and the exit code.

An entry is data; `test_bad_inputs.py` walks all of them through Python and the command line. In
Python the same words stand in a ValueError, or with exit code 0 in a warning. New bad inputs belong
here. `{good}` in a content stands for the rows of `GOOD`.
"""

import datetime
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas
import polars
import scipy.sparse
import torch

RANDOM = np.random.default_rng(0)
#: 60 rows of two features in two clusters, as all entries have them beside their fault.
X = (RANDOM.normal(size=(60, 2)) + np.arange(60)[:, None] % 2 * 4).round(6)
ROWS = "\n".join(",".join(map(str, row)) for row in X.tolist()) + "\n"
GOOD = "x,y\n" + ROWS


@dataclass(frozen=True)
class Table:
    """A file that `vmonf fit` reads.

    The options are those of the command line without dashes; Python does the same by functions.
    """

    name: str
    file: str
    content: Any
    said: str
    code: int = 1
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Rows for `FlowMixture.fit`, with what else it takes.

    In .npy or .parquet, the command line reads the same rows if `in_file` is the ending; it says
    the same, or `file_said`.
    """

    name: str
    rows: Any
    said: str
    in_file: str = ""
    file_said: str = ""
    given: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameter:
    """Parameters of `FlowMixture`, and options of `vmonf fit`; with good rows."""

    name: str
    parameters: dict[str, Any]
    options: list[str] | None
    said: str
    code: int = 2


@dataclass(frozen=True)
class Model:
    """A changed model file, which `FlowMixture.load` and `vmonf info` read.

    `change` is a name of `damaged_files`, or a change of the document as "a__b": value.
    """

    name: str
    change: Any
    said: str


@dataclass(frozen=True)
class Use:
    """A good model with a table that does not suit it, or a wrong use of it.

    Attributes
    ----------
    verb : str
    frame : dict or None
        The columns of the table; None if the verb takes none.
    options : list of str
    python : str
        The name of the method that does the same, with the table; "" if there is none.
    """

    name: str
    verb: str
    frame: dict[str, Any] | None
    options: list[str]
    said: str
    code: int = 1
    python: str = ""
    python_said: str = ""


def column(text, every=7):
    """Good rows with a third column z, some of whose cells are a text."""
    cells = [text if i % every == 3 else str(i * 0.37) for i in range(60)]
    rows = ROWS.splitlines()
    return "x,y,z\n" + "".join(f"{a},{b}\n" for a, b in zip(rows, cells, strict=True))


def cell(text, row=4):
    """Good rows with a text in place of the first cell of a row, counted from 1."""
    rows = ROWS.splitlines()
    rows[row - 1] = f"{text}," + rows[row - 1].split(",")[1]
    return "x,y\n" + "\n".join(rows) + "\n"


def spread(value, every=12):
    """Good rows with a value in some cells of the second column."""
    rows = X.copy()
    rows[::every, 1] = value
    return rows


def third(values):
    return np.column_stack([X, values])


EMPTY = "row 4 is empty, one of 1 that are empty or not finite ('x': 1)"
HEADER = "numbers in its first line"

TABLES = [
    # Files that are no text
    Table("no file", "a.csv", None, "does not exist: check its name and folder"),
    Table("a folder", "a.csv", "folder", "is a folder, not a file"),
    Table("a pipe", "a.csv", "pipe", "is a device or a pipe, not a file"),
    Table("a device", "a.csv", "device", "is a device or a pipe, not a file"),
    Table("no ending", "a", GOOD, "has no ending: use .csv"),
    Table("the ending of a spreadsheet", "a.xlsx", GOOD, "has the ending '.xlsx'"),
    Table("the ending of text", "a.txt", GOOD, "has the ending '.txt'"),
    Table("an empty file", "a.csv", "", "is empty: a table needs at least one row"),
    Table("blank lines", "a.csv", "\n\n\n", "is empty"),
    Table("a header alone", "a.csv", "x,y\n", "is empty"),
    Table("Parquet named .csv", "a.csv", b"PAR1" + bytes(99), "not text, but a Parquet file"),
    Table("Parquet named .tsv", "a.tsv", b"PAR1" + bytes(99), "name it .parquet"),
    Table("numpy named .csv", "a.csv", b"\x93NUMPY\x01", "not text, but an array of numpy"),
    Table("gzip", "a.csv", b"\x1f\x8b\x08\x00", "compressed by gzip: decompress it first"),
    Table("bzip2", "a.csv", b"BZh91AY", "compressed by bzip2"),
    Table("xz", "a.csv", b"\xfd7zXZ\x00", "compressed by xz"),
    Table("zstd", "a.csv", b"\x28\xb5\x2f\xfd\x00", "compressed by zstd"),
    Table("a spreadsheet", "a.csv", b"PK\x03\x04\x14", "a zip archive or a spreadsheet"),
    Table("HDF5", "a.csv", b"\x89HDF\r\n", "an HDF5 file"),
    Table("a database", "a.csv", b"SQLite format 3\x00", "a database"),
    Table("Arrow", "a.csv", b"ARROW1\x00", "an Arrow file"),
    Table("a PDF", "a.csv", b"%PDF-1.7", "a PDF document"),
    Table("a web page", "a.csv", "<!DOCTYPE html><html>", "a web page: download the table"),
    Table("noise", "a.csv", bytes(range(1, 255)), "is not text in UTF-8"),
    Table("UTF-16 without a mark", "a.csv", GOOD.encode("utf-16-le"), "is not text in UTF-8"),
    Table("half a character of UTF-16", "a.csv", GOOD.encode("utf-16")[:-1], "but is not: save it"),
    Table("text named .parquet", "a.parquet", GOOD, "its ending matches its content"),
    Table("text named .npy", "a.npy", GOOD, "cannot be read as .npy"),
    Table("empty Parquet", "a.parquet", b"", "must contain a header and footer"),
    Table("empty .npy", "a.npy", b"", "is empty"),
    Table("damaged Parquet", "a.parquet", b"PAR1xxPAR1", "its ending matches its content"),
    Table("damaged .npy", "a.npy", b"\x93NUMPY\x01\x00", "cannot be read as .npy"),
    # Layout
    Table("a cut quotation", "a.csv", GOOD + '1.5,"2.', "a quotation mark without its end"),
    Table("a quotation mark", "a.csv", cell('5"'), "a quotation mark without its end"),
    Table("a long row", "a.csv", GOOD + "1,2,3\n", "found more fields"),
    Table("a short row", "a.csv", GOOD + "1\n", "column 'y', row 61 is empty"),
    Table("a cut row", "a.csv", GOOD + "1.5,", "column 'y', row 61 is empty"),
    Table("equal names", "a.csv", "x,x\n" + ROWS, "has 2 columns named 'x'"),
    Table("no header", "a.csv", ROWS, HEADER),
    Table("no header, with names", "a.csv", "5.1,a\n4.9,b\n4.7,c\n", HEADER),
    Table("no header, tabs", "a.tsv", ROWS.replace(",", "\t"), HEADER),
    Table("no header, one column", "a.csv", "3\n1\n2\n", HEADER),
    Table("no names but the rows'", "a.csv", "id,2019,2021\na,1,2\nb,3,4\n", HEADER),
    # Cells
    Table("an empty cell", "a.csv", cell(""), EMPTY),
    *(
        Table(f"{text} for missing", "a.csv", cell(text), EMPTY)
        for text in ("NA", "N/A", "n/a", "na", "<NA>", "#N/A", "NULL", "null", "None", "none")
    ),
    *(Table(f"{text} for missing", "a.csv", cell(text), EMPTY) for text in "?-."),
    Table("two hyphens for missing", "a.csv", cell("--"), EMPTY),
    Table("a blank cell", "a.csv", cell("   "), EMPTY),
    Table("NaN", "a.csv", cell("NaN"), "column 'x', row 4 is NaN"),
    Table("inf", "a.csv", cell("inf"), "column 'x', row 4 is infinite, one of 1"),
    Table("-inf", "a.csv", cell("-inf"), "column 'x', row 4 is infinite"),
    Table("a number beyond floats", "a.csv", cell("1e999"), "column 'x', row 4 is infinite"),
    Table("many gaps", "a.csv", column("NA"), "row 4 is empty, one of 9"),
    Table("text", "a.csv", column("few"), "'z' is not numeric (row 4 holds 'few'"),
    Table("a unit", "a.csv", column("3 kg"), "row 4 holds '3 kg'"),
    Table("a percentage", "a.csv", column("3%"), "row 4 holds '3%'"),
    Table("a price", "a.csv", column("$3"), "row 4 holds '$3'"),
    Table("a formula", "a.csv", column("=A1"), "row 4 holds '=A1'"),
    Table("an error of a spreadsheet", "a.csv", column("#DIV/0!"), "row 4 holds '#DIV/0!'"),
    Table("hexadecimal", "a.csv", column("0xff"), "row 4 holds '0xff'"),
    Table("a complex number", "a.csv", column("1+2j"), "row 4 holds '1+2j'"),
    Table("thousands", "a.csv", column('"1,234"'), "write decimals with a point"),
    Table("a decimal comma", "a.csv", column('"0,5"'), "row 4 holds '0,5', of type String; write"),
    Table("a long text", "a.csv", column("w" * 5000), "wwww..., of type String"),
    Table("Arabic digits", "a.csv", column("٣"), "row 4 holds '٣'"),
    Table("a minus sign of print", "a.csv", column("\u22123"), "is not numeric"),
    Table("a date", "a.csv", column("2024-01-31"), "'z' holds dates or times (row 4"),
    Table("a date of Europe", "a.csv", column("31.1.2024"), "'z' holds dates or times"),
    Table("a date of America", "a.csv", column("1/31/24"), "'z' holds dates or times"),
    Table("a time", "a.csv", column("12:30"), "'z' holds dates or times"),
    Table("a moment", "a.csv", column("2024-01-31T12:30:00Z"), "such as days since the first"),
    Table("a column without values", "a.csv", "x,y,z\n" + ROWS.replace("\n", ",\n"),
          "'z' has no values: exclude it"),
    # Columns of the command
    Table("a feature that is not there", "a.csv", GOOD, "no column 'z'", 1, {"columns": "x,z"}),
    Table("a feature misspelt", "a.csv", GOOD, "did you mean 'y'?", 1, {"columns": "x,Y"}),
    Table("a feature twice", "a.csv", GOOD, "chosen twice", 1, {"columns": "x,x"}),
    Table("no features", "a.csv", GOOD, "No column is left", 1, {"exclude": "x,y"}),
    Table("an exclusion of nothing", "a.csv", GOOD, "no column 'id'", 1, {"exclude": "id"}),
    Table("no such label", "a.csv", GOOD, "no column 'kind'", 1, {"label": "kind"}),
    Table("labels of fractions", "a.csv", GOOD, "must be whole numbers or text", 1, {"label": "y"}),
    Table("no such weight", "a.csv", GOOD, "no column 'w'", 1, {"weight": "w"}),
    Table("negative weights", "a.csv", GOOD, "Negative values in sample_weight", 1,
          {"weight": "y"}),
    Table("weights of zero", "a.csv", "x,y,w\n" + ROWS.replace("\n", ",0\n"),
          "zero for every row", 1, {"weight": "w"}),
    Table("weights of text", "a.csv", column("few"), "'z' is not numeric", 1, {"weight": "z"}),
    Table("missing weights", "a.csv", column("NA"), "column 'z', row 4 is empty", 1,
          {"weight": "z"}),
    # What is known of the columns
    Table("a constant column", "a.csv", "x,y,z\n" + ROWS.replace("\n", ",7\n"),
          "constant column: column 'z' is constant"),
    Table("one row", "a.csv", "x,y\n1,2\n", "minimum of 2 is required"),
    Table("equal rows", "a.csv", "x,y\n" + "1,2\n" * 60, "are constant over the 1 distinct rows"),
    Table("as many components as rows", "a.csv", "x,y\n1,2\n2,1\n3,3\n",
          "n_components=4 is more than the 3 distinct rows", 1, {"components": "4"}),
    # What is read, and said
    Table("row numbers of pandas", "a.csv",
          ",x,y\n" + "".join(f"{i},{row}\n" for i, row in enumerate(ROWS.splitlines())),
          "has no name: it is taken for the numbers or names of the rows", 0),
    Table("row names of R", "a.csv",
          "x,y\n" + "".join(f'"r{i}",{row}\n' for i, row in enumerate(ROWS.splitlines())),
          "has no name: it is taken for the numbers or names of the rows", 0),
    Table("a column between without a name", "a.csv",
          "x,,y\n" + "".join(row.replace(",", f",{i},") + "\n"
                             for i, row in enumerate(ROWS.splitlines())),
          "without a name are left out (column 2 of 3)", 0),
    Table("semicolons", "a.csv", GOOD.replace(",", ";"), "read as separated by ';'", 0),
    Table("tabs", "a.csv", GOOD.replace(",", "\t"), "read as separated by tabs", 0),
    Table("bars", "a.csv", GOOD.replace(",", "|"), "read as separated by '|'", 0),
    Table("commas in .tsv", "a.tsv", GOOD, "read as separated by ','", 0),
    Table("decimal commas", "a.csv", GOOD.replace(",", ";").replace(".", ","),
          "has decimal commas, which are read as points: column 'x', 'y'", 0),
    Table("Latin-1", "a.csv", GOOD.replace("x", "größe").encode("latin-1"),
          "is read as Windows-1252", 0),
    Table("repeated values", "a.csv", "x,y,z\n" + "".join(
        f"{row},{0 if i < 12 else i * 0.37}\n" for i, row in enumerate(ROWS.splitlines())),
        "values repeat: column 'z' (0 in 20%)", 0),
]  # fmt: skip

DAYS = np.datetime64("2024-01-01") + np.arange(60).astype("timedelta64[D]")
FRAME = pandas.DataFrame(X, columns=["x", "y"])
DEPENDENT = "The density is unbounded where columns depend exactly on others: column"
FILL = "stands for missing ones, since it repeats"
SHARES = RANDOM.dirichlet([1, 2, 3], size=60)
GAP = "one of 1 values that are NaN or infinity (column 1: 1)"

ROWS_OF_PYTHON = [
    Rows("NaN", spread(np.nan, 60), f"X contains NaN in row 0, column 1, {GAP}", ".npy",
         "column '1', row 1 is NaN, one of 1"),
    Rows("infinity", spread(np.inf, 60), f"X contains infinity in row 0, column 1, {GAP}", ".npy",
         "column '1', row 1 is infinite, one of 1"),
    Rows("NaN in a frame", FRAME.assign(y=spread(np.nan)[:, 1]),
         "X contains NaN in row 0, column 'y', one of 5", ".parquet", "column 'y', row 1 is NaN"),
    Rows("null", polars.DataFrame({"x": [1.0, None, 3.0], "y": [1.0, 2.0, 4.0]}),
         "in row 1, column 'x'", ".parquet", "column 'x', row 2 is empty"),
    Rows("None in a list", [[1.0, None], [2.0, 3.0]], "in row 0, column 1"),
    Rows("NaN in a tensor", torch.from_numpy(spread(np.nan, 60)), "in row 0, column 1"),
    Rows("a masked value", np.ma.masked_array(X, mask=X > 4), "is masked, one of"),
    Rows("dates", DAYS[:, None], "X holds dates or durations"),
    Rows("durations", (DAYS - DAYS[0])[:, None], "X holds dates or durations"),
    Rows("dates in a list", [[datetime.date(2024, 1, 1)]] * 3, "X holds dates or durations"),
    Rows("dates of pandas", FRAME.assign(z=DAYS), "Column 'z' of X holds dates", ".parquet",
         "'z' holds dates or times"),
    Rows("durations of pandas", FRAME.assign(z=DAYS - DAYS[0]), "Column 'z' of X holds dates",
         ".parquet", "'z' holds dates or times"),
    Rows("dates of polars", polars.DataFrame({"x": X[:, 0], "z": DAYS}), "Column 'z' of X holds",
         ".parquet", "'z' holds dates or times"),
    Rows("text in a list", [["a", "b"], ["c", "d"]], "could not convert string to float"),
    Rows("text of pandas", FRAME.assign(z="few"), "Column 'z' of X holds no numbers", ".parquet",
         "'z' is not numeric (row 1 holds 'few'"),
    Rows("text of polars", polars.DataFrame({"z": ["a", "b"]}), "Column 'z' of X holds no numbers",
         ".parquet", "'z' is not numeric"),
    Rows("categories", FRAME.assign(z=pandas.Categorical(["a", "b"] * 30)),
         "Column 'z' of X holds no numbers", ".parquet", "'z' is not numeric"),
    Rows("lists in a frame", polars.DataFrame({"z": [[1.0], [2.0]]}),
         "Column 'z' of X holds no numbers", ".parquet",
         "'z' is not numeric (row 1 holds [1.0]"),
    Rows("a sparse matrix", scipy.sparse.csr_matrix(X), "X is a sparse matrix"),
    Rows("a sparse array", scipy.sparse.csc_array(X), "X is a sparse matrix"),
    Rows("a sparse tensor", torch.from_numpy(X).to_sparse(), "X is a sparse tensor"),
    Rows("complex numbers", X + 1j, "Complex data not supported", ".npy",
         "an array of type complex128"),
    Rows("a complex tensor", torch.from_numpy(X) + 1j, "Complex data not supported"),
    Rows("objects", np.array([[1, "a"]] * 3, dtype=object), "could not convert", ".npy",
         "cannot be read as .npy"),
    Rows("one axis", X[:, 0], "Expected 2D array, got 1D array"),
    Rows("three axes", X[None], "dim 3", ".npy", "3 axes"),
    Rows("a number", 5.0, "Expected 2D array"),
    Rows("no rows", X[:0], "0 sample", ".npy", "is empty"),
    Rows("no columns", X[:, :0], "0 feature", ".npy", "is empty"),
    Rows("rows of unequal length", [[1.0, 2.0], [3.0]], "inhomogeneous"),
    Rows("one row", X[:1], "minimum of 2", ".npy"),
    Rows("a constant column", third(np.full(60, 3.0)), "column 2 is constant", ".npy",
         "column '2' is constant"),
    Rows("a constant beyond rounding", third(np.full(60, 1e16) + X[:, 0] / 1e3), "is constant",
         ".npy"),
    Rows("-9999", spread(-9999.0), f"smallest value {FILL}", ".npy"),
    Rows("9999", spread(9999.0), f"largest value {FILL}", ".npy"),
    Rows("-3.4e38", spread(-3.4028235e38), "column 1 (-3.40282e+38 in 5 of the 60 distinct rows)",
         ".npy", "column '1' (-3.40282e+38 in 5 of the 60 distinct rows)"),
    Rows("1e300", spread(1e300), f"largest value {FILL}", ".npy"),
    Rows("the largest float", spread(1.7976931348623157e308), f"largest value {FILL}", ".npy"),
    Rows("fill values in half", spread(-999.0, 2), "(-999 in 30 of the 60", ".npy"),
    Rows("fill values in a frame", pandas.DataFrame(spread(-9999.0), columns=["x", "y"]),
         "column 'y' (-9999 in 5 of the 60 distinct rows)", ".parquet"),
    Rows("a duplicate", third(X[:, 0]), DEPENDENT, ".npy"),
    Rows("a duplicate in other units", third(32 + 1.8 * X[:, 0]), DEPENDENT, ".npy"),
    Rows("a negative", third(-X[:, 0]), DEPENDENT, ".npy"),
    Rows("a sum", third(X.sum(axis=1)), DEPENDENT, ".npy"),
    Rows("a difference in a frame", FRAME.assign(z=X[:, 0] - X[:, 1]), DEPENDENT, ".parquet"),
    Rows("shares", SHARES, DEPENDENT, ".npy"),
    Rows("percentages in float32", (100 * SHARES).astype(np.float32), DEPENDENT, ".npy"),
    Rows("all of one class, and its complement",
         third(np.arange(60) // 30)[:, [0, 1, 2, 2]] * [1, 1, 1, -1] + [0, 0, 0, 1], DEPENDENT,
         ".npy"),
    # Beside the rows
    Rows("too few labels", X, "y has 2 labels, and X has", given={"y": [0, 1]}),
    Rows("labels of fractions", X, "Unknown label type: continuous", given={"y": X[:, 0]}),
    Rows("labels of two kinds", X, "Unknown label type",
         given={"y": np.array([0, "a"] * 30, dtype=object)}),
    Rows("labels of two axes", X, "1d array", given={"y": X}),
    Rows("labels that are masked", X, "y[0] is masked",
         given={"y": np.ma.masked_array(np.zeros(60), mask=True)}),
    Rows("too few weights", X, "give one number for each row", given={"sample_weight": [1.0]}),
    Rows("negative weights", X, "Negative values in sample_weight",
         given={"sample_weight": -np.ones(60)}),
    Rows("weights of NaN", X, "sample_weight holds NaN",
         given={"sample_weight": np.full(60, np.nan)}),
    Rows("weights of zero", X, "zero for every row", given={"sample_weight": np.zeros(60)}),
    Rows("weights that are masked", X, "sample_weight[0] is masked",
         given={"sample_weight": np.ma.masked_array(np.ones(60), mask=True)}),
    Rows("too few clusters", X, "clusters must give each of 60 rows", given={"clusters": [0]}),
    Rows("clusters beyond K", X, "a cluster, 0 to 1", given={"clusters": np.arange(60)}),
    Rows("clusters of fractions", X, "a cluster, 0 to 1", given={"clusters": X[:, 0]}),
]  # fmt: skip


def option(name, value):
    return ["--set", f"{name}={value}"]


PARAMETERS = [
    Parameter("no components", {"n_components": 0}, ["-k", "0"], "n_components=0 must be a whole"),
    Parameter("negative components", {"n_components": -1}, ["-k", "-1"], "n_components=-1 must be"),
    Parameter("half a component", {"n_components": 2.5}, ["-k", "2.5"], "n_components=2.5 must be"),
    Parameter("components of text", {"n_components": "two"}, ["-k", "two"], "n_components='two'"),
    Parameter("components of True", {"n_components": True}, None, "n_components=True must be"),
    Parameter("more components than rows", {"n_components": 61}, ["-k", "61"],
              "is more than the 60 distinct rows", 1),
    Parameter("no candidates", {"max_components": 0}, option("max_components", 0),
              "max_components=0"),
    Parameter("bounds that are no pair", {"bounds": {"x": 3}}, ["--bounds", "x=3"],
              "must be a pair of numbers, the lower one first"),
    Parameter("bounds in the wrong order", {"bounds": {0: (1, 0)}}, ["--bounds", "x=1,0"],
              "must be a pair of numbers, the lower one first"),
    Parameter("bounds of text", {"bounds": {0: ("a", "b")}}, ["--bounds", "x=a,b"],
              "must be a pair of numbers, the lower one first"),
    Parameter("rows beyond a bound", {"bounds": {0: (1e6, None)}}, ["--bounds", "x=1e6,"],
              "values beyond its bounds 1e+06 and inf", 1),
    Parameter("bounds of no column", {"bounds": {"z": (0, 1)}}, ["--bounds", "z=0,1"],
              "bounds names the column 'z', and X has", 1),
    Parameter("a period of zero", {"periodic": {0: 0}}, ["--periodic", "x=0"],
              "must be a number above 0: the period"),
    Parameter("a period of text", {"periodic": {0: "day"}}, ["--periodic", "x=day"],
              "must be a number above 0"),
    Parameter("a period without a column", {"periodic": 24}, None, "must be a dictionary"),
    Parameter("a period of nothing", {"periodic": {"": 0}}, ["--periodic", "24"],
              "must be a number above 0"),
    Parameter("an unknown way with missing values", {"missing": "drop"}, ["--missing", "drop"],
              "choose"),
    Parameter("missing values and a period", {"missing": "marginal", "periodic": {0: 9}},
              ["--missing", "marginal", "--periodic", "x=9"], "cannot be combined with periodic"),
    Parameter("a period and bounds", {"periodic": {0: 9}, "bounds": {0: (0, 9)}},
              ["--periodic", "x=9", "--bounds", "x=0,9"], "both have the column"),
    Parameter("half precision", {"precision": "half"}, option("precision", "half"),
              "precision='half' is not known"),
    Parameter("no such flow", {"flow": "glow"}, ["--flow", "glow"], "flow='glow' is not known"),
    Parameter("a flow of None", {"flow": None}, None, "flow=None is not known"),
    Parameter("negative layers", {"flow__n_layers": -1}, option("flow__n_layers", -1),
              "n_layers=-1 must be a whole number"),
    Parameter("no width", {"flow__hidden": (0,)}, option("flow__hidden", "0,"), "hidden=(0,) must"),
    Parameter("a width of text", {"flow__hidden": "wide"}, option("flow__hidden", "wide"),
              "hidden='wide' must be a sequence"),
    Parameter("no such mixing", {"flow__mixing": "stir"}, option("flow__mixing", "stir"),
              "mixing='stir' is not known"),
    Parameter("no such setting", {"flow__n_bins": 3}, option("flow__n_bins", 3),
              "n_bins is not a parameter of RealNVP"),
    Parameter("no such parameter", {"epochs": 3}, option("epochs", 3),
              "epochs is not a parameter of FlowMixture"),
    Parameter("no atoms", {"base": 0}, ["--base", "0"], "base=0 must be a whole number"),
    Parameter("atoms of text", {"base": "many"}, ["--base", "many"], "base='many' must be"),
    Parameter("atoms without a start", {"base": 2, "init": "none"},
              ["--base", "2", "--init", "none"], "cannot be combined with init='none'", 1),
    Parameter("no such posterior", {"posterior": "forest"}, option("posterior", "forest"),
              "posterior='forest' is not known"),
    Parameter("a posterior of no width", {"posterior__hidden": (-1,)},
              option("posterior__hidden", "-1,"), "hidden=(-1,) must be"),
    Parameter("no such weights", {"weights": "equal"}, ["--weights", "equal"], "weights='equal'"),
    Parameter("too many weights", {"weights": [0.2, 0.3, 0.5]}, ["--weights", "0.2,0.3,0.5"],
              "must be 2 positive numbers", 1),
    Parameter("weights that sum to two", {"weights": [1, 1]}, ["--weights", "1,1"],
              "sum to one", 1),
    Parameter("negative weights", {"weights": [-0.5, 1.5]}, ["--weights=-0.5,1.5"],
              "positive numbers", 1),
    Parameter("no such objective", {"objective": "mse"}, option("objective", "mse"),
              "objective='mse' is not known"),
    Parameter("no temperature", {"temperature": 0}, option("temperature", 0),
              "temperature=0 must be positive"),
    Parameter("an infinite temperature", {"temperature": np.inf}, option("temperature", "1e999"),
              "must be positive and finite"),
    Parameter("three temperatures", {"temperature": (3, 2, 1)}, option("temperature", "3,2,1"),
              "must be a number or a pair"),
    Parameter("negative epochs of a decay", {"temperature_epochs": -1},
              option("temperature_epochs", -1), "temperature_epochs=-1"),
    Parameter("a decay beyond the end", {"temperature_epochs": 9, "max_epochs": 3},
              [*option("temperature_epochs", 9), "--max-epochs", "3"], "must be less than", 1),
    Parameter("no such start", {"init": "best"}, ["--init", "best"], "init='best' is not known"),
    Parameter("centres of another shape", {"init": [[0.0]]}, None, "has shape (1, 1)"),
    Parameter("centres of NaN", {"init": [[0.0, np.nan], [1.0, 1.0]]}, None, "init holds NaN"),
    Parameter("no fits", {"n_init": 0}, ["--restarts", "0"], "n_init=0 must be"),
    Parameter("negative epochs", {"max_epochs": -1}, ["--max-epochs", "-1"], "max_epochs=-1 must"),
    Parameter("all rows held out", {"validation_fraction": 1.0}, option("validation_fraction", 1.0),
              "validation_fraction=1.0 must be"),
    Parameter("held out NaN", {"validation_fraction": np.nan}, option("validation_fraction", "nan"),
              "must be a number at least 0 and below 1"),
    Parameter("no learning rate", {"training__learning_rate": 0},
              option("training__learning_rate", 0), "learning_rate=0 must be a number above 0"),
    Parameter("no such schedule", {"training__learning_rate_schedule": "up"},
              option("training__learning_rate_schedule", "up"), "='up' is not known"),
    Parameter("no batch", {"training__batch_size": 0}, option("training__batch_size", 0),
              "batch_size=0 must be"),
    Parameter("no patience", {"training__patience": 0}, option("training__patience", 0),
              "patience=0 must be"),
    Parameter("no such perturbation", {"training__consistency": "blur"},
              option("training__consistency", "blur"), "consistency='blur' is not known"),
    Parameter("averaging of one", {"training__averaging": 1.0}, option("training__averaging", 1.0),
              "averaging=1.0 must be"),
    Parameter("a training of text", {"training": "fast"}, option("training", "fast"),
              "must be a Training"),
    Parameter("no such device", {"device": "toaster"}, ["--device", "toaster"],
              "device='toaster' is not available", 1),
    Parameter("a device of a number", {"device": 7}, None, "device=7 must be the name of a device"),
    Parameter("a checkpoint of a number", {"checkpoint": 7}, None, "checkpoint=7 must be the path"),
    Parameter("a negative seed", {"random_state": -1}, None, "Seed must be between 0"),
]  # fmt: skip

MODELS = [
    Model("a flipped bit", "flip", "is damaged|not a model file"),
    Model("a flipped bit of the header", "flip_in_header", "is damaged|not a|format version"),
    Model("a missing end", "cut", "not a model file, or is damaged"),
    Model("bytes more", "lengthen", "not a model file, or is damaged"),
    Model("a digit of the header", "edit_header", "is damaged|not a|format version"),
    Model("a CSV file", GOOD.encode(), "not a model file, or is damaged"),
    Model("an empty file", b"", "not a model file, or is damaged"),
    Model("a pickle", b"\x80\x04K\x05.", "not a model file, or is damaged"),
    Model("a missing key", {"verdict": ...}, "missing required field `verdict`"),
    Model("a key more", {"other": 1}, "unknown field `other`"),
    Model("text for a number", {"n_features": "2"}, "Expected `int`, got `str`"),
    Model("a fraction of features", {"n_features": 2.5}, "Expected `int`, got `float`"),
    Model("1e9 features", {"n_features": 10**9}, "1000000000 features"),
    Model("no features", {"n_features": 0}, "Expected `int` >= 1"),
    Model("equal classes", {"classes": [1, 1]}, "a class occurs twice"),
    Model("a class more", {"classes": [0, 1, 2]}, "there are 3 classes"),
    Model("nested classes", {"classes": [[0], [1]]}, "got `array`"),
    Model("float16", {"dtype": "float16"}, "Invalid enum value 'float16'"),
    Model("a function for a type", {"dtype": "manual_seed"}, "Invalid enum value 'manual_seed'"),
    Model("NaN for a weight", {"broad_weight": "NaN"}, "Expected `float`, got `str`"),
    Model("a negative weight", {"broad_weight": -0.1}, "Expected `float` >= 0"),
    Model("no such flow", {"parameters__flow": "glow"}, "flow='glow' is not known"),
    Model("a class of Python", {"parameters__flow": {"type": "Popen"}}, "it needs Popen"),
    Model("no temperature", {"parameters__temperature": 0.0}, "temperature=0.0 must be positive"),
    Model("1e9 units", {"parameters__posterior": {"type": "PosteriorMLP", "hidden": [10**9]}},
          "more weights than there are"),
    Model("a history of two lengths", {"history__elbo": [1.0] * 7}, "differ in length"),
]  # fmt: skip

GOOD_FRAME = {"x": X[:, 0], "y": X[:, 1]}

USES = [
    Use("a feature is missing", "score", {"x": X[:, 0]}, [], "has no column 'y'", 1,
        "score_samples", "feature names"),
    Use("a feature too many, without names", "score", {"0": X[:, 0], "1": X[:, 1], "2": X[:, 0]},
        [], "The model has 2 features and the table offers 3", 1, "score_samples", "feature names"),
    Use("a feature is NaN", "score", {"x": X[:, 0], "y": spread(np.nan)[:, 1]}, [],
        "column 'y', row 1 is NaN, one of 5", 1, "score_samples", "in row 0, column 'y', one of 5"),
    Use("a feature is infinite", "predict", {"x": X[:, 0], "y": spread(np.inf)[:, 1]}, [],
        "column 'y', row 1 is infinite", 1, "predict", "X contains infinity in row 0, column 'y'"),
    Use("a feature is text", "predict", {"x": X[:, 0], "y": ["few"] * 60}, [],
        "'y' is not numeric", 1, "predict", "Column 'y' of X holds no numbers"),
    Use("a feature holds dates", "predict", {"x": X[:, 0], "y": DAYS}, [],
        "'y' holds dates or times", 1, "predict", "Column 'y' of X holds dates"),
    Use("too few columns are chosen", "score", GOOD_FRAME, ["--columns", "x"],
        "offers 1 columns"),
    Use("columns that are not there", "score", GOOD_FRAME, ["--columns", "x,z"], "no column 'z'"),
    Use("a result's name is taken", "score", GOOD_FRAME | {"log_prob": X[:, 0]}, [],
        "The result's column 'log_prob' is already in the table"),
    Use("a place that is not there", "score", GOOD_FRAME, ["-o", "none/a.csv"],
        "does not exist: create it first"),
    Use("a format that is not known", "score", GOOD_FRAME, ["-o", "a.xlsx"], "the ending '.xlsx'"),
    Use("no samples", "sample", None, ["-n", "0"], "Invalid value for '--number'", 2),
    Use("samples of text", "sample", None, ["-n", "many"], "a valid integer", 2),
    Use("samples of no component", "sample", None, ["--component", "seven"], "seven", 1),
    Use("an option that is not there", "score", GOOD_FRAME, ["--fast"], "--fast", 2),
    Use("a picture of no kind", "plot", GOOD_FRAME, ["--kind", "cake", "-o", "a.png"], "cake", 2),
    Use("no such method", "predict", GOOD_FRAME, ["--method", "guess"], "guess", 2),
]  # fmt: skip

ALL = [*TABLES, *ROWS_OF_PYTHON, *PARAMETERS, *MODELS, *USES]
