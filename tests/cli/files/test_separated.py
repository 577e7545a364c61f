from __future__ import annotations

from pathlib import Path

import pytest

from affinet.cli.files.separated import read_separated, separator_of
from affinet.cli.files.table_files import read_examples
from affinet.errors import DataError


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("a,b", ","),
        ("a;b", ";"),
        ("a\tb", "\t"),
        ("a", ","),
        ('"a,b";c', ";"),
        ("a (m; s),b", ","),
        ('"a;b"', ","),
        ("\ufeff\na;b", ";"),
        ('"a\nb";"c,d"', ";"),
        ('"a"', ","),
        ("a" * 200_000 + ";b", ";"),
    ],
)
def test_the_header_decides_the_separator(tmp_path: Path, header: str, separator: str) -> None:
    (tmp_path / "t.csv").write_text(f"{header}\n1\n", encoding="utf-8")
    assert separator_of(tmp_path / "t.csv") == separator


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas_are_read(tmp_path: Path, separator: str) -> None:
    lines = ["größe,y", "1_5,u", "-2_25,v", "3,u"]
    text = "\n".join(lines).replace(",", separator).replace("_", ",")
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    examples = read_examples(tmp_path / "t.csv", "y")
    assert examples.features.tolist() == [[1.5], [-2.25], [3.0]]
    assert examples.names == ("größe",)


def test_a_point_beside_decimal_commas_may_group_thousands_and_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;b\n1,5;1.234\n2,5;2\n")
    with pytest.raises(DataError, match=r"has numbers with decimal commas, and with points in column 'b'"):
        read_separated(tmp_path / "t.csv")


def test_the_line_of_a_gap_is_found_between_semicolons(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a;"b\nc";y\n1;2;u\n3;;v\n')
    with pytest.raises(DataError, match=r"in column 'b\\nc', the first in line 4"):
        read_examples(tmp_path / "t.csv", "y")


@pytest.mark.parametrize("text", ["größe,y\n1,2\n", "a,y\nä,2\n"])
def test_a_file_in_another_encoding_is_refused_with_the_way_out(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"(?i)utf-8.*Save the table as UTF-8; spreadsheets call that CSV UTF-8"):
        read_examples(tmp_path / "t.csv", "y")


def test_a_file_without_a_header_is_told_what_the_first_line_is(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("0,0,1\n1,2,3\n")
    with pytest.raises(DataError, match=r"more than one column '0'.*first line has to be the names of the columns"):
        read_examples(tmp_path / "t.csv", "1")
