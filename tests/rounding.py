"""Round what LAPACK takes and gives at random: what another processor or library does to every factor.

A routine gives the factors of equations that differ from the given ones by rounding, and rounds the factors too
(backward error: Higham, Accuracy and Stability, 2nd ed., theorems 8.5, 9.3, 10.3 and 19.4). Which of these neighbours
it is depends on the order in which sums are added, that is on the processor. Here one is drawn: each number that goes
in or comes out is moved by one spacing of float64, up, down or not at all. Zeros stay zeros, as they do in LAPACK.
Positions, coefficients of ties and fixed values pass through none of these routines: what holds to the bit still does.

`AFFINET_ROUNDING=7 python -m pytest tests/kernels` runs any tests so, `make rounding` those that CI runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import numpy as np
import pytest

from affinet.system import lapack

SPACING = float(np.finfo(np.float64).eps)


@contextmanager
def another_processor(seed: int) -> Iterator[None]:
    """Inside, every routine that planning and kernels call is one of another processor, told by the seed."""
    dice = np.random.default_rng([seed, 9_001])
    with pytest.MonkeyPatch.context() as patch:
        for name in lapack.__all__:
            patch.setattr(lapack, name, _rounding(getattr(lapack, name), dice))
        yield


def _rounding(routine: Callable[..., Any], dice: np.random.Generator) -> Callable[..., Any]:
    @wraps(routine)
    def rounded(*matrices: Any, **options: Any) -> Any:
        return _moved(routine(*(_moved(matrix, dice) for matrix in matrices), **options), dice)

    return rounded


def _moved(value: Any, dice: np.random.Generator) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        return value * (1.0 + SPACING * dice.integers(-1, 2, value.shape))
    if isinstance(value, tuple):
        return tuple(_moved(part, dice) for part in value)
    return value
