"""CSV files in, blocks of numbers out: every bad input has one clear error, and no parser setting changes a bit."""

from __future__ import annotations

import contextlib
import csv
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from numpy.typing import NDArray

from flowgraph.data import Ingested, find_files, ingest_csv, moments_of
from flowgraph.errors import DataError, FlowgraphError, InputNotFoundError, OutputExistsError, UsageError

pytest.importorskip("pyarrow")

GOOD = "x,y\n1,10\n2,20\n3,31\n"
LONG = "x,y\n" + "".join(f"{row},{row % 7}\n" for row in range(3000))


def write(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def ingest_text(folder: Path, content: str | bytes, **options: Any) -> Ingested:
    write(folder, {"rows.csv": content})
    return ingest_csv(folder / "rows.csv", **{"target": "y", **options})


def table(data: Ingested) -> NDArray[np.float64]:
    return np.concatenate(data.features)


@dataclass(frozen=True)
class Bad:
    name: str
    files: dict[str, str | bytes]
    error: type[FlowgraphError]
    asked: str
    found: str
    remedy: str
    options: dict[str, Any] = field(default_factory=dict)
    paths: tuple[str, ...] = ("a.csv",)


def one(content: str | bytes) -> dict[str, str | bytes]:
    return {"a.csv": content}


def text_cell(cell: str) -> Bad:
    content = f'x,y\n1,1\n2,2\n"{cell}",3\n'
    shown = f"text in a numeric column: {cell!r} in column 'x', line 4 of "
    return Bad(f"text {cell!r}", one(content), DataError, "column 'x'", shown, "Correct the cells")


def missing_cell(cell: str) -> Bad:
    found = "missing values: 1 in column 'x' (first: line 3 of "
    return Bad(f"missing {cell!r}", one(f"x,y\n1,1\n{cell},2\n3,3\n"), DataError, "'x', 'y'", found, "missing='drop'")


def infinite_cell(cell: str, **options: Any) -> Bad:
    found = "values that are infinite or beyond "
    return Bad(f"infinite {cell!r}", one(f"x,y\n1,1\n{cell},2\n3,3\n"), DataError, "'x'", found, "drop", options)


BAD = [
    # files
    Bad("missing file", {"rows.csv": GOOD}, InputNotFoundError, "row.csv", "no such file", "'rows.csv'", {},
        ("row.csv",)),
    Bad("missing folder", {"data/a.csv": GOOD}, InputNotFoundError, "a.csv", "no dir", "'data'", {}, ("dat/a.csv",)),
    Bad("glob of nothing", one(GOOD), InputNotFoundError, "*.tsv", "matches no file", "pattern", {}, ("*.tsv",)),
    Bad("directory", {"d/a.csv": GOOD}, InputNotFoundError, "d'", "is a directory", "*.csv", {}, ("d",)),
    Bad("no files", one(GOOD), UsageError, "read rows", "empty", "Name one file", {}, ()),
    Bad("file twice", one(GOOD), UsageError, "2 files", "the same file", "once", {}, ("a.csv", "*.csv")),
    # headers
    Bad("empty file", one(""), DataError, "a.csv", "file is empty", "first line"),
    Bad("blank file", one("\n\n"), DataError, "a.csv", "file is empty", "first line"),
    Bad("header only", one("x,y\n"), DataError, "a.csv", "only a header", "Add rows"),
    Bad("header only, no line end", one("x,y"), DataError, "a.csv", "only a header", "Add rows"),
    Bad("nameless header", one(",\n1,2\n"), DataError, "a.csv", "names no column", "first line"),
    Bad("empty among others", {"a.csv": GOOD, "b.csv": ""}, DataError, "b.csv", "empty", "leave", {},
        ("a.csv", "b.csv")),
    Bad("no header", one("1,2\n3,4\n"), DataError, "a.csv", "holds numbers, not names: '1', '2'", "features"),
    Bad("target in no header", one("1,2\n3,4\n"), DataError, "a.csv", "not names", "features", {"target": "2"}),
    Bad("duplicate column", one("x,y,x\n1,2,3\n"), DataError, "a.csv", "column is called 'x'", "own name"),
    Bad("semicolons", one("x;y\n1;2\n"), DataError, "a.csv", "one column, 'x;y'", "`--sep ';'`"),
    Bad("tabs", one("x\ty\n1\t2\n"), DataError, "a.csv", r"one column, 'x\ty'", r"`--sep '\t'`"),
    Bad("bars", one("x|y\n1|2\n"), DataError, "a.csv", "one column, 'x|y'", "`--sep '|'`"),
    Bad("unclosed header", one('x,"y\n1,2\n'), DataError, "header line", "unexpected end", "quote"),
    Bad("bare returns", one("x,y\r1,2\r"), DataError, "header line", "new-line character", "carriage return"),
    Bad("UTF-16 without mark", one(GOOD.encode("utf-16-le")), DataError, "header line", "NUL", "--encoding"),
    Bad("UTF-16", one(GOOD.encode("utf-16")), DataError, "a.csv", "byte 0 is not utf-8", "--encoding utf-16"),
    Bad("long header", one("x" * (1 << 24)), DataError, "header line", "longer than 16777216", "unclosed quote"),
    # names
    Bad("unknown target", one("x,weight\n1,2\n"), UsageError, "'wieght' as target", "no such column", "'weight'",
        {"target": "wieght"}),
    Bad("blank in a name", one("x, y\n1,2\n"), UsageError, "'y' as target", "it has 'x', ' y'", "mean ' y'"),
    Bad("unknown feature", one("x,Age,y\n1,2,3\n"), UsageError, "'age' as feature", "no such", "'Age'",
        {"features": ["x", "age"]}),
    Bad("target in features", one(GOOD), UsageError, "'x', 'y'", "'y' is the target too", "Take it out",
        {"features": ["x", "y"]}),
    Bad("feature twice", one(GOOD), UsageError, "'x', 'x'", "more than once: 'x'", "once", {"features": ["x", "x"]}),
    Bad("no features", one(GOOD), UsageError, "empty list", "no column", "None", {"features": []}),
    Bad("control characters", one("x\x1b[31m,y\n1,2\n"), UsageError, r"'a\x07b'", r"'x\x1b[31m'", "compared",
        {"target": "a\x07b"}),
    # columns across files
    Bad("column missing in a file", {"a.csv": "x,z,y\n1,2,3\n", "b.csv": "x,y\n1,2\n"}, DataError, "2 files",
        "b.csv' has no column 'z'", "same columns", {}, ("*.csv",)),
    Bad("column misspelt in a file", {"a.csv": GOOD, "b.csv": "X,y\n1,2\n"}, DataError, "2 files",
        "b.csv' has no column 'x'; ", "mean 'X'", {}, ("*.csv",)),
    Bad("column extra in a file", {"a.csv": GOOD, "b.csv": "x,y,z\n1,2,3\n"}, DataError, "2 files",
        "b.csv' has the column 'z', which the first has not", "same columns", {}, ("*.csv",)),
    Bad("named column missing in a file", {"a.csv": GOOD, "b.csv": "y\n1\n"}, DataError, "2 files",
        "b.csv' has no column 'x'", "same columns", {"features": "x"}, ("*.csv",)),
    # cells
    *map(text_cell, ["1,000", "$5", "5%", "1_000", "0x1F", "1D3", "\u22125", "\u00a05", "1 2", "--1", "1e", "x\0",
                     "1.2.3", "\uff11", "true", "2020-01-02", "nan?", "1\n2"]),
    Bad("text far down", one(LONG + "oops,1\n"), DataError, "'x'", "'oops' in column 'x', line 3002 of", "Correct"),
    Bad("text behind quoted line ends", one('t,x,y\n"a\nb",1,2\n\n"c\r\nd",2,3\ne,f,4\n'), DataError, "'x'",
        "'f' in column 'x', line 7 of", "Correct"),
    Bad("text in the second file", {"a.csv": GOOD, "b.csv": "y,x\n1,oops\n"}, DataError, "'x'", "line 2 of",
        "Correct", {}, ("a.csv", "b.csv")),
    Bad("text in a named feature", one("x,y\na,1\nb,2\n"), DataError, "'x'", "'a' in column 'x', line 2", "Correct",
        {"features": "x"}),
    Bad("text target", one("x,y\n1,a\n2,b\n"), DataError, "'y'", "'a' in column 'y', line 2 of", "Correct"),
    Bad("several text cells", one("x,z,y\n1,a,1\n2,3,b\nc,4,5\n6,7,8\n"), DataError, "'z'",
        "'a' in column 'z', line 2", "Correct"),
    Bad("foreign notation", one('x,y\n"1,5",2\n"2,5",3\n'), DataError, "cells of column 'x'", "'1,5', '2,5'",
        "`--decimal ','`"),
    Bad("decimal comma unasked", one("x;y\n1,5;2\n2;3\n"), DataError, "'x'", "'1,5' in column 'x', line 2",
        "decimal_point=','", {"delimiter": ";"}),
    Bad("point unasked", one("x;y\n1.5;2\n2;3\n"), DataError, "'x'", "'1.5' in column 'x', line 2", "Correct",
        {"delimiter": ";", "decimal_point": ","}),
    Bad("no numbers at all", one("x,y\na,1\nb,2\n"), DataError, "besides the target 'y'", "left out: 'x'", "--sep"),
    Bad("nothing but the target", one("y\n1\n2\n"), DataError, "besides the target 'y'", "no other column", "--sep"),
    *map(missing_cell, ["", "NA", "null", "None", "NaN", "nan", " ", " NA ", '""', '" "', "-nan"]),
    *map(infinite_cell, ["inf", "-Infinity", "1e400", "-1e400", "+inf"]),
    infinite_cell("1e39", dtype=np.float32),
    Bad("missing target", one("x,y\n1,1\n2,\n3,3\n"), DataError, "'y'", "1 in column 'y' (first: line 3", "drop"),
    Bad("missing in two files", {"a.csv": "x,z,y\n1,,3\n,2,4\n", "b.csv": "z,y,x\n,5,6\n1,inf,3\n"}, DataError,
        "'x', 'z', 'y'", "missing values: 1 in column 'x' (first: line 3 of ", "drop", {}, ("*.csv",)),
    Bad("everything dropped", one("x,y\n1,\n,2\n"), DataError, "a.csv", "all 2 rows hold a missing", "Fill in",
        {"missing": "drop"}),
    Bad("blank line in one column", one("y\n1\n\n2\n"), DataError, "'y'", "1 in column 'y' (first: line 3", "drop",
        {"target": None}),
    Bad("lost digits", one("x,y\n1,1\n9007199254740993,2\n"), DataError, "column 'x'",
        "integer '9007199254740993', line 3 of", "identifier"),
    Bad("lost digits, negative", one("x,y\n1,1\n -12345678901234567890 ,2\n"), DataError, "column 'x'",
        "the integer ' -12345678901234567890 ', line 3 of", "identifier"),
    # rows
    Bad("extra field in the first row", one("x,y\n1,2,3\n4,5,6\n"), DataError, "a.csv",
        "line 2 has 3 fields where the header has 2: '1', '2', '3'", "','"),
    Bad("extra field", one(LONG + "1,2,3\n"), DataError, "a.csv", "line 3002 has 3 fields", "as many fields"),
    Bad("field short", one("x,y\n1,2\n\n3\n"), DataError, "a.csv", "line 4 has 1 fields where", "as many fields"),
    Bad("extra field in one column", one("y\n1\n\n2,3\n"), DataError, "a.csv", "line 4 has 2 fields", "as many",
        {"target": None}),
    Bad("short row behind a long cell", one(f"x,y,t\n1,2,{'a' * 200_000}\n1,2\n"), DataError, "a.csv",
        "Expected 3 columns, got 2", "Correct the file"),
    Bad("text behind a long cell", one(f"x,y,t\n1,2,{'a' * 200_000}\nb,2,c\n"), DataError, "'x'",
        "'b' in column 'x', data row 2 of", "Correct the cells"),
    Bad("unclosed quote", one('x,y,t\n1,2,a\n2,3,"b\n3,4,c\n'), DataError, "a.csv", "line 3: a quote does not close",
        "Close"),
    Bad("row beyond the chunk", one('x,y,t\n1,2,"' + "a" * 300 + '"\n'), DataError, "a.csv", "longer than 64 bytes",
        "chunk_bytes", {"chunk_bytes": 64}),
    Bad("not UTF-8", one(b"x,y,t\n1,2,a\n3,4,\xe9\n"), DataError, "a.csv", "byte 16 is not utf-8", "latin-1"),
    Bad("not UTF-8 behind a mark", one(b"\xef\xbb\xbfx,y,t\n1,2,\xe9\n"), DataError, "a.csv", "byte 13 is", "latin-1"),
    Bad("not UTF-8 far down", one(LONG.encode() * 40 + b"\xc3"), DataError, "a.csv", f"byte {len(LONG) * 40} is not",
        "latin-1"),
    # too little to learn from
    Bad("constant feature", one("x,z,y\n1,5,1\n2,5,2\n3,5,3\n"), DataError, "learn 'y'", "over 3 rows: 'z'",
        "allow_constant"),
    Bad("few rows", one("a,b,c,y\n1,2,3,4\n3,2,1,4\n"), DataError, "from 3 features", "only 2 rows", "--ridge"),
    # arguments
    Bad("missing=mean", one(GOOD), UsageError, "'mean'", "'drop'", "Use", {"missing": "mean"}),
    Bad("integer dtype", one(GOOD), UsageError, "int", "float32", "dtypes", {"dtype": np.int64}),
    Bad("no dtype", one(GOOD), UsageError, "'fast'", "float32", "dtypes", {"dtype": "fast"}),
    Bad("byte order", one(GOOD), UsageError, ">f8", "float32", "dtypes", {"dtype": ">f8"}),
    Bad("no block", one(GOOD), UsageError, "in blocks", "block_rows is 0", "at least 1", {"block_rows": 0}),
    Bad("half a block", one(GOOD), UsageError, "in blocks", "block_rows is 0.5", "at least 1", {"block_rows": 0.5}),
    Bad("long delimiter", one(GOOD), UsageError, "'||'", "part of a cell", "one character", {"delimiter": "||"}),
    Bad("digit delimiter", one(GOOD), UsageError, "'1'", "part of a cell", "one character", {"delimiter": "1"}),
    Bad("decimal point", one(GOOD), UsageError, "'_'", "only", "decimal_point='.'", {"decimal_point": "_"}),
    Bad("encoding", one(GOOD), UsageError, "'utf-9'", "unknown encoding", "latin-1", {"encoding": "utf-9"}),
    Bad("no text encoding", one(GOOD), UsageError, "'hex'", "not a text encoding", "latin-1", {"encoding": "hex"}),
    Bad("no encoding", one(GOOD), UsageError, "encoding=None", "must be str", "latin-1", {"encoding": None}),
    Bad("no delimiter", one(GOOD), UsageError, "None", "part of a cell", "one character", {"delimiter": None}),
    Bad("no name", one(GOOD), UsageError, "feature 0", "by name", "first line", {"features": [0]}),
    Bad("no limit", one(GOOD), UsageError, "limit", "'1GB'", "2**30", {"memory_limit_bytes": "1GB"}),
    Bad("no chunk", one(GOOD), UsageError, "chunks", "chunk_bytes is 0", "2**20", {"chunk_bytes": 0}),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=[bad.name for bad in BAD])
def test_bad_input_has_one_clear_error(bad: Bad, tmp_path: Path) -> None:
    write(tmp_path, bad.files)
    with pytest.raises(bad.error) as caught:
        ingest_csv([tmp_path / path for path in bad.paths], **{"target": "y", **bad.options})
    error = caught.value
    assert type(error) is bad.error
    assert bad.asked in error.asked
    assert bad.found in error.found
    assert bad.remedy in error.remedy
    assert re.search(r"[.?)'\w]$", error.remedy)
    assert "\x1b" not in str(error)
    assert len(str(error)) < 4000


@pytest.mark.parametrize("paths", [3, b"a.csv", [None]])
def test_what_is_no_name_of_a_file(paths: Any) -> None:
    with pytest.raises(UsageError, match="not the name of a file"):
        find_files(paths)


def test_several_files_report_all_counts(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": "x,z,y\n1,,3\n,2,4\n", "b.csv": "z,y,x\n,5,6\n1,inf,3\n"})
    with pytest.raises(DataError) as caught:
        ingest_csv(tmp_path / "*.csv", target="y")
    found = re.sub(r"'[^']*/", "'", caught.value.found)
    assert found == (
        "missing values: 1 in column 'x' (first: line 3 of 'a.csv'), 2 in column 'z' (first: line 2 of 'a.csv'); "
        "values that are infinite or beyond float64: 1 in column 'y' (first: line 3 of 'b.csv')"
    )


def test_text_cells_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = "".join(f"{row},{row},{row}\n" for row in range(5)) + "1,b,1\na,1,1\n" + "c,c,c\n" * 9
    with pytest.raises(DataError) as caught:
        ingest_text(tmp_path, "x,z,y\n" + rows)
    listed = re.findall(r"'(\w)' in column '(\w)', line (\d+)", caught.value.found)
    assert listed == [("b", "z", "7"), ("a", "x", "8"), ("c", "x", "9"), ("c", "z", "9"), ("c", "y", "9")]


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"rows.csv": GOOD})

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputNotFoundError, match="Permission denied"):
        find_files(tmp_path / "rows.csv")


