"""Functions of weights that the language cannot look into: their numbers and derivatives come from calls alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, TypeAlias

from affinet.errors import RuleError


class Opaque(Protocol):
    """A differentiable function of `size` numbers with `count` results, by whatever array library its argument has."""

    @property
    def name(self) -> str:
        """The name in reports, and in files, which hold nothing else of the function."""

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of its arguments, whose numbers are given in one row."""

    @property
    def count(self) -> int:
        """The number of results."""

    @property
    def key(self) -> str:
        """What tells functions apart that have one name."""

    def values(self, x: Any) -> Any:
        """The results (count,) at the numbers x (size,)."""

    def linearized(self, x: Any) -> tuple[Any, Any, Any]:
        """The results, the sizes to which their rounding is relative, and the derivatives (count, size)."""


@dataclass(frozen=True)
class MissingFunction:
    """The place of a function in a plan that was read from a file."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    count: int

    @property
    def key(self) -> str:
        return f"missing {self.shapes}"

    def values(self, x: Any) -> NoReturn:
        """Raises RuleError."""
        raise RuleError(
            f"the equations of {self.name!r} cannot be computed or verified without the function, which a plan file "
            f"does not hold. Give it: affinet.Plan.load(path, functions={{{self.name!r}: function}})."
        )

    def linearized(self, x: Any) -> NoReturn:
        """Raises RuleError."""
        self.values(x)


FindFunction: TypeAlias = Callable[[str, tuple[tuple[int, ...], ...], int], Opaque]
"""Name, shapes of the arguments and number of results → the function of this name."""
