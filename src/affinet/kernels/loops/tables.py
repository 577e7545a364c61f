"""Projects all small blocks of a plan in one call: cells with given sums, classes of ties, components of few entries.

Tensors are passed by their addresses, so that one compiled function serves plans over any number of tensors. Numbers
are computed in float64 and rounded once. Loops are written inline: a call with arrays costs as much as ten entries.
"""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from affinet.kernels.loops.jit import compiled, summing

CELLS = ("tensor", "first entry", "entries", "step", "total")
"""Columns of the table of cells: `entries` numbers of a tensor, `step` apart, sum to `numbers[total]`."""
CLASSES = ("first", "last")
"""Columns of the table of classes: entries `first..last` are multiples of one number, which is the first entry."""
COMPONENTS = ("first", "last", "unknown", "unknowns", "basis", "rows", "target", "pinned", "values", "copies", "inside")
"""Columns of both tables of components: entries `first..last`, their unknowns, the starts of the numbers of their
equations, ranges of unknowns that are exact, and whether the basis spans the tangent space."""


@compiled
def small(
    like: float,
    addresses: np.ndarray,
    rates: np.ndarray,
    cells: np.ndarray,
    classes: np.ndarray,
    plain: np.ndarray,
    tied: np.ndarray,
    entries: np.ndarray,
    lines: np.ndarray,
    unknowns: np.ndarray,
    numbers: np.ndarray,
    exact: np.ndarray,
    most: int,
    affine: bool,
    quiet: float,
) -> None:  # pragma: no cover - compiled
    """Move every cell, class and component to the nearest point of its equations, or without `affine` to `P x`.

    `like` is a number of the tensors' dtype. `addresses` (2, tensors) are those of the projected tensors, and of the
    weights w where there are `rates` λ: then `x = g + λ w` is projected and `P x − λ w` is written. With `quiet`,
    numbers that are noise relative to their component become zero. The tables are described above and in
    `kernels/torch/small_blocks.py`; `most` is the largest number of entries of a component.
    """
    for s in range(len(cells)):
        tensor, decayed = cells[s, 0], len(rates) > 0
        place, other = addresses[0, tensor], addresses[1, tensor]
        total, rate = numbers[cells[s, 4]] if affine else 0.0, rates[tensor] if decayed else 0.0
        cell(like, place, other, cells[s, 1], cells[s, 2], cells[s, 3], rate, total, quiet)
    if len(classes) > 0:
        ties(like, addresses, rates, classes, entries, lines, affine, quiet)
    if len(plain) > 0:
        components(like, addresses, rates, plain, entries, numbers, exact, most, affine, quiet)
    if len(tied) > 0:
        tied_components(like, addresses, rates, tied, entries, lines, unknowns, numbers, most, affine, quiet)


@summing
def cell(
    like: float, address: int, other: int, start: int, n: int, step: int, rate: float, wanted: float, quiet: float
) -> None:  # pragma: no cover
    """`n` entries from `start` on, all with the same coefficient: each takes its share of the gap."""
    total, end = 0.0, start + n * step
    if rate != 0.0:
        for k in range(start, end, step):
            total += load(like, address, k) + rate * load(like, other, k)
    elif step == 1:
        for k in range(start, end):
            total += load(like, address, k)
    else:
        for k in range(start, end, step):
            total += load(like, address, k)
    share = (total - wanted) / n
    noise = 2.0 * quiet * abs(share)
    if rate != 0.0:
        for k in range(start, end, step):
            decay = rate * load(like, other, k)
            projected = (load(like, address, k) + decay) - share
            store(like, address, k, (0.0 if abs(projected) < noise else projected) - decay)
    elif step == 1:
        for k in range(start, end):
            projected = load(like, address, k) - share
            store(like, address, k, 0.0 if abs(projected) < noise else projected)
    else:
        for k in range(start, end, step):
            projected = load(like, address, k) - share
            store(like, address, k, 0.0 if abs(projected) < noise else projected)


