"""Rules about where a matrix, the last two axes of a weight, is zero: outside a band, outside blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from numbers import Integral
from typing import TypeAlias

from affinet.errors import ShapeError
from affinet.language.expression import Constraint, Expression, concat
from affinet.language.families.matrices import matrices
from affinet.language.families.saying import said
from affinet.language.weight_groups import over_weights
from affinet.language.wording import Word

Sizes: TypeAlias = Sequence[int | Sequence[int]]


@over_weights
def banded(w: Expression, lower: int, upper: int) -> Constraint:
    """`w[..., i, j] == 0` where `j < i - lower` or `j > i + upper`; any two sizes.

    The band has `lower` diagonals below the main one and `upper` above; a negative number cuts off the main one too.
    One equation an entry, which says nothing (0 == 0) inside the band: the rule holds n + m numbers and no table.
    Errors: `ShapeError` for widths that are no integers or leave no diagonal.
    """
    w = matrices("banded", w)
    for word, width in (("lower", lower), ("upper", upper)):
        if isinstance(width, bool) or not isinstance(width, Integral):
            raise ShapeError(f"banded takes numbers of diagonals, and {word} is {width!r:.60}.")
    if lower + upper < 0:
        raise ShapeError(
            f"a band of ({w}) with lower={lower} and upper={upper} has no diagonal at all: lower + upper is at least 0."
        )
    outside = w.triu(int(upper) + 1) + w.tril(-int(lower) - 1)
    return said(outside == 0, "banded", w, lower=int(lower), upper=int(upper))


@over_weights
def block_diagonal(w: Expression, blocks: int | Sizes) -> Constraint:
    """Everything outside blocks along the diagonal is zero: one equation an entry, two strided boxes a block.

    `blocks` is how many there are, all of one shape, or a list of their sizes: `[2, 4]` for square blocks,
    `[(2, 3), (4, 1)]` for rows and columns of each.
    Errors: `ShapeError` where the sizes do not add up to those of the matrix.
    """
    w = matrices("block_diagonal", w)
    sizes = _sizes(w, blocks)
    rows, columns = ([0, *accumulate(size[k] for size in sizes)] for k in (0, 1))
    if (rows[-1], columns[-1]) != w.shape[-2:]:
        raise ShapeError(
            f"the blocks {_said(sizes)} add up to {rows[-1]} × {columns[-1]}, and the matrices of ({w}) are "
            f"{w.shape[-2]} × {w.shape[-1]}."
        )
    pieces = []
    for top, bottom, left, right in zip(rows, rows[1:], columns, columns[1:], strict=False):
        strip = w[..., top:bottom, :]
        pieces += [strip[..., :left].flatten(-2), strip[..., right:].flatten(-2)]
    words = int(blocks) if isinstance(blocks, Integral) else Word(_said(sizes))
    return said(concat(pieces, dim=-1) == 0, "block_diagonal", w, blocks=words)


def _sizes(w: Expression, blocks: object) -> list[tuple[int, int]]:
    if isinstance(blocks, Integral) and not isinstance(blocks, bool):
        count = int(blocks)
        if count < 1 or w.shape[-2] % count or w.shape[-1] % count:
            raise ShapeError(
                f"the matrices of ({w}) are {w.shape[-2]} × {w.shape[-1]}, which {count} equal blocks do not divide."
            )
        return [(w.shape[-2] // count, w.shape[-1] // count)] * count
    given = list(blocks) if isinstance(blocks, Sequence) and not isinstance(blocks, str) else []
    sizes = [tuple(size) if isinstance(size, list | tuple) else (size, size) for size in given]
    if not sizes or not all(len(size) == 2 and all(_is_size(n) for n in size) for size in sizes):
        raise ShapeError(
            f"{blocks!r:.60} are no blocks: write how many there are, or their sizes: [2, 4] or [(2, 3), (4, 1)]."
        )
    return [(int(size[0]), int(size[1])) for size in sizes]


def _is_size(n: object) -> bool:
    return isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 0


def _said(sizes: Sequence[tuple[int, int]]) -> str:
    if len(sizes) > 6:
        return f"{len(sizes)} blocks"
    return str([n if n == m else (n, m) for n, m in sizes])
