"""Makes a matrix equal to its transpose, or to a multiple of the transpose of another matrix, tile by tile."""

# mypy: disable-error-code="untyped-decorator,misc,no-untyped-call,arg-type"
from __future__ import annotations

import numpy as np

from affinet.kernels.loops.jit import compiled
from affinet.kernels.loops.openmp import share_out
from affinet.kernels.loops.shuffles import LINE, fold_mean, fold_pair

TILE = 64
"""Rows and columns of a tile: few enough that the processor keeps their pages in its translation buffer."""


@compiled
def mirror(x: np.ndarray, tiles: np.ndarray, sign: float, quiet: float, threads: int) -> None:  # pragma: no cover
    """Set `x[i, k]` and `sign · x[k, i]` to their mean, over the tiles of the upper triangle of x (n, n)."""
    if threads > 1:
        share_out(some_mirrored, (x, tiles, sign, quiet), len(tiles), threads)
    else:
        some_mirrored(x, tiles, sign, quiet, 0, len(tiles))


@compiled
def pairs(
    scaled: np.ndarray, plain: np.ndarray, tiles: np.ndarray, ratio: float, quiet: float, threads: int
) -> None:  # pragma: no cover
    """Move two row-major matrices to the nearest pair with `scaled == ratio · plain.T`, |ratio| ≤ 1, over all tiles."""
    if threads > 1:
        share_out(some_pairs, (scaled, plain, tiles, ratio, quiet), len(tiles), threads)
    else:
        some_pairs(scaled, plain, tiles, ratio, quiet, 0, len(tiles))


@compiled
def multiples(
    scaled: np.ndarray, plain: np.ndarray, ratio: float, quiet: float, threads: int
) -> None:  # pragma: no cover
    """The same for flat arrays: `scaled == ratio · plain`."""
    if threads > 1:
        share_out(some_multiples, (scaled, plain, ratio, quiet), len(plain), threads)
    else:
        some_multiples(scaled, plain, ratio, quiet, 0, len(plain))


@compiled
def some_mirrored(
    x: np.ndarray, tiles: np.ndarray, sign: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """Tiles `first..last`, block by block of a cache line's width; entry by entry at the lower and the right edge."""
    flat, n, step = x.reshape(-1), x.shape[0], LINE // x.itemsize
    factor, half, faint, zero = x.dtype.type(sign), x.dtype.type(0.5), x.dtype.type(quiet), x.dtype.type(0.0)
    for t in range(first, last):
        top, left = tiles[t, 0] * TILE, tiles[t, 1] * TILE
        for i in range(top, min(top + TILE, n), step):
            for k in range(max(i, left), min(left + TILE, n), step):
                if k + step <= n:
                    fold_mean(flat, flat, i * n + k, k * n + i, (n, n), factor, half, faint)
                    continue
                for row in range(i, min(i + step, n)):
                    for column in range(max(row, k), n):
                        one, other = x[row, column], x[column, row]
                        mean = (one + factor * other) * half
                        mean = zero if abs(mean) < faint * (abs(one) + abs(other)) else mean
                        x[column, row] = factor * mean
                        x[row, column] = mean


@compiled
def some_pairs(
    scaled: np.ndarray, plain: np.ndarray, tiles: np.ndarray, ratio: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """Tiles `first..last` of `plain`."""
    n, m = plain.shape
    one_side, other_side, step = plain.reshape(-1), scaled.reshape(-1), LINE // plain.itemsize
    factor, weight = plain.dtype.type(ratio), plain.dtype.type(ratio / (1.0 + ratio * ratio))
    faint, zero = plain.dtype.type(quiet), plain.dtype.type(0.0)
    for t in range(first, last):
        top, left = tiles[t, 0] * TILE, tiles[t, 1] * TILE
        for i in range(top, min(top + TILE, n), step):
            for k in range(left, min(left + TILE, m), step):
                if i + step <= n and k + step <= m:
                    fold_pair(one_side, other_side, i * m + k, k * n + i, (m, n), factor, weight, faint)
                    continue
                for row in range(i, min(i + step, n)):
                    for column in range(k, min(k + step, m)):
                        one, other = plain[row, column], scaled[column, row]
                        both = one + (other - factor * one) * weight
                        both = zero if abs(both) < faint * (abs(one) + abs(other)) else both
                        plain[row, column] = both
                        scaled[column, row] = factor * both


@compiled
def some_multiples(
    scaled: np.ndarray, plain: np.ndarray, ratio: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """Entries `first..last`."""
    factor, weight = plain.dtype.type(ratio), plain.dtype.type(ratio / (1.0 + ratio * ratio))
    faint, zero = plain.dtype.type(quiet), plain.dtype.type(0.0)
    for k in range(first, last):
        one, other = plain[k], scaled[k]
        both = one + (other - factor * one) * weight
        both = zero if abs(both) < faint * (abs(one) + abs(other)) else both
        plain[k] = both
        scaled[k] = factor * both
