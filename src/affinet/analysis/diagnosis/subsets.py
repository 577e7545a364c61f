"""Find an irreducible set of contradictory rules among many by deciding subsets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Feasible = Callable[[Sequence[int]], bool]


def irreducible(candidates: list[int], feasible: Feasible) -> list[int]:
    """A subset that cannot hold while every proper subset of it can; `candidates` are known not to hold.

    Uses O(k log(n / k)) decisions for k rules out of n (Junker, QUICKXPLAIN, AAAI 2004).
    """

    def search(background: list[int], added: bool, remaining: list[int]) -> list[int]:
        if added and not feasible(background):
            return []
        if len(remaining) == 1:
            return remaining
        half = len(remaining) // 2
        left, right = remaining[:half], remaining[half:]
        needed = search(background + left, bool(left), right)
        return search(background + needed, bool(needed), left) + needed

    return sorted(search([], False, candidates))


def narrowed(
    candidates: list[int], feasible: Feasible, cost: Callable[[Sequence[int]], int], budget: int, decisions: int
) -> tuple[list[int], bool]:
    """An irreducible subset and True; or, once both bounds are passed, the smallest known contradictory one and False.

    `cost` is that of a decision; `budget` bounds their sum and `decisions` their number.
    """
    known, spent, decided = candidates, 0, 0

    def decide(rules: Sequence[int]) -> bool:
        nonlocal known, spent, decided
        if spent > budget and decided >= decisions:
            raise _SpentError
        spent, decided = spent + cost(rules), decided + 1
        holds = feasible(rules)
        if not holds and len(rules) < len(known):
            known = sorted(rules)
        return holds

    try:
        return irreducible(candidates, decide), True
    except _SpentError:
        return known, False


class _SpentError(Exception):
    """More decisions than are affordable; never leaves `narrowed`."""
