"""Plan files with something wrong in them, their checksums right: what an attacker writes, not what a disk does."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from safetensors.numpy import save_file

from affinet.system.stored import planfile
from affinet.system.stored.description import described
from affinet.system.system import System

WRONG: list[Any] = [
    None, True, False, "", "a", [], {}, [[]], 0, 1, 2, 3, -1, -5, 2**31, -(2**31), 10**9, 2**62, 2**63, 10**40, 0.5,
    -1.0, 0.0, 1e-300, 1e139, 1e300, float("inf"), float("nan"), {"view": 0}, {"view": 1}, {"view": 10**6},
    [0, 1], [None],
]  # fmt: skip


def write_plan(path: Path, description: Any, rows: list[np.ndarray], **changes: Any) -> Path:
    """A plan file that says this, with a right checksum where none is among the `changes` of its metadata."""
    said = {"version": 1, "written_by": "a test", "description": description} | changes
    said = {"checksum": planfile._checksum(said, rows)} | said
    metadata = {planfile.FORMAT: planfile._dump({key: value for key, value in said.items() if value is not ...})}
    save_file({str(number): row for number, row in enumerate(rows)}, path, metadata=metadata)
    return path


def contents(system: System) -> tuple[Any, list[np.ndarray]]:
    """What a file of the system says, to be changed."""
    description, rows = described(system)
    return copy.deepcopy(description), [np.array(row) for row in rows]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside JSON."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        yield value, key
        yield from places(inner)


@st.composite
def tampered(draw: st.DrawFn, system: System) -> tuple[Any, list[np.ndarray]]:
    """One to three changes: a value replaced, moved by one, copied from elsewhere, or dropped; a number of an array."""
    description, rows = contents(system)
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(list(places(description))))
        change = draw(st.sampled_from(["replace", "replace", "nudge", "copy", "drop", "array"]))
        if change == "array" and rows:
            row = rows[draw(st.integers(0, len(rows) - 1))]
            number = draw(st.sampled_from([0, -1, 7, 2**31 - 1, -(2**31), 1e300, float("nan"), float("inf")]))
            most = 2**8 if row.dtype.kind == "u" else 2**31
            with np.errstate(over="ignore"):  # what float32 does not hold is infinite
                row[draw(st.integers(0, len(row) - 1))] = (
                    number if row.dtype.kind == "f" else int(np.nan_to_num(number) % most)
                )
        elif change == "nudge" and type(container[key]) is int:
            container[key] += draw(st.sampled_from([-1, 1, 2]))
        elif change == "copy":
            other, place = draw(st.sampled_from(list(places(description))))
            container[key] = copy.deepcopy(other[place])
        elif change == "drop":
            del container[key]
        else:
            container[key] = copy.deepcopy(draw(st.sampled_from(WRONG) | st.integers(-10, 10)))
    return description, rows
