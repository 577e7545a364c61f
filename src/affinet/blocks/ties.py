"""Classes of tied entries under no other equation."""

from __future__ import annotations

from dataclasses import dataclass

from affinet.blocks.classes import Classes
from affinet.blocks.places import Listed, Part


@dataclass(frozen=True, eq=False)
class Ties:
    """Classes of tied entries, every class free."""

    parts: tuple[Part, ...]
    classes: Classes
    rules: tuple[int, ...]

    @property
    def entries(self) -> Listed:
        """Where its entries lie."""
        return Listed(self.parts)

    @property
    def size(self) -> int:
        return len(self.classes.class_of)

    @property
    def rank(self) -> int:
        return self.size - self.classes.count
