from __future__ import annotations

import tomllib
from typing import Any

import pytest

from affinet.cli.locate import KeyPath, line_of, lines_of_keys

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
    assert line_of(TEXT, path) == line
    assert line_of(TEXT.replace("\n", "\r\n"), path) == line


def test_every_key_of_the_file_is_located() -> None:
    def paths(value: Any, before: KeyPath = ()) -> set[KeyPath]:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        return {before} | {path for key, inner in items for path in paths(inner, (*before, key))}

    assert set(lines_of_keys(TEXT)) | {(), ("rule",)} == paths(tomllib.loads(TEXT))
