"""What planning raises when equations say `0 == r`: the rules that were looked at together, before diagnosis."""

from __future__ import annotations

from collections.abc import Iterable


class Contradiction(Exception):
    """A signal from planning to diagnosis, never shown to a user.

    `rules` are the numbers of rules among which the contradiction lies; none where only the caller knows them.
    `consequence` is what they say together, where that is known without writing the equations out.
    """

    def __init__(self, rules: Iterable[int] = (), consequence: str = "") -> None:
        super().__init__()
        self.consequence = consequence
        self.rules = tuple(sorted({int(rule) for rule in rules}))