@compiled
def ties(
    like: float,
    addresses: np.ndarray,
    rates: np.ndarray,
    classes: np.ndarray,
    entries: np.ndarray,
    lines: np.ndarray,
    affine: bool,
    quiet: float,
) -> None:  # pragma: no cover
    """Set the entries of each class to `scale · z + shift` with one number z, which is silenced for all at once.

    z is the first entry plus a mean of differences to it, so that the mean of equal entries is exact.
    """
    decayed, shifted = len(rates) > 0, 1.0 if affine else 0.0
    for c in range(len(classes)):
        first, last = classes[c, 0], classes[c, 1]
        reference = load(like, addresses[0, entries[first, 0]], entries[first, 1])
        if decayed:
            reference += rates[entries[first, 0]] * load(like, addresses[1, entries[first, 0]], entries[first, 1])
        gap, weight, squares = 0.0, 1.0, reference * reference
        for k in range(first + 1, last):
            scale, value = lines[k, 0], load(like, addresses[0, entries[k, 0]], entries[k, 1])
            if decayed:
                value += rates[entries[k, 0]] * load(like, addresses[1, entries[k, 0]], entries[k, 1])
            squares += value * value
            gap += scale * ((value - shifted * lines[k, 1]) - scale * reference)
            weight += scale * scale
        z = reference + gap / weight
        if quiet > 0.0 and abs(z) < 2.0 * quiet * sqrt(squares / (last - first)):
            z = 0.0
        for k in range(first, last):
            value = lines[k, 0] * z + shifted * lines[k, 1]
            if decayed:
                value -= rates[entries[k, 0]] * load(like, addresses[1, entries[k, 0]], entries[k, 1])
            store(like, addresses[0, entries[k, 0]], entries[k, 1], value)


@compiled
def components(
    like: float,
    addresses: np.ndarray,
    rates: np.ndarray,
    table: np.ndarray,
    entries: np.ndarray,
    numbers: np.ndarray,
    exact: np.ndarray,
    most: int,
    affine: bool,
    quiet: float,
) -> None:  # pragma: no cover
    """Components whose unknowns are the entries: projected, silenced, then pinned entries set and copies made."""
    y, moved, level, decayed = np.empty(most), np.empty(most), np.empty(most), len(rates) > 0
    for c in range(len(table)):
        first, n = table[c, 0], table[c, 3]
        for k in range(n):
            tensor, place = entries[first + k, 0], entries[first + k, 1]
            y[k] = load(like, addresses[0, tensor], place)
            if decayed:
                y[k] += rates[tensor] * load(like, addresses[1, tensor], place)
            level[k] = y[k] * y[k]
        if table[c, 5] > 0 or table[c, 10]:
            move(y, moved, n, numbers, table[c, 4], table[c, 5], table[c, 6], table[c, 10], affine)
        if quiet > 0.0:
            silence(y, level, n, quiet)
        at, values, copies = table[c, 7], table[c, 8], table[c, 9]
        for k in range(exact[at]):
            y[exact[at + 1 + k]] = numbers[values + k] if affine else 0.0
        for k in range(copies + 1, copies + 1 + 3 * exact[copies], 3):
            y[exact[k]] = y[exact[k + 1]] * exact[k + 2]
        for k in range(n):
            tensor, place = entries[first + k, 0], entries[first + k, 1]
            value = y[k]
            if decayed:
                value -= rates[tensor] * load(like, addresses[1, tensor], place)
            store(like, addresses[0, tensor], place, value)


