from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.exceptions import PanicException

from affinet.cli.files.table_files import read_examples
from affinet.errors import DataError

COLUMNS = {"a": [1, 2, 3], "b": [0.5, 1.5, -2.0], "c": [True, False, True], "y": ["u", "v", "u"]}


def write(folder: Path, columns: dict[str, Any], kind: str = "csv") -> Path:
    path = folder / f"table.{kind}"
    frame = pl.DataFrame(columns, strict=False)
    if kind == "csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_features_are_numbers_and_the_target_is_left_out_of_them(tmp_path: Path, kind: str) -> None:
    examples = read_examples(write(tmp_path, COLUMNS, kind), "y")
    np.testing.assert_array_equal(examples.features, [[1, 0.5, 1], [2, 1.5, 0], [3, -2, 1]])
    assert examples.target.tolist() == ["u", "v", "u"]
    assert (examples.source, examples.target_name, examples.kind) == (f"table.{kind}", "y", "text")


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("target", "expected"), [("a", "whole numbers"), ("b", "decimal numbers"), ("c", "truth values")]
)
def test_the_kind_of_the_target_is_told(tmp_path: Path, kind: str, target: str, expected: str) -> None:
    path = write(tmp_path, {name: values for name, values in COLUMNS.items() if name != "y"}, kind)
    assert read_examples(path, target).kind == expected


def test_categories_are_text(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    pl.DataFrame({"a": [1, 2]}).with_columns(y=pl.Series(["u", "v"], dtype=pl.Categorical)).write_parquet(path)
    assert read_examples(path, "y").kind == "text"


def refusal(path: Path, target: str = "y") -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path, target)
    return str(caught.value)


def test_a_column_that_is_not_there_is_named_with_its_neighbours(tmp_path: Path) -> None:
    told = refusal(write(tmp_path, {"kind": [1, 2], "size": [3, 4]}), "knid")
    assert "table.csv has no column 'knid'. Did you mean 'kind'? It has: kind, size." in told


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(("gap", "shown"), [(None, "1 value"), (float("nan"), "1 value"), (float("inf"), "1 value")])
def test_gaps_are_told_by_column_count_and_first_row(tmp_path: Path, kind: str, gap: float | None, shown: str) -> None:
    told = refusal(write(tmp_path, COLUMNS | {"b": [0.5, gap, 2.0]}, kind))
    place = "row 2, the header not counted" if kind == "parquet" else "line 3"
    assert f"has {shown} missing, NaN or infinite in column 'b', the first in {place}." in told


def test_gaps_in_the_target_are_told_too(tmp_path: Path) -> None:
    told = refusal(write(tmp_path, COLUMNS | {"y": ["u", None, None]}, "parquet"))
    assert "2 values missing, NaN or infinite in column 'y', the first in row 2" in told


STRAY = "has 1 value of 3 that is not a number in column 'b', the first in line 3 ('foo')."


