"""Sets entries selected by a mask or by runs of positions, and leaves all other entries unchanged.

Entries that get a single number are set by its bits, independent of the dtype: `x` then holds integers of the same
width.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

import numpy as np

from affinet.kernels.loops.jit import compiled
from affinet.kernels.loops.openmp import share_out

BLOCK = 4_096
"""Positions of a mask per block: the number of values used before each block is known in advance."""


@compiled
def fill_masked(x: np.ndarray, mask: np.ndarray, bits: int, threads: int) -> None:  # pragma: no cover - compiled
    """`x[mask] = bits`."""
    if threads > 1:
        share_out(some_filled, (x, mask, bits), len(x), threads)
    else:
        some_filled(x, mask, bits, 0, len(x))


@compiled
def fill_runs(x: np.ndarray, starts: np.ndarray, ends: np.ndarray, bits: int, threads: int) -> None:  # pragma: no cover
    """`x[starts[k]:ends[k]] = bits` for every run."""
    if threads > 1:
        share_out(some_runs_filled, (x, starts, ends, bits), len(starts), threads)
    else:
        some_runs_filled(x, starts, ends, bits, 0, len(starts))


@compiled
def put_masked(
    x: np.ndarray, mask: np.ndarray, values: np.ndarray, before: np.ndarray, sign: float, threads: int
) -> None:  # pragma: no cover
    """`x[mask] = sign * values`; block k of the mask begins with value `before[k]`."""
    if threads > 1:
        share_out(some_put, (x, mask, values, before, sign), len(before), threads)
    else:
        some_put(x, mask, values, before, sign, 0, len(before))


@compiled
def put_runs(
    x: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    values: np.ndarray,
    before: np.ndarray,
    sign: float,
    threads: int,
) -> None:  # pragma: no cover
    """The same for runs; run k begins with value `before[k]`."""
    if threads > 1:
        share_out(some_runs_put, (x, starts, ends, values, before, sign), len(starts), threads)
    else:
        some_runs_put(x, starts, ends, values, before, sign, 0, len(starts))


@compiled
def scale_masked(
    x: np.ndarray, mask: np.ndarray, source: np.ndarray, factor: float, threads: int
) -> None:  # pragma: no cover
    """`x[mask] = factor * source[mask]`."""
    if threads > 1:
        share_out(some_scaled, (x, mask, source, factor), len(x), threads)
    else:
        some_scaled(x, mask, source, factor, 0, len(x))


@compiled
def scale_runs(
    x: np.ndarray, starts: np.ndarray, ends: np.ndarray, source: np.ndarray, factor: float, threads: int
) -> None:  # pragma: no cover
    """The same for runs."""
    if threads > 1:
        share_out(some_runs_scaled, (x, starts, ends, source, factor), len(starts), threads)
    else:
        some_runs_scaled(x, starts, ends, source, factor, 0, len(starts))


@compiled
def some_filled(x: np.ndarray, mask: np.ndarray, bits: int, first: int, last: int) -> None:  # pragma: no cover
    """Entries `first..last`; all entries are written, so that the loop has no branch.

    The slices begin at zero: an index from a variable might be negative, which would prevent vector instructions.
    """
    part, marks = x[first:last], mask[first:last]
    for k in range(len(part)):
        part[k] = bits if marks[k] else part[k]


@compiled
def some_runs_filled(
    x: np.ndarray, starts: np.ndarray, ends: np.ndarray, bits: int, first: int, last: int
) -> None:  # pragma: no cover
    """Runs `first..last`."""
    for run in range(first, last):
        part = x[starts[run] : ends[run]]
        for k in range(len(part)):
            part[k] = bits


@compiled
def some_put(
    x: np.ndarray, mask: np.ndarray, values: np.ndarray, before: np.ndarray, sign: float, first: int, last: int
) -> None:  # pragma: no cover
    """Blocks `first..last`; adding to zero makes zeros positive."""
    zero = values.dtype.type(0.0)
    sense = values.dtype.type(sign)
    for block in range(first, last):
        part, marks = x[block * BLOCK : (block + 1) * BLOCK], mask[block * BLOCK : (block + 1) * BLOCK]
        at = before[block]
        for k in range(len(part)):
            if marks[k]:
                part[k] = zero + sense * values[at]
                at += 1


@compiled
def some_runs_put(
    x: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    values: np.ndarray,
    before: np.ndarray,
    sign: float,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Runs `first..last`."""
    zero = values.dtype.type(0.0)
    sense = values.dtype.type(sign)
    for run in range(first, last):
        part = x[starts[run] : ends[run]]
        numbers = values[before[run] :]
        for k in range(len(part)):
            part[k] = zero + sense * numbers[k]


@compiled
def some_scaled(
    x: np.ndarray, mask: np.ndarray, source: np.ndarray, factor: float, first: int, last: int
) -> None:  # pragma: no cover
    """Entries `first..last`."""
    scale = x.dtype.type(factor)
    part, marks, numbers = x[first:last], mask[first:last], source[first:last]
    for k in range(len(part)):
        part[k] = scale * numbers[k] if marks[k] else part[k]


@compiled
def some_runs_scaled(
    x: np.ndarray, starts: np.ndarray, ends: np.ndarray, source: np.ndarray, factor: float, first: int, last: int
) -> None:  # pragma: no cover
    """Runs `first..last`."""
    scale = x.dtype.type(factor)
    for run in range(first, last):
        part, numbers = x[starts[run] : ends[run]], source[starts[run] : ends[run]]
        for k in range(len(part)):
            part[k] = scale * numbers[k]
