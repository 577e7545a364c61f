"""The ways in which the two sides of a rule compare: the sense of an equation or inequality, and the norm of a ball."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Sense: TypeAlias = Literal["==", "<=", ">="]
"""`left == right`, `left <= right` or `left >= right`."""

Norm: TypeAlias = Literal[1, 2]
"""The sum of magnitudes, or the Euclidean length."""


def unbounded(sense: Sense) -> float:
    """The right side with which a rule of this sense states nothing: inf for `<=`, -inf for `>=`; nan for `==`."""
    return {"==": math.nan, "<=": math.inf, ">=": -math.inf}[sense]