def test_without_pyarrow_the_remedy_is_an_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install 'flowgraph\[dataframes\]'"):
        ingest_text(tmp_path, GOOD)


# Round trips


@st.composite
def written_tables(draw: st.DrawFn) -> tuple[NDArray[np.float64], str]:
    """A table of float64 and a CSV file that holds it as `repr` writes it."""
    columns = draw(st.integers(1, 4))
    finite = st.floats(allow_nan=False, allow_infinity=False)
    rows = draw(st.lists(st.lists(finite, min_size=columns, max_size=columns), min_size=1, max_size=40))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    lines = [",".join(f"c{position}" for position in range(columns))]
    for row in rows:
        cells = [draw(st.sampled_from(["{}", " {} ", '"{}"'])).format(repr(value)) for value in row]
        lines.append(",".join(cells))
    text = end.join(lines) + draw(st.sampled_from(["", end]))
    return np.array(rows), draw(st.sampled_from(["", "\ufeff"])) + text


@given(written=written_tables(), block_rows=st.integers(1, 50), chunk_bytes=st.integers(256, 2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_repr_writes_comes_back_to_the_bit(
    tmp_path: Path, written: tuple[NDArray[np.float64], str], block_rows: int, chunk_bytes: int
) -> None:
    values, text = written
    data = ingest_text(tmp_path, text, target=None, block_rows=block_rows, chunk_bytes=chunk_bytes)
    assert table(data).tobytes() == values.tobytes()
    assert data.rows == len(values)
    assert [len(block) for block in data.features[:-1]] == [block_rows] * (len(data.features) - 1)
    assert 0 < len(data.features[-1]) <= block_rows
    assert all(block.flags.c_contiguous and not block.flags.writeable for block in data.features)
    assert data.moments.minimum.tobytes() == values.min(axis=0).tobytes()
    assert data.moments.maximum.tobytes() == values.max(axis=0).tobytes()


@given(
    rows=st.lists(st.tuples(st.floats(-1e6, 1e6), st.text('ab\n\r" ,é', max_size=9), st.floats(-1, 1)), min_size=1),
    chunk_bytes=st.integers(128, 1000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_quoted_text_does_not_disturb_the_numbers(
    tmp_path: Path, rows: list[tuple[float, str, float]], chunk_bytes: int
) -> None:
    with (tmp_path / "quoted.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("x", "t", "y"), *rows])
    data = ingest_csv(tmp_path / "quoted.csv", target="y", features="x", chunk_bytes=chunk_bytes, allow_constant=True)
    assert table(data)[:, 0].tolist() == [row[0] for row in rows]
    assert np.concatenate(data.target).tolist() == [row[2] for row in rows]


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes) -> None:
    with contextlib.suppress(DataError):
        ingest_text(tmp_path, b"x,y\n1,2\n" + content, allow_constant=True, allow_few_rows=True)


@given(st.text('12.e-,"\n\r ax', max_size=60), st.integers(70, 200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_parser_chunk_changes_neither_rows_nor_error(tmp_path: Path, content: str, chunk_bytes: int) -> None:
    def outcome(size: int) -> object:
        try:
            data = ingest_text(tmp_path, "x,y\n" + content, target=None, features=["x", "y"], chunk_bytes=size)
        except DataError as error:
            return error.asked, error.remedy
        return table(data).tobytes()

    assert outcome(chunk_bytes) == outcome(1 << 20)


# What is read


def test_blocks_moments_and_bookkeeping(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(5000, 3)) * [1, 1e-4, 1e8] + [0, 1, 1e6]
    lines = "".join(f"{row[0]!r},{row[1]!r},t{row[0]},{row[2]!r}\n" for row in values.tolist())
    content = f"a,b,t,y\n{lines}"
    seen: list[int] = []
    options = {"block_rows": 1024, "progress": seen.append}
    data = ingest_text(tmp_path, content, chunk_bytes=4096, **options)
    assert data.feature_names == ("a", "b")
    assert (data.target_name, data.skipped, data.rows, data.dropped_rows) == ("y", ("t",), 5000, 0)
    assert [len(block) for block in data.features] == [len(block) for block in data.target] == [1024] * 4 + [904]
    np.testing.assert_array_equal(table(data), values[:, :2])
    np.testing.assert_array_equal(np.concatenate(data.target), values[:, 2])
    assert seen == sorted(seen)
    assert seen[-1] == len(content)
    assert data.target_moments is not None
    for moments, part in ((data.moments, values[:, :2]), (data.target_moments, values[:, 2])):
        np.testing.assert_allclose(moments.mean, part.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(moments.variance, part.var(axis=0), rtol=1e-9)
        np.testing.assert_array_equal(moments.minimum, part.min(axis=0))
        np.testing.assert_array_equal(moments.maximum, part.max(axis=0))
        np.testing.assert_array_equal(moments.count, np.full(part.shape[1:], 5000.0))
    again = ingest_text(tmp_path, content, block_rows=1024)
    assert again.moments.variance.tobytes() == data.moments.variance.tobytes()
    assert again.moments.mean.tobytes() == data.moments.mean.tobytes()


def test_float32_blocks_have_float64_moments(tmp_path: Path) -> None:
    data = ingest_text(tmp_path, "x,y\n0.1,1\n0.2,2\n", dtype=np.float32)
    assert data.features[0].dtype == data.target[0].dtype == np.float32
    assert data.moments.mean.dtype == np.float64
    np.testing.assert_array_equal(table(data), np.array([[0.1], [0.2]], np.float32))


def test_moments_keep_their_digits_far_from_zero() -> None:
    values = np.random.default_rng(1).normal(size=100_000) + 1e9
    moments = moments_of(np.array_split(values, 7))
    np.testing.assert_allclose(moments.variance, values.var(), rtol=1e-7)
    constant = moments_of([np.full((3000, 1), 0.1)])
    assert (constant.mean[0], constant.variance[0]) == (0.1, 0.0)


def test_several_files_in_any_column_order(tmp_path: Path) -> None:
    write(tmp_path, {"b2.csv": "y,x\n3,30\n", "a.csv": "x,y\n10,1\n", "b1.csv": "x,y\n20,2\n", "c.csv": "x,y\n"})
    data = ingest_csv([str(tmp_path / "b*.csv"), tmp_path / "a.csv", tmp_path / "c.csv"], target="y", block_rows=2)
    assert [path.name for path in data.files] == ["b1.csv", "b2.csv", "a.csv", "c.csv"]
    assert [block.tolist() for block in data.features] == [[[20.0], [30.0]], [[10.0]]]
    assert [block.tolist() for block in data.target] == [[2.0, 3.0], [1.0]]


def test_a_file_whose_name_is_a_pattern(tmp_path: Path) -> None:
    write(tmp_path, {"a[1].csv": GOOD})
    assert find_files(tmp_path / "a[1].csv") == (tmp_path / "a[1].csv",)


def test_named_features_need_no_other_column(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": "x,t,y\n1,a,1\n", "b.csv": "y,u,x\n2,b,2\n"})
    data = ingest_csv(tmp_path / "*.csv", target="y", features=["x"])
    assert table(data).tolist() == [[1.0], [2.0]]


def test_features_keep_the_order_they_are_named_in(tmp_path: Path) -> None:
    data = ingest_text(tmp_path, "a,b,y\n1,2,3\n4,6,5\n", features=["b", "a"])
    assert table(data).tolist() == [[2.0, 1.0], [6.0, 4.0]]


def test_numbers_may_be_names_if_they_are_listed(tmp_path: Path) -> None:
    data = ingest_text(tmp_path, "0,1\n5,6\n7,8\n", target="1", features=["0"])
    assert table(data).tolist() == [[5.0], [7.0]]


def test_rows_to_predict_may_be_few_and_constant(tmp_path: Path) -> None:
    data = ingest_text(tmp_path, "b,t,a\n1,x,2\n", target=None, features=["a", "b"])
    assert (table(data).tolist(), data.target, data.target_moments) == ([[2.0, 1.0]], (), None)


def test_allowances(tmp_path: Path) -> None:
    data = ingest_text(tmp_path, "a,b,y\n1,2,3\n", allow_constant=True, allow_few_rows=True)
    assert data.rows == 1


def test_dropped_rows_are_counted(tmp_path: Path) -> None:
    content = "x,y\n1,1\n,2\n3,inf\n4,4\nNA,NA\n6,6\n"
    data = ingest_text(tmp_path, content, missing="drop", block_rows=2)
    assert (data.rows, data.dropped_rows) == (3, 3)
    assert [block.tolist() for block in data.features] == [[[1.0], [4.0]], [[6.0]]]
    assert [block.tolist() for block in data.target] == [[1.0, 4.0], [6.0]]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        pytest.param("x;y\n1,5;2\n-,5;3e1\n", {"delimiter": ";", "decimal_point": ","}, id="decimal comma"),
        pytest.param('x,y\n"1,5",2\n"-,5","30,0"\n', {"decimal_point": ","}, id="quoted decimal comma"),
        pytest.param("x\ty\n1.5\t2\n-.5\t30.\n", {"delimiter": "\t"}, id="tabs"),
        pytest.param("\ufeffx,y\n1.5,2\n-0.5,30\n", {}, id="byte order mark"),
        pytest.param("\n  \nx,y\n\n1.5,2\n\n-0.5,30\n\n\n", {}, id="blank lines"),
        pytest.param("x,y,\n1.5,2,\n-0.5,30,\n", {}, id="trailing comma"),
        pytest.param("x,y\r\n+1.5, +2\r\n-0.5 ,3e+01\r\n", {}, id="signs and blanks"),
        pytest.param("é,x,y\né,1.5,2\né,-0.5,30\n".encode("cp1252"), {"encoding": "cp1252"}, id="cp1252"),
        pytest.param("x,y\n1.5,2\n-0.5,30\n".encode("utf-16"), {"encoding": "utf-16"}, id="utf-16"),
        pytest.param('t,x,y\n5" pipe,1.5,2\nnone,-0.5,30\n', {}, id="odd quote inside a cell"),
        pytest.param('x,y,t\n1.5,2,"a\n-0.5,30,""b"\n-0.5,30,c\n', {}, id="quoted quote"),
    ],
)
def test_dialects(tmp_path: Path, content: str | bytes, options: dict[str, Any]) -> None:
    data = ingest_text(tmp_path, content, **options)
    assert table(data)[:, 0].tolist() == [1.5, -0.5]
    assert np.concatenate(data.target).tolist() == [2.0, 30.0]


def test_unnamed_columns_are_left_out(tmp_path: Path) -> None:
    data = ingest_text(tmp_path, ",x,y\n0,1,2\n1,2,4\n")
    assert (data.feature_names, data.skipped) == (("x",), ("",))


def test_integers_that_float64_holds_are_fine(tmp_path: Path) -> None:
    data = ingest_text(tmp_path, f"x,y\n{2**53},1\n{10**22},2\n{2**70},3\n")
    assert table(data)[:, 0].tolist() == [2.0**53, 1e22, 2.0**70]


def test_the_row_decides_which_error_comes_first(tmp_path: Path) -> None:
    content = "x,z,y\n1,2,3\n1,oops,3\n9007199254740993,2,3\n"
    with pytest.raises(DataError, match="oops"):
        ingest_text(tmp_path, content)
    with pytest.raises(DataError, match="9007199254740993"):
        ingest_text(tmp_path, content.replace("1,2,3", "9007199254740993,2,3"))


# Blocks on disk


def test_spilled_blocks_equal_those_in_memory(tmp_path: Path) -> None:
    held = ingest_text(tmp_path, LONG, block_rows=256)
    for limit in (0, 10_000, held.rows * 16 - 1):
        folder = tmp_path / f"blocks{limit}" / "deep"
        data = ingest_text(tmp_path, LONG, block_rows=256, chunk_bytes=512, directory=folder, memory_limit_bytes=limit)
        assert sorted(path.name for path in folder.iterdir()) == ["features.npy", "target.npy"]
        for block, other in zip((*held.features, *held.target), (*data.features, *data.target), strict=True):
            assert isinstance(other, np.memmap)
            assert not other.flags.writeable
            assert other.flags.c_contiguous
            assert other.flags.aligned
            assert (other.shape, other.dtype) == (block.shape, block.dtype)
            assert other.tobytes() == block.tobytes()
        assert data.moments.variance.tobytes() == held.moments.variance.tobytes()
        assert np.load(folder / "features.npy", allow_pickle=False).shape == (3000, 1)


def test_few_rows_stay_in_memory(tmp_path: Path) -> None:
    data = ingest_text(tmp_path, LONG, directory=tmp_path / "blocks", memory_limit_bytes=3000 * 16)
    assert not isinstance(data.features[0], np.memmap)
    assert not (tmp_path / "blocks").exists()


def test_a_failed_pass_leaves_no_blocks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="oops"):
        ingest_text(tmp_path, LONG + "oops,1\n", directory=tmp_path / "blocks", memory_limit_bytes=0, chunk_bytes=512)
    assert list((tmp_path / "blocks").iterdir()) == []


def test_blocks_overwrite_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"blocks/target.npy": "precious"})
    with pytest.raises(OutputExistsError, match=r"target\.npy"):
        ingest_text(tmp_path, GOOD, directory=tmp_path / "blocks")
    with pytest.raises(UsageError, match="not a directory"):
        ingest_text(tmp_path, GOOD, directory=tmp_path / "blocks" / "target.npy")
    assert (tmp_path / "blocks/target.npy").read_text() == "precious"
