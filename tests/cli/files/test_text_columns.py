"""Columns of text as features: which are taken, which are refused and why, and what an older job still means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from affinet.cli.files.table_files import read_examples, survey
from affinet.errors import DataError

IGNORE = " Or list the column in 'ignore' of [data]."


def table(folder: Path, words: list[str | None], *, kind: str = "csv") -> Path:
    """A table of a number, a column `c` of these words, over and over, and a target."""
    rows = range(len(words) * max(1, -(-20 // len(words))))
    frame = pl.DataFrame({"a": [float(k) for k in rows], "c": [words[k % len(words)] for k in rows], "y": rows})
    path = folder / f"t.{kind}"
    frame.write_csv(path, null_value="") if kind == "csv" else frame.write_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    "words",
    [
        ["red", "blue", "red", "green"],
        ["yes", "no"],
        ["n/a", "none", "some"],  # words of their own among words, as in a target
        ["<script>alert(1)</script>", "a=b", 'say "hi"', "it's", "#1", "two\nlines", "\\n", "tab\t."],
        ["x" * 100, "\U0001f600", "北京", "ß", "\u202e"],
        [" padded", "plain"],
        ["No. 1", "No. 2"],
        ["3-5", "6+"],
        ["10 km", "20 km"],
    ],
)
def test_text_becomes_sorted_categories(tmp_path: Path, words: list[str | None], kind: str) -> None:
    path = table(tmp_path, words, kind=kind)
    examples = read_examples(path, "y", encode=True)
    assert examples.names == ("a", "c")
    assert examples.categories == {"c": tuple(sorted(set(map(str, words))))}
    read = [examples.categories["c"][int(number)] for number in examples.features[: len(words), 1]]
    assert read == words
    assert survey(path, "y").text == ("c",)
    assert not survey(path, "y").unusable


def test_categories_of_other_types_are_text(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    colours = pl.Series(["u", "v"] * 4)
    kinds = {"c": colours.cast(pl.Categorical), "d": colours.cast(pl.Enum(["v", "u"]))}
    pl.DataFrame({**kinds, "y": range(8)}).write_parquet(path)
    assert read_examples(path, "y", encode=True).categories == {"c": ("u", "v"), "d": ("u", "v")}


@pytest.mark.parametrize("words", [["1", "2"], ["true", "false"], ["True", "False"], ["0.5", "1e3"]])
def test_numbers_and_truth_values_stay_numbers(tmp_path: Path, words: list[str | None]) -> None:
    path = table(tmp_path, words)
    assert not survey(path, "y").text
    encoded, plain = (read_examples(path, "y", encode=encode) for encode in (True, False))
    assert not encoded.categories
    np.testing.assert_array_equal(encoded.features, plain.features)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["red", None], "10 values missing, NaN or infinite in column 'c', the first in line 3."),
        (["red", "nan"], "10 values missing, NaN or infinite in column 'c', the first in line 3 ('nan')."),
        (["red", "  "], "10 values missing, NaN or infinite in column 'c', the first in line 3 ('  ')."),
        (["3", "n/a"], "10 values missing, NaN or infinite in column 'c', the first in line 3 ('n/a')."),
        (["3", "three"], "10 values of 20 that are not a number in column 'c', the first in line 3 ('three')."),
        (["red", "red ", " red"], "' red' and 'red' in column 'c', which differ in spaces alone. Remove the spaces."),
        (["2024-03-01", "2024-04-01"], "dates or times (such as '2024-03-01') in column 'c'."),
        (["31.12.2024", "1.2.24"], "dates or times (such as '1.2.24') in column 'c'."),
        (["2024-03-01 12:00", "2024-04-01T01:02:03"], "dates or times (such as '2024-03-01 12:00') in column 'c'."),
        (["2024年3月1日", "2024年4月1日"], "dates or times (such as '2024年3月1日') in column 'c'."),
        (["1 Feb 2024", "28 März 2024"], "dates or times (such as '1 Feb 2024') in column 'c'."),
        (["12:30", "1:05"], "dates or times (such as '12:30') in column 'c'."),
        (["€ 1.50", "€ 2"], "amounts (such as '€ 1.50') in column 'c'. Write plain numbers"),
        (["20 %", "5%"], "amounts (such as '20 %') in column 'c'."),
        (["1,5", "2,25"], "amounts (such as '1,5') in column 'c'."),
        (["1,234.50", "12,000"], "amounts (such as '1,234.50') in column 'c'."),
        (["red", "x" * 101], "free text in column 'c': 'xxx"),
        ([f"name {k}" for k in range(20)], "another text (such as 'name 0') in each row of column 'c'"),
        ([f"{k} a" for k in range(11)] + ["0 a"] * 9, "11 different texts (such as '0 a') in 20 rows of column 'c'"),
        ([f"{k} a" for k in range(51)] * 4, "51 different texts (such as '0 a') in 204 rows of column 'c', and at"),
    ],
)
def test_text_that_is_no_category_is_refused_and_left_out_of_a_first_job(
    tmp_path: Path, words: list[str | None], reason: str
) -> None:
    path = table(tmp_path, words)
    with pytest.raises(DataError) as caught:
        read_examples(path, "y", encode=True)
    message = str(caught.value)
    assert message.startswith(f"{path} has {reason}")
    assert message.endswith(IGNORE)
    assert survey(path, "y").unusable == {"c": message.removeprefix(f"{path} has ").removesuffix(IGNORE)}
    assert read_examples(path, "y", ignore=["c"], encode=True).names == ("a",)


def test_numbers_that_a_parquet_file_has_as_text_are_categories(tmp_path: Path) -> None:
    assert read_examples(table(tmp_path, ["1", "2"], kind="parquet"), "y", encode=True).categories == {"c": ("1", "2")}


def test_fifty_categories_in_a_hundred_rows_are_taken(tmp_path: Path) -> None:
    path = table(tmp_path, [f"{k} a" for k in range(50)] * 2)
    assert len(read_examples(path, "y", encode=True).categories["c"]) == 50


def test_without_the_key_text_is_refused_as_ever_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not numbers: c; 'c' is String \(such as 'u'\)\. Say text = \"encode\" in"):
        read_examples(table(tmp_path, ["u", "v"]), "y")


def test_columns_of_one_value_and_row_numbers_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "\n".join(f"{k + 1},{k},9,same,{k % 7},{19 - k},{k / 2}" for k in range(20))
    path.write_text(f"id,zero,nine,one,other,down,y\n{rows}\n")
    looked = survey(path, None)
    assert looked.target == "y"
    assert looked.unusable == {"nine": "it is '9' in every row.", "one": "it is 'same' in every row."}
    assert looked.counting == ("id", "zero")


def test_quotes_in_a_header_are_those_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('"the ""big"" one",y\n1,2\n3,4\n')
    assert read_examples(tmp_path / "t.csv", "y").names == ('the "big" one',)
    (tmp_path / "t.csv").write_text('"the ""big"" one";y\n1,5;2\n3;4\n')
    assert read_examples(tmp_path / "t.csv", "y").names == ('the "big" one',)
