"""How benchmarks take turns and count memory; what they count is not tested here."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.measuring import Effort, Spread, by_turns, repeated, traced


def test_sides_take_turns_in_blocks_and_the_order_is_reversed() -> None:
    calls: list[str] = []
    taken = by_turns(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, Effort(60.0, least=2, most=2), block=3
    )
    assert "".join(calls) == "aaabbbbbbaaa"
    assert taken["a"].count == taken["b"].count == 4  # the first of every block is left out


def test_what_comes_before_a_call_is_not_its_time() -> None:
    calls: list[str] = []
    by_turns({"a": lambda: calls.append("a")}, Effort(60.0, most=2), before=lambda: calls.append("-"))
    assert calls == ["-", "a", "-", "a"]


def test_slow_calls_are_not_repeated() -> None:
    assert by_turns({"a": lambda: None}, Effort(0.0, least=3))["a"].count == 1
    assert repeated(lambda: 1, Effort(0.0))[1].count == 1
    assert repeated(lambda: 1, Effort(60.0, most=5))[1].count == 5


def test_a_spread_is_median_and_quartiles() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([2.0]) == Spread(2.0, 2.0, 2.0, 1)


def test_traced_memory_is_what_is_kept_and_the_peak() -> None:
    found, kept, peak = traced(lambda: np.zeros(100_000) + np.zeros(100_000))
    assert found.nbytes == pytest.approx(kept, rel=0.1)
    assert peak >= 2 * found.nbytes
