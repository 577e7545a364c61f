from __future__ import annotations

import tomllib
from typing import Any

import pytest

from affinet.cli.jobs import locate
from affinet.cli.jobs.locate import KeyPath, line_of, lines_of_keys

TEXT = '''\
title = "x"   # a comment with [brackets]

[data]
source = """
[train]
epochs = 1
"""
test_fraction = 0.2
"quoted key" = [
    1,
    2,
]
[train]
options = { weight_decay = 0.1, betas = [0.9, 0.99] }
a.b.c = 3

[[rule]]
name = "first"
[[rule]]
[rule.more]
deep = 1
[[rule]]
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 1),
        (("data",), 3),
        (("data", "source"), 4),
        (("data", "test_fraction"), 8),
        (("data", "quoted key"), 9),
        (("data", "quoted key", 1), 9),
        (("train",), 13),
        (("train", "options", "betas", 1), 14),
        (("train", "a", "b", "c"), 15),
        (("rule", 0), 17),
        (("rule", 0, "name"), 18),
        (("rule", 1), 19),
        (("rule", 1, "more", "deep"), 21),
        (("rule", 2), 22),
        (("rule", 2, "missing"), 22),
        (("train", "epochs"), 13),
        (("nowhere",), None),
    ],
)
def test_the_line_of_a_key_is_that_of_the_longest_part_written(path: KeyPath, line: int | None) -> None:
    assert line_of(lines_of_keys(TEXT), path) == line
    assert line_of(lines_of_keys(TEXT.replace("\n", "\r\n")), path) == line


def test_every_key_of_the_file_is_located() -> None:
    def paths(value: Any, before: KeyPath = ()) -> set[KeyPath]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {before} | {path for key, inner in items for path in paths(inner, (*before, key))}

    assert set(lines_of_keys(TEXT)) | {(), ("rule",)} == paths(tomllib.loads(TEXT))


def test_a_value_of_very_many_lines_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "MOST_READ", 10_000)
    text = "a = 1\nb = [\n" + "1,\n" * 20_000 + "]\nc = 1\n"
    assert lines_of_keys(text) == {("a",): 1}


def test_keys_deeper_than_any_of_a_job_are_not_located() -> None:
    assert max(map(len, lines_of_keys("a = " + "[" * 100 + "]" * 100))) == locate.DEEPEST
