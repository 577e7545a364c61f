"""Rules that a matrix, the last two axes of a weight, is zero outside a band or outside diagonal blocks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from numbers import Integral
from typing import TypeAlias

from affinet.errors import ShapeError
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression, concat
from affinet.language.families.matrices import checked_matrices
from affinet.language.families.naming import named_rule
from affinet.language.weight_groups import over_weights
from affinet.language.wording import Word

Sizes: TypeAlias = Sequence[int | Sequence[int]]


@over_weights
def banded(w: Expression, lower: int, upper: int) -> Constraint:
    """`w[..., i, j] == 0` where `j < i - lower` or `j > i + upper`; any two sizes.

    The band has `lower` diagonals below the main one and `upper` above; a negative number cuts off the main one too.
    There is one equation per entry, which inside the band is 0 == 0: so the rule stores n + m numbers and no table.
    Errors: `ShapeError` for widths that are not integers or leave no diagonal.
    """
    w = checked_matrices("banded", w)
    for word, width in (("lower", lower), ("upper", upper)):
        if isinstance(width, bool) or not isinstance(width, Integral):
            raise ShapeError(f"banded takes integers, the numbers of diagonals; got {word}={width!r:.60}.")
    if lower + upper < 0:
        raise ShapeError(
            f"a band of ({w}) with lower={lower} and upper={upper} has no diagonal: lower + upper must be at least 0."
        )
    outside_band = w.triu(int(upper) + 1) + w.tril(-int(lower) - 1)
    return named_rule(outside_band == 0, "banded", w, lower=int(lower), upper=int(upper))


@over_weights
def block_diagonal(w: Expression, blocks: int | Sizes) -> Constraint:
    """Every entry outside blocks along the diagonal is zero: one equation per entry, two strided boxes per block.

    `blocks` is their number, if all have one shape, or a list of their sizes: `[2, 4]` for square blocks,
    `[(2, 3), (4, 1)]` for the rows and columns of each.
    Errors: `ShapeError` where the sizes do not add up to those of the matrix.
    """
    w = checked_matrices("block_diagonal", w)
    sizes = _sizes(w, blocks)
    rows, columns = ([0, *accumulate(size[k] for size in sizes)] for k in (0, 1))
    if (rows[-1], columns[-1]) != w.shape[-2:]:
        raise ShapeError(
            f"the blocks {_sizes_text(sizes)} add up to {rows[-1]} × {columns[-1]}, and the matrices of ({w}) are "
            f"{w.shape[-2]} × {w.shape[-1]}."
        )
    outside_blocks = []
    for top, bottom, left, right in zip(rows, rows[1:], columns, columns[1:], strict=False):
        strip = w[..., top:bottom, :]
        outside_blocks += [strip[..., :left].flatten(-2), strip[..., right:].flatten(-2)]
    shown_blocks = int(blocks) if isinstance(blocks, Integral) else Word(_sizes_text(sizes))
    return named_rule(concat(outside_blocks, dim=-1) == 0, "block_diagonal", w, blocks=shown_blocks)


def _sizes(w: Expression, blocks: object) -> list[tuple[int, int]]:
    if isinstance(blocks, Integral) and not isinstance(blocks, bool):
        count = int(blocks)
        if count < 1 or w.shape[-2] % count or w.shape[-1] % count:
            raise ShapeError(
                f"the matrices of ({w}) are {w.shape[-2]} × {w.shape[-1]} and cannot be divided into {count} equal "
                f"blocks."
            )
        return [(w.shape[-2] // count, w.shape[-1] // count)] * count
    size_list = list(blocks) if isinstance(blocks, Sequence) and not isinstance(blocks, str) else []
    sizes = [tuple(size) if isinstance(size, list | tuple) else (size, size) for size in size_list]
    if not sizes or not all(len(size) == 2 and all(_is_size(n) for n in size) for size in sizes):
        raise ShapeError(
            f"blocks must be the number of blocks, or a list of their sizes such as [2, 4] or [(2, 3), (4, 1)]; "
            f"got {blocks!r:.60}."
        )
    return [(int(size[0]), int(size[1])) for size in sizes]


def _is_size(n: object) -> bool:
    return isinstance(n, Integral) and not isinstance(n, bool) and int(n) >= 0


def _sizes_text(sizes: Sequence[tuple[int, int]]) -> str:
    if len(sizes) > 6:
        return f"{len(sizes)} blocks"
    return str([n if n == m else (n, m) for n, m in sizes])
