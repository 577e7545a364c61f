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