@compiled
def tied_components(
    like: float,
    addresses: np.ndarray,
    rates: np.ndarray,
    table: np.ndarray,
    entries: np.ndarray,
    lines: np.ndarray,
    unknowns: np.ndarray,
    numbers: np.ndarray,
    most: int,
    affine: bool,
    quiet: float,
) -> None:  # pragma: no cover
    """Components of classes: from entries to one number per class, as above, through the equations, and back."""
    y, moved, level, x = np.empty(most), np.empty(most), np.empty(most), np.empty(most)
    decayed, shifted = len(rates) > 0, 1.0 if affine else 0.0
    for c in range(len(table)):
        first, last, start, n = table[c, 0], table[c, 1], table[c, 2], table[c, 3]
        for k in range(last - first):
            tensor, place = entries[first + k, 0], entries[first + k, 1]
            x[k] = load(like, addresses[0, tensor], place)
            if decayed:
                x[k] += rates[tensor] * load(like, addresses[1, tensor], place)
        for u in range(n):
            y[u], moved[u], level[u] = x[np.int64(unknowns[start + u, 0])], 0.0, 0.0
        for k in range(last - first):
            u, scale = entries[first + k, 2], lines[first + k, 0]
            moved[u] += scale * ((x[k] - shifted * lines[first + k, 1]) - scale * y[u])
            level[u] += x[k] * x[k]
        for u in range(n):
            root = unknowns[start + u, 1]
            y[u] = (y[u] + moved[u] / (root * root)) * root
            level[u] /= unknowns[start + u, 2]
        move(y, moved, n, numbers, table[c, 4], table[c, 5], table[c, 6], 0, affine)
        for u in range(n):
            y[u] /= unknowns[start + u, 1]
        if quiet > 0.0:
            silence(y, level, n, quiet)
        for k in range(first, last):
            tensor, place = entries[k, 0], entries[k, 1]
            value = lines[k, 0] * y[entries[k, 2]] + shifted * lines[k, 1]
            if decayed:
                value -= rates[tensor] * load(like, addresses[1, tensor], place)
            store(like, addresses[0, tensor], place, value)


@summing
def silence(y: np.ndarray, level: np.ndarray, n: int, quiet: float) -> None:  # pragma: no cover
    """Zero y where it is below `quiet · (|x| + rms x)`; `level` holds the mean squares of x."""
    squares = 0.0
    for u in range(n):
        squares += level[u]
    rms = sqrt(squares / n)
    for u in range(n):
        y[u] = 0.0 if abs(y[u]) < quiet * (rms + sqrt(level[u])) else y[u]


@summing
def move(
    y: np.ndarray,
    moved: np.ndarray,
    n: int,
    numbers: np.ndarray,
    basis: int,
    rows: int,
    target: int,
    inside: int,
    affine: bool,
) -> None:  # pragma: no cover
    """`y − Qᵀ(Q y − target)`, or `origin + Nᵀ(N y)` with rows N that span the tangent space; rows are orthonormal."""
    for u in range(n):
        moved[u] = y[u] if not inside else (numbers[target + u] if affine else 0.0)
    for q in range(rows):
        line = np.uint64(basis + q * n)
        gap = -numbers[target + q] if affine and not inside else 0.0
        for u in range(np.uint64(n)):
            gap += numbers[line + u] * y[u]
        gap = -gap if inside else gap
        for u in range(np.uint64(n)):
            moved[u] -= gap * numbers[line + u]
    for u in range(n):
        y[u] = moved[u]


@intrinsic
def load(typing: Any, like: Any, address: Any, place: Any) -> Any:
    """The number at index `place` of the array at an address with the dtype of `like`, in float64."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        number = builder.load(_spot(context, builder, like, values), align=like.bitwidth // 8)
        wide = context.get_value_type(types.float64)
        return number if number.type == wide else builder.fpext(number, wide)

    return types.float64(like, types.int64, types.int64), generate


@intrinsic
def store(typing: Any, like: Any, address: Any, place: Any, value: Any) -> Any:
    """Write a number at that index, rounded to the dtype of `like`."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = context.get_value_type(like)
        number = values[3] if values[3].type == kind else builder.fptrunc(values[3], kind)
        builder.store(number, _spot(context, builder, like, values), align=like.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(like, types.int64, types.int64, types.float64), generate


def _spot(context: Any, builder: Any, like: Any, values: Any) -> Any:
    start = builder.inttoptr(values[1], context.get_value_type(like).as_pointer())
    return builder.gep(start, [values[2]])
