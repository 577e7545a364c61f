"""A matrix and its transpose, or a multiple of another, tile by tile."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

import numpy as np

from affinet.kernels.compiled.jit import compiled, inlined

TILE = 64
"""Rows and columns of a tile. 32 is twice as slow on matrices that come from memory: 128 bytes of a row at a time."""


@inlined
def turned_in(
    flat: np.ndarray, width: int, corner: tuple[int, int], sizes: tuple[int, int], buffer: np.ndarray
) -> None:  # pragma: no cover
    """`buffer[i, k] = matrix[corner + (k, i)]`: a tile turned, its rows read as they lie.

    Down a column of a matrix whose width is a power of two every entry falls on the same few lines of the cache.
    """
    for k in range(sizes[1]):
        start = (corner[0] + k) * width + corner[1]
        for i in range(sizes[0]):
            buffer[i, k] = flat[start + i]


@inlined
def turned_out(
    flat: np.ndarray, width: int, corner: tuple[int, int], sizes: tuple[int, int], factor: float, buffer: np.ndarray
) -> None:  # pragma: no cover
    """`matrix[corner + (k, i)] = factor · buffer[i, k]`."""
    scale = flat.dtype.type(factor)
    for k in range(sizes[1]):
        start = (corner[0] + k) * width + corner[1]
        for i in range(sizes[0]):
            flat[start + i] = scale * buffer[i, k]


@compiled
def mirror(
    x: np.ndarray, tiles: np.ndarray, sign: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`x[i, k]` and `sign · x[k, i]` become their mean, over tiles `first..last` of the upper triangle of x (n, n)."""
    flat, n, step = x.reshape(-1), np.uint64(x.shape[0]), np.uint64(TILE)
    buffer = np.empty((TILE, TILE), x.dtype)
    half, factor, faint, zero = x.dtype.type(0.5), x.dtype.type(sign), x.dtype.type(quiet), x.dtype.type(0.0)
    for t in range(first, last):
        top, left = np.uint64(tiles[t, 0]) * step, np.uint64(tiles[t, 1]) * step
        rows, columns = min(step, n - top), min(step, n - left)
        turned_in(flat, n, (left, top), (rows, columns), buffer)
        for i in range(rows):
            start = (top + i) * n + left
            if faint > 0.0:
                for k in range(columns):
                    one, other = flat[start + k], factor * buffer[i, k]
                    mean = (one + other) * half
                    buffer[i, k] = zero if abs(mean) < faint * abs(one - other) else mean
            else:
                for k in range(columns):
                    buffer[i, k] = (flat[start + k] + factor * buffer[i, k]) * half
        if top == left:
            for i in range(rows):
                buffer[i, i] = zero if sign < 0.0 else flat[(top + i) * n + left + i]
                for k in range(i):
                    buffer[i, k] = factor * buffer[k, i]
        else:
            turned_out(flat, n, (left, top), (rows, columns), sign, buffer)
        for i in range(rows):
            start = (top + i) * n + left
            for k in range(columns):
                flat[start + k] = buffer[i, k]


@compiled
def pairs(
    scaled: np.ndarray, plain: np.ndarray, tiles: np.ndarray, ratio: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """`scaled == ratio · plain.T`, |ratio| ≤ 1, by the nearest such pair, over tiles of two row-major matrices."""
    n, m, step = np.uint64(plain.shape[0]), np.uint64(plain.shape[1]), np.uint64(TILE)
    one_side, other_side = plain.reshape(-1), scaled.reshape(-1)
    buffer = np.empty((TILE, TILE), plain.dtype)
    factor, weight = plain.dtype.type(ratio), plain.dtype.type(ratio / (1.0 + ratio * ratio))
    faint, zero = plain.dtype.type(quiet), plain.dtype.type(0.0)
    for t in range(first, last):
        top, left = np.uint64(tiles[t, 0]) * step, np.uint64(tiles[t, 1]) * step
        rows, columns = min(step, n - top), min(step, m - left)
        turned_in(other_side, n, (left, top), (rows, columns), buffer)
        for i in range(rows):
            start = (top + i) * m + left
            if faint > 0.0:
                for k in range(columns):
                    one, other = one_side[start + k], buffer[i, k]
                    both = one + (other - factor * one) * weight
                    both = zero if abs(both) < faint * (abs(one) + abs(other)) else both
                    one_side[start + k] = both
                    buffer[i, k] = both
            else:
                for k in range(columns):
                    both = one_side[start + k] + (buffer[i, k] - factor * one_side[start + k]) * weight
                    one_side[start + k] = both
                    buffer[i, k] = both
        turned_out(other_side, n, (left, top), (rows, columns), ratio, buffer)


@compiled
def multiples(
    scaled: np.ndarray, plain: np.ndarray, ratio: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """The same of flat arrays: `scaled == ratio · plain` at `first..last`."""
    factor, weight = plain.dtype.type(ratio), plain.dtype.type(ratio / (1.0 + ratio * ratio))
    faint, zero = plain.dtype.type(quiet), plain.dtype.type(0.0)
    for k in range(first, last):
        one, other = plain[k], scaled[k]
        both = one + (other - factor * one) * weight
        both = zero if faint > 0.0 and abs(both) < faint * (abs(one) + abs(other)) else both
        plain[k] = both
        scaled[k] = factor * both
