"""Irreducible subsets by decisions, and what is known when no more of these can be afforded."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from affinet.analysis.diagnosis.subsets import irreducible, narrowed


@given(st.lists(st.sets(st.integers(0, 11), min_size=1, max_size=4), min_size=1, max_size=4))
def test_irreducible_sets(conflicts: list[set[int]]) -> None:
    """Feasible is what contains none of the conflicts."""

    def feasible(chosen: Sequence[int]) -> bool:
        return not any(conflict <= set(chosen) for conflict in conflicts)

    found = irreducible(list(range(12)), feasible)
    assert not feasible(found)
    assert all(feasible([k for k in found if k != left_out]) for left_out in found)


def test_few_decisions_are_taken_for_few_of_many_rules() -> None:
    asked = []

    def feasible(chosen: Sequence[int]) -> bool:
        asked.append(len(chosen))
        return not {17, 803} <= set(chosen)

    assert irreducible(list(range(1000)), feasible) == [17, 803]
    assert len(asked) < 60


def holds(chosen: Sequence[int]) -> bool:
    return not {17, 803} <= set(chosen)


def test_decisions_within_bounds_end_at_an_irreducible_set() -> None:
    assert narrowed(list(range(1000)), holds, len, 10**6, 0) == ([17, 803], True)
    assert narrowed(list(range(1000)), holds, len, 0, 100) == ([17, 803], True)


def test_beyond_the_bounds_the_smallest_set_known_is_named_as_what_it_is() -> None:
    found, minimal = narrowed(list(range(1000)), holds, len, 1500, 0)
    assert not minimal
    assert not holds(found)
    assert 2 < len(found) < 1000
    assert narrowed(list(range(1000)), holds, len, -1, 0) == (list(range(1000)), False)