def csv_of(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


@pytest.mark.parametrize("column", ["a", "y"])
@pytest.mark.parametrize(
    "word", ["nan", "NaN", "NAN", "-nan", "NA", "N/A", "null", "None", "?", "inf", "Infinity", " nan"]
)
@pytest.mark.parametrize("others", [("1.5", "2"), ("1", "2"), ("true", "False")])
def test_a_missing_value_is_one_however_it_is_written(
    tmp_path: Path, column: str, word: str, others: tuple[str, str]
) -> None:
    cells = (others[0], word, others[1])
    rows = [f"{k},{cell}" if column == "y" else f"{cell},{k}" for k, cell in enumerate(cells)]
    told = refusal(csv_of(tmp_path, "a,y\n" + "\n".join(rows) + "\n"))
    assert f"t.csv has 1 value missing, NaN or infinite in column {column!r}, the first in line 3" in told
    ignored = "" if column == "y" else " Or list the column in 'ignore' of [data]."
    assert told.endswith(f"Fill them in or remove the rows.{ignored}")


def test_a_missing_value_in_a_target_of_classes_is_no_class(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "a,y\n1,2\n2,nan\n3,4\n")
    with pytest.raises(DataError, match=r"missing, NaN or infinite in column 'y', the first in line 3 \('nan'\)"):
        read_examples(path, "y", classes=True)
    assert "in column 'y', the first in line 4 ('nan')" in refusal(csv_of(tmp_path, "a,y\n1,owl\n2,cat\n3,nan\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("1,1.5,2\n1,foo,3\n1,2,2\n", f"t.csv {STRAY} Write a number there, or remove the rows."),
        ("1,1.5,2\n1,foo,3\n1,nan,2\n", f"t.csv {STRAY} Write a number there, or remove the rows."),
        ("1,1.5,2\n1,true,3\n1,2,2\n", f"t.csv {STRAY.replace('foo', 'true')}"),
        (
            "1,true,2\n1,maybe,3\n",
            "1 value of 2 that is not true or false in column 'b', the first in line 3 ('maybe')",
        ),
        ('"1","1.5","2\n3"\n1,foo,3\n1,2,2\n', "in column 'b', the first in line 4 ('foo')"),
        ("1, 1.5,2\n1, 2,3\n", "numbers with spaces or a + around them in column 'b', the first in line 2 (' 1.5')"),
    ],
)
def test_a_word_among_numbers_is_told_by_its_line(tmp_path: Path, text: str, told: str) -> None:
    assert told in refusal(csv_of(tmp_path, f"a,b,y\n{text}"))


def test_empty_lines_are_counted(tmp_path: Path) -> None:
    told = refusal(csv_of(tmp_path, "\n\na,b,y\n1,1.5,2\n\n1,foo,3\n1,bar,3\n"))
    assert "has 2 values of 4 that are not a number in column 'b', the first in line 6 ('foo')" in told


def test_words_among_numbers_of_a_target_need_a_word_that_they_are_classes(tmp_path: Path) -> None:
    told = refusal(csv_of(tmp_path, "a,b\n1,1.5\n1,foo\n1,2\n"), "b")
    assert STRAY in told
    assert told.endswith(
        'Where the words are classes, say task = "classification" in [data], or affinet init --task classification.'
    )


def test_words_that_are_said_to_be_classes_are(tmp_path: Path) -> None:
    path = csv_of(tmp_path, "a,y\n1,1.5\n2,foo\n3,2\n")
    assert read_examples(path, "y", classes=True).target.tolist() == ["1.5", "foo", "2"]
    assert read_examples(csv_of(tmp_path, "a,y\n1,none\n2,NA\n"), "y").target.tolist() == ["none", "NA"]


def test_features_of_text_are_named_with_a_way_out(tmp_path: Path) -> None:
    told = refusal(write(tmp_path, {"name": ["x", "z"], "other": ["p", "q"], "n": [1, 2], "y": [1, 2]}))
    assert "features that are not numbers: name, other; 'name' is String (such as 'x')" in told
    assert "Say text = \"encode\" in [data], and each category is a feature. Or list the column in 'ignore'" in told


def test_dates_are_no_numbers_and_no_target(tmp_path: Path) -> None:
    path = write(tmp_path, {"day": [date(2024, 1, 1)] * 2, "y": [1, 2]}, "parquet")
    assert "not numbers: day; 'day' is Date (such as '2024-01-01')" in refusal(path)
    assert "the target 'day' of" in refusal(path, "day")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "t.csv is not a readable .csv file:"),
        ("t.csv", "a,y\n", "t.csv has no rows below its header"),
        ("t.csv", "a,y\n1,2\n3,4,5,6\n", "t.csv has 4 fields in line 3, and its first line has 2 names of columns."),
        ("t.csv", "a,a,y\n1,2,3\n", "t.csv has more than one column 'a'; rename one of them"),
        ("t.csv", "y\n1\n2\n", "t.csv has no column besides the target 'y'"),
        ("t.parquet", "nonsense", "t.parquet is not a readable .parquet file:"),
        ("t.xlsx", "nonsense", "t.xlsx is not a table that affinet reads; it reads .csv and .parquet files"),
    ],
)
def test_a_malformed_table_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    assert message in refusal(tmp_path / name)


def test_bytes_that_are_no_text_are_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"a,y\n\xff\xfe,1\n")
    assert "t.csv is not a readable .csv file:" in refusal(tmp_path / "t.csv")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "there is no data file" in refusal(tmp_path / "t.csv")
    assert "relative to the folder of the job file" in refusal(tmp_path / "t.csv")


def test_what_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.parquet").mkdir()
    assert "pipe.csv is a pipe or a device, not a file. Name a .csv file." in refusal(tmp_path / "pipe.csv")
    assert "folder.parquet is a folder, not a file. Name a .parquet file." in refusal(tmp_path / "folder.parquet")
    assert "cannot be read" in refusal(tmp_path / f"{'a' * 5000}.csv")


def test_a_panic_of_the_reader_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def panic(*arguments: Any, **options: Any) -> None:
        raise PanicException("index out of bounds")

    monkeypatch.setattr(pl, "read_csv", panic)
    assert "table.csv is not a readable .csv file: index out of bounds." in refusal(write(tmp_path, COLUMNS))


@pytest.mark.parametrize("column", ["a", "y"])
def test_numbers_whose_squares_leave_float64_are_named(tmp_path: Path, column: str) -> None:
    told = refusal(write(tmp_path, {"a": [1.0, 2.0], "y": [1.0, 2.0], column: [1e140, -1e141]}))
    assert f"has numbers beyond 1e+140 in column '{column}', the first in line 3, whose squares leave" in told


@pytest.mark.skipif(not hasattr(pl, "UInt128"), reason="this polars refuses numbers of more than 64 bits")
def test_a_target_of_more_than_64_bits_is_decimal_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,y\n1,18446744073709551616\n2,3184467440737095516165\n")
    examples = read_examples(tmp_path / "t.csv", "y")
    assert (examples.kind, examples.target.tolist()) == ("decimal numbers", [2.0**64, 3184467440737095516165.0])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_with_brackets_or_stars_is_not_a_pattern(tmp_path: Path, kind: str) -> None:
    write(tmp_path, COLUMNS, kind).rename(tmp_path / f"table1.{kind}")
    for name in ("table[1]", "table*", "[table"):
        write(tmp_path, {"a": [7, 8], "y": ["u", "v"]}, kind).rename(tmp_path / f"{name}.{kind}")
    for name in ("table[1]", "table*", "[table"):
        examples = read_examples(tmp_path / f"{name}.{kind}", "y")
        np.testing.assert_array_equal(examples.features, [[7], [8]])
