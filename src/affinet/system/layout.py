"""Number the entries of all parameters that rules read: the columns of the system, parameters laid end to end."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affinet.errors import RuleError
from affinet.language.calculus.terms import Integers, Parameter
from affinet.system.distinct import distinct


@dataclass(frozen=True)
class Layout:
    """Parameters ordered by name; entry `p` of parameter `k` is column `starts[k] + p` (64 bits: models are large)."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(cls, parameters: Iterable[Parameter]) -> Layout:
        """The layout of these parameters. Raises RuleError for one name with two shapes."""
        by_name: dict[str, Parameter] = {}
        for parameter in parameters:
            known = by_name.setdefault(parameter.name, parameter)
            if known.shape != parameter.shape:
                raise RuleError(
                    f"the rules refer to two weights named {parameter.name!r}, of shapes {known.shape} and "
                    f"{parameter.shape}. Make all rules of one plan from one affinet.weights(model)."
                )
        return cls(tuple(by_name[name] for name in sorted(by_name)))

    @cached_property
    def starts(self) -> tuple[int, ...]:
        starts, total = [], 0
        for parameter in self.parameters:
            starts.append(total)
            total += parameter.size
        return tuple(starts)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {parameter.name: k for k, parameter in enumerate(self.parameters)}

    @property
    def size(self) -> int:
        return sum(parameter.size for parameter in self.parameters)

    def start(self, parameter: Parameter) -> int:
        return self.starts[self._numbers[parameter.name]]

    def number(self, column: int) -> int:
        """The number of the parameter that contains a column."""
        return bisect_right(self.starts, column) - 1

    def numbers(self, columns: Integers) -> Integers:
        """The number of the parameter that contains each column."""
        return np.searchsorted(np.asarray(self.starts, np.int64), columns, side="right") - 1

    def split(self, columns: Integers) -> list[tuple[Parameter, Integers, Integers]]:
        """Columns by parameter: (parameter, places in `columns`, positions in the parameter), without empty parts."""
        if not len(columns):
            return []
        numbers = self.numbers(columns)
        parts: list[tuple[Parameter, Integers, Integers]] = []
        for k in distinct(numbers):
            places = np.flatnonzero(numbers == k)
            parts.append((self.parameters[k], places, columns[places] - self.starts[k]))
        return parts

    def describe(self, column: int) -> str:
        """A column in the user's words: `hidden.weight[0, 3]`."""
        k = self.number(column)
        parameter = self.parameters[k]
        index = np.unravel_index(column - self.starts[k], parameter.shape)
        return f"{parameter.name}[{', '.join(str(int(i)) for i in index)}]" if parameter.shape else parameter.name
