"""What a case of the contract is: rules over weights of given shapes, the rank they have, what they leave free."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Shapes = Mapping[str, tuple[int, ...]]
EVERY_WAY = "every way"
"""The tag of a case whose kind of block few others have: it meets all combinations of path, dtype and optimizer."""


@dataclass(frozen=True)
class Case:
    """Rules over weights of the given shapes.

    `rank` and `free` are what the plan must report. `texts` says the same rules as text, one for one, where text can.
    `memory` names parameters whose numbers do not lie row-major, `tied` leads from a second name to the Parameter's
    first, `frozen` parameters take no gradient.
    """

    name: str
    shapes: Shapes
    rules: Callable[[Any], list[Any]]
    rank: int
    free: int
    texts: tuple[str, ...] = ()
    memory: Mapping[str, str] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    frozen: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def numbers(*shape: int, seed: int = 0) -> Any:
    """Seeded random constants for the rules of a case."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)
