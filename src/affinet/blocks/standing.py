"""How one entry stands in the blocks: which block holds it, how free it is there, its class, its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsmr

from affinet.blocks.bases import Base
from affinet.blocks.bordered import Bordered
from affinet.blocks.dense import Dense
from affinet.blocks.equal import partners
from affinet.blocks.fixed import Fixed, values_at
from affinet.blocks.gram import gram
from affinet.blocks.joined import Joined
from affinet.blocks.kinds import Block
from affinet.blocks.mirror import Mirror
from affinet.blocks.mirrored_product import MirroredProduct
from affinet.blocks.pairs import Pairs
from affinet.blocks.product import Product
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.language.calculus.terms import Floats, Integers
from affinet.system.layout import Layout

MOST_IN_FULL = 2**22
"""Entries of a product without a closed form over which one direction is projected in full, to see how free it is."""
MOST_SOLVED = 2**18
"""Coefficients of an irregular component in which one direction is solved for."""


@dataclass(frozen=True, eq=False)
class Standing:
    """A block and the place of the entry in it: of a base in the order in which it is read, else in that of parts."""

    block: Block
    place: int


def standing(blocks: Sequence[Block], column: int, layout: Layout) -> Standing | None:
    """The block that holds an entry, None where no equation says anything of it."""
    for block in blocks:
        place = place_of(block, column, layout)
        if place >= 0:
            return Standing(block, place)
    return None


def freedom(block: Block, place: int) -> float | None:
    """`P_ii`, the diagonal of the tangent projector: 0 where the entry is determined, 1 where nothing holds it.

    None where finding it would take a large irregular component or product to be solved.
    """
    match block:
        case Fixed():
            return 0.0
        case Ties() | Dense() | Sparse():
            return _of_class(block, place)
        case Bordered():
            return _bordered(block, place)
        case Product() if not (block.separate or block.even) and block.size > MOST_IN_FULL:
            return None
        case MirroredProduct() if freedom(block.product, place) is None:
            return None
        case Joined():
            return freedom(block.base, place)
        case Slices() | Product() | Mirror() | MirroredProduct() | Pairs():
            return float(gram(block, _unit(place, block.entries.count))[0, 0])
        case _:
            assert_never(block)


def known(block: Block, place: int) -> float | None:
    """The value of an entry that can have one only, where the block has it at hand."""
    match block:
        case Fixed():
            return float(values_at(block, np.array([place]))[0])
        case Slices():
            cell, within = divmod(place, block.inner.size)
            if len(block.basis) == block.inner.size:
                target = block.target[cell if len(block.target) > 1 else 0]
                return float(target @ block.basis[:, within])
            return _of_place(block.pinned, block.values[cell if len(block.values) > 1 else 0], within)
        case Product():
            return _in_product(block, place)
        case MirroredProduct():
            found = known(block.product, place)
            return known(block.mirror, place) if found is None else found
        case Joined():
            return known(block.base, place)
        case Bordered():
            found = _of_place(block.pinned, block.values, place)
            base, within = base_of(block, place)
            return found if found is not None or base is None else known(base, within)
        case Mirror() if block.sign < 0 and int(block.images(np.array([place]))[0]) == place:
            shift = np.broadcast_to(block.shift, [size for size, _ in block.view.dims])
            return float(shift.reshape(-1)[place]) / 2.0
        case _:
            return None


def class_of(block: Block, place: int, layout: Layout) -> tuple[Integers, int | None]:
    """The columns of the entries that one number decides together with this one, rising, and their representative.

    A class of one entry is that entry alone; the representative is None where the class has none.
    """
    match block:
        case Ties() | Dense() | Sparse():
            own = block.classes.class_of[place]
            entries = block.entries.columns(np.flatnonzero(block.classes.class_of == own), layout)
            first = block.entries.columns(block.classes.representative[own : own + 1].astype(np.int64), layout)
            return np.sort(entries), int(first[0])
        case Mirror():
            return _columns(block, [place, int(block.images(np.array([place]))[0])], layout), None
        case MirroredProduct():
            return class_of(block.mirror, place, layout)
        case Pairs():
            return _columns(block, [place, (place + block.first.size) % (2 * block.first.size)], layout), None
        case Slices():
            cell, inside = divmod(place, block.inner.size)
            root, members = _copies(block.copies, inside)
            same = [cell * block.inner.size + k for k in members]
            return _columns(block, same, layout), int(block.entries.columns(np.array(same[:1]), layout)[0])
        case Product() | Joined():
            return _columns(block, _reached(block, place), layout), None
        case Bordered():
            root, members = _copies(block.copies, place)
            if len(members) > 1:
                return _columns(block, members, layout), int(block.entries.columns(np.array([root]), layout)[0])
            base, within = base_of(block, place)
            if base is not None:
                return class_of(base, within, layout)
            return _columns(block, [place], layout), None
        case _:
            return _columns(block, [place], layout), None


def place_of(block: Block, column: int, layout: Layout) -> int:
    """The place of an entry in a block, −1 where that does not hold it."""
    return int(block.entries.find(np.array([column], np.int64), layout)[0])


def _columns(block: Block, at: Sequence[int], layout: Layout) -> Integers:
    return np.unique(block.entries.columns(np.array(at, np.int64), layout))


def _copies(copies: Integers, place: int) -> tuple[int, list[int]]:
    root = next((int(r) for member, r, _ in copies if member == place), place)
    return root, [root, *(int(member) for member, r, _ in copies if r == root)]


def _reached(block: Product | Joined, place: int) -> list[int]:
    """The places that equal a place up to the sign, directly or through others."""
    found = [place]
    for one in found:
        found += [other for other, _ in partners(block, one) if other not in found]
    return found


def _of_place(pinned: Integers, values: Floats, place: int) -> float | None:
    at = np.flatnonzero(pinned == place)
    return float(values[at[0]]) if len(at) else None


def _in_product(block: Product, place: int) -> float | None:
    sizes = tuple(size for size, _ in block.view.dims)
    index = np.unravel_index(place, sizes)
    for part, inner in zip(block.slices, block.inner_dims, strict=True):
        outer = tuple(axis for axis in range(len(sizes)) if axis not in inner)
        cell, within = (
            int(np.ravel_multi_index([index[k] for k in some], [sizes[k] for k in some])) if some else 0
            for some in (outer, inner)
        )
        value = known(part, cell * part.inner.size + within)
        if value is not None:
            return value
    return None


def base_of(block: Bordered, place: int) -> tuple[Base | None, int]:
    """The base that holds a place of a bordered block, and the place there; None for an entry of no base."""
    for base in block.bases:
        if place < base.entries.count:
            return base, place
        place -= base.entries.count
    return None, place


def _of_class(block: Ties | Dense | Sparse, place: int) -> float | None:
    """`P_ii = scale² / D · Q_mm`, Q the tangent projector of y = √D z."""
    own, scale = int(block.classes.class_of[place]), block.classes.scale
    share = float(scale[place if len(scale) > 1 else 0]) ** 2 / float(block.classes.weight[own])
    if isinstance(block, Ties):
        return share
    if isinstance(block, Dense):
        which, member = np.nonzero(block.members == own)
        if not len(which):
            return share
        along = block.basis[which[0], :, member[0]]
        return share * float(1.0 - along @ along)
    if block.matrix.nnz > MOST_SOLVED:
        return None
    unit = np.zeros(block.classes.count)
    unit[own] = 1.0
    found = lsmr(block.matrix.T, unit, atol=1e-13, btol=1e-13, maxiter=5_000)
    return share * float(unit[own] - (block.matrix.T @ found[0])[own])


def _bordered(block: Bordered, place: int) -> float | None:
    """`P_ii` is that of the base less `‖factorᵀ M P₀ e_i‖²` of the equations on top."""
    base, within = base_of(block, place)
    if base is None:
        move, own = block.matrix[:, [place]].toarray()[:, 0], 1.0
    else:
        if freedom(base, within) is None:
            return None
        first = place - within
        part = block.matrix[:, first : first + base.entries.count]
        stacked = sparse.vstack([part, _unit(within, base.entries.count)]).tocsr()
        inner = gram(base, sparse.csr_array(stacked))
        move, own = inner[:-1, -1], float(inner[-1, -1])
    along = block.factor.T @ move
    return max(0.0, own - float(along @ along))


def _unit(place: int, width: int) -> sparse.csr_array:
    return sparse.csr_array((np.ones(1), np.array([place]), np.array([0, 1])), shape=(1, width))
