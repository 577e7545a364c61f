"""What planning raises when equations say `0 == r`: the rules that were looked at together, before diagnosis."""

from __future__ import annotations

from collections.abc import Iterable


class Contradiction(Exception):  # noqa: N818  (a signal between planning and diagnosis, never shown to a user)
    """`rules` are the numbers of rules among which the contradiction lies; none where only the caller knows them."""

    def __init__(self, rules: Iterable[int] = ()) -> None:
        super().__init__()
        self.rules = tuple(sorted({int(rule) for rule in rules}))
