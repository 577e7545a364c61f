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
def mirror(
    x: np.ndarray, n: int, width: int, tiles: np.ndarray, sign: float, quiet: float, threads: int
) -> None:  # pragma: no cover
    """Set `x[i, k]` and `sign · x[k, i]` to their mean, over the tiles of the upper triangle of x (n, n).

    x is flat: its rows are `width` apart, and may be parts of longer rows.
    """
    if threads > 1:
        share_out(some_mirrored, (x, n, width, tiles, sign, quiet), len(tiles), threads)
    else:
        some_mirrored(x, n, width, tiles, sign, quiet, 0, len(tiles))


@compiled
def pairs(
    scaled: np.ndarray,
    plain: np.ndarray,
    shape: tuple[int, int],
    widths: tuple[int, int],
    tiles: np.ndarray,
    ratio: float,
    quiet: float,
    threads: int,
) -> None:  # pragma: no cover
    """Move two matrices to the nearest pair with `scaled == ratio · plain.T`, |ratio| ≤ 1, over all tiles.

    `shape` is that of `plain`. Both are flat: `widths` is how far apart the rows of scaled and of plain are.
    """
    if threads > 1:
        share_out(some_pairs, (scaled, plain, shape, widths, tiles, ratio, quiet), len(tiles), threads)
    else:
        some_pairs(scaled, plain, shape, widths, tiles, ratio, quiet, 0, len(tiles))


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
    x: np.ndarray, n: int, width: int, tiles: np.ndarray, sign: float, quiet: float, first: int, last: int
) -> None:  # pragma: no cover
    """Tiles `first..last`, block by block of a cache line's width; entry by entry at the lower and the right edge."""
    step = LINE // x.itemsize
    factor, half, faint, zero = x.dtype.type(sign), x.dtype.type(0.5), x.dtype.type(quiet), x.dtype.type(0.0)
    for t in range(first, last):
        top, left = tiles[t, 0] * TILE, tiles[t, 1] * TILE
        for i in range(top, min(top + TILE, n), step):
            for k in range(max(i, left), min(left + TILE, n), step):
                if k + step <= n:
                    fold_mean(x, x, i * width + k, k * width + i, (width, width), factor, half, faint)
                    continue
                for row in range(i, min(i + step, n)):
                    for column in range(max(row, k), n):
                        one, other = x[row * width + column], x[column * width + row]
                        mean = (one + factor * other) * half
                        mean = zero if abs(mean) < faint * (abs(one) + abs(other)) else mean
                        x[column * width + row] = factor * mean
                        x[row * width + column] = mean


@compiled
def some_pairs(
    scaled: np.ndarray,
    plain: np.ndarray,
    shape: tuple[int, int],
    widths: tuple[int, int],
    tiles: np.ndarray,
    ratio: float,
    quiet: float,
    first: int,
    last: int,
) -> None:  # pragma: no cover
    """Tiles `first..last` of `plain`."""
    n, m = shape
    scaled_width, plain_width = widths
    step = LINE // plain.itemsize
    factor, weight = plain.dtype.type(ratio), plain.dtype.type(ratio / (1.0 + ratio * ratio))
    faint, zero = plain.dtype.type(quiet), plain.dtype.type(0.0)
    for t in range(first, last):
        top, left = tiles[t, 0] * TILE, tiles[t, 1] * TILE
        for i in range(top, min(top + TILE, n), step):
            for k in range(left, min(left + TILE, m), step):
                if i + step <= n and k + step <= m:
                    at, to = i * plain_width + k, k * scaled_width + i
                    fold_pair(plain, scaled, at, to, (plain_width, scaled_width), factor, weight, faint)
                    continue
                for row in range(i, min(i + step, n)):
                    for column in range(k, min(k + step, m)):
                        one, other = plain[row * plain_width + column], scaled[column * scaled_width + row]
                        both = one + (other - factor * one) * weight
                        both = zero if abs(both) < faint * (abs(one) + abs(other)) else both
                        plain[row * plain_width + column] = both
                        scaled[column * scaled_width + row] = factor * both


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
