"""Compute the constants in the text of a rule: powers and functions of numbers, as `2**-3`, and identity matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from affinet.errors import ConstantError, RuleError
from affinet.language.calculus.terms import Floats
from affinet.language.expression import Expression
from affinet.language.forecast import forecast
from affinet.language.weight_groups import WeightGroup, over_weights

LARGEST_INTEGER = 2**63

_OF_NUMBERS: dict[str, Callable[[float], float]] = {
    "cos": math.cos,
    "exp": math.exp,
    "log": math.log,
    "reciprocal": lambda x: 1.0 / x,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tanh": math.tanh,
}


def power_of_numbers(base: float, exponent: float) -> float:
    """`base ** exponent`, in a time and memory that do not grow with the numbers.

    Errors: `OverflowError`, `ZeroDivisionError`, and `ValueError` for a power that is not a real number.
    """
    power = math.pow(base, exponent) if base or exponent >= 0 else 1.0 / base
    integers = isinstance(base, int) and isinstance(exponent, int) and exponent >= 0
    return base**exponent if integers and abs(power) < LARGEST_INTEGER else power


def eye(n: int) -> Floats:
    """The identity matrix of n rows. Errors: `RuleError` for what is not a number of rows, `TooLargeError`."""
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise RuleError(f"eye takes the number of its rows, 1 or more; got {n!r:.60} ({type(n).__name__}).")
    forecast(f"eye({n:,})", n * n, way_out='Write orthogonal(x, of="rows") for x @ x.T == eye(n).')
    return np.eye(n)


def sum_of_entries(x: object) -> Any:
    """Python's `sum` of a vector of weights, which is the same as its method.

    Errors: `RuleError` for anything else; along which axis Python adds the entries of a matrix is easily misread.
    """
    if isinstance(x, Expression) and x.ndim == 1:
        return x.sum()
    fact = f"({x}) of shape {x.shape}" if isinstance(x, Expression) else f"{x!r:.60} ({type(x).__name__})"
    raise RuleError(
        f"sum(x) takes weights of one axis; got {fact}. Write x.sum(), or x.sum(dim=1) for a sum of each row."
    )


sum_of_entries.__name__ = "sum"


def of_weights_or_number(method: Callable[..., Expression]) -> Callable[..., Any]:
    """A method of expressions as a function, also of a group of weights, and of a plain number where it has a value.

    Errors: `RuleError` for any other argument, `ConstantError` for a number at which the function has no value.
    """
    name = method.__name__

    def call(x: object) -> Any:
        if isinstance(x, Expression | WeightGroup):
            return over_weights(method)(x)
        if isinstance(x, bool) or not isinstance(x, int | float) or name not in _OF_NUMBERS:
            kind = "weights or a number" if name in _OF_NUMBERS else "a matrix of weights"
            raise RuleError(f"{name} takes {kind}; got {x!r:.60} ({type(x).__name__}).")
        try:
            return _OF_NUMBERS[name](x)
        except (ValueError, OverflowError, ZeroDivisionError):
            raise ConstantError(f"{name}({x!r:.60}) is not a finite number.") from None

    call.__name__ = name
    return call
