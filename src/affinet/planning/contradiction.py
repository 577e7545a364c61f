"""A signal that equations say `0 == r`, with the rules among which the contradiction lies, for diagnosis to explain."""

from __future__ import annotations

from collections.abc import Iterable

from affinet.language.calculus.terms import Integers, Parameter


class Contradiction(Exception):
    """A signal from planning to diagnosis, never shown to a user.

    `rules` are the numbers of rules among which the contradiction lies; empty if only the caller knows them.
    `consequence` is what follows from them, if that is known without expanding the equations. `entries` are positions
    in a parameter whose rows contradict each other, where inequalities do and these are known.
    """

    def __init__(
        self,
        rules: Iterable[int] = (),
        consequence: str = "",
        *,
        entries: tuple[Parameter, Integers] | None = None,
    ) -> None:
        super().__init__()
        self.entries = entries
        self.consequence = consequence
        self.rules = tuple(sorted({int(rule) for rule in rules}))
