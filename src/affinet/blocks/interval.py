"""An interval that bounds a count: two equal bounds where the count is known exactly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """Bounds on a count: `low <= count <= high`."""

    low: int
    high: int

    @classmethod
    def of(cls, count: int | Interval) -> Interval:
        """The interval of a count that may be known exactly."""
        return count if isinstance(count, Interval) else cls(count, count)

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.low + other.low, self.high + other.high)

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low}..{self.high}"
