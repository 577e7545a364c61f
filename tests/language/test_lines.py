"""Several rules in one text, a rule on each line."""

from __future__ import annotations

import pytest

import affinet
from affinet.errors import ParseError, RuleError, UnknownWeightError

WEIGHTS = affinet.weights({"a": (2, 3), "b": (3,)})


def test_each_line_is_a_rule_with_its_number() -> None:
    rules = affinet.parse_lines("# two rules\n\na.sum(dim=1) == 1  # rows\r\n  b[0] * b[1] == 2\n", WEIGHTS)
    assert [rule.shape for rule in rules] == [(2,), ()]
    assert rules.labels == ("line 3", "line 4")
    assert [rule.name for rule in rules.named("system")] == ["system [line 3]", "system [line 4]"]
    assert rules.rows == 3


def test_lines_about_many_weights_give_a_rule_for_each() -> None:
    rules = affinet.parse_lines('w["*"].sum() == 1', WEIGHTS)
    assert rules.labels == ("line 1, a", "line 1, b")


@pytest.mark.parametrize(
    ("text", "error", "place"),
    [
        ("b[0] == 1\n b[0] = 1", ParseError, (2, 7)),
        ("b == 1\n\nb == lambda", ParseError, (3, 6)),
        ("b == 1\nb[0] == 1\x00", ParseError, (2, 10)),
        ("# only a comment\n", ParseError, (1, 1)),
    ],
)
def test_mistakes_are_located_in_the_text(text: str, error: type[ParseError], place: tuple[int, int]) -> None:
    with pytest.raises(error) as raised:
        affinet.parse_lines(text, WEIGHTS)
    assert (raised.value.line, raised.value.column) == place


def test_errors_of_the_language_are_located_in_the_text() -> None:
    with pytest.raises(UnknownWeightError, match=r"^line 3, column 2: "):
        affinet.parse_lines("b == 1\n\n c == 1", WEIGHTS)


def test_weights_must_be_those_of_a_model() -> None:
    with pytest.raises(RuleError, match="parse_lines takes the text"):
        affinet.parse_lines("b == 1", {"b": (3,)})  # type: ignore[arg-type]  # the mistake


def test_a_long_text_of_short_lines_is_read() -> None:
    assert affinet.parse_lines("b[0] == 0\n" * 12_000, WEIGHTS).rows == 12_000
