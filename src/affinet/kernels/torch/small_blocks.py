"""The small blocks of a plan as tables for one compiled call: what costs then is the work, and not a call for each.

A block becomes cells that sum to given totals, classes of entries that are multiples of one number, or components:
entries, the unknowns that they are multiples of, and an orthonormal basis of the equations between unknowns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.nn import Parameter

from affinet.blocks.classes import Classes
from affinet.blocks.dense import Dense
from affinet.blocks.entry_sets import View, positions_of
from affinet.blocks.fixed import Fixed
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Nest, Offsets, merged
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Part
from affinet.blocks.slices import Slices
from affinet.blocks.ties import Ties
from affinet.kernels.torch import looped
from affinet.kernels.torch.access import Tensors
from affinet.kernels.torch.kernel import Decay, Kernel
from affinet.kernels.torch.looped import WIDTHS
from affinet.language.calculus.terms import Floats, Integers
from affinet.system import lapack

MOST_ENTRIES = 8_192
"""Entries of a block up to which it is small: about where its own loop, call included, becomes as quick."""
MOST_PRODUCTS = 2**16
"""Numbers of all bases of a block, as often as each is used, up to which it is small: 20 µs."""
KNOWN = (torch.Tensor, Parameter)
"""Types whose numbers lie where they say; subclasses may stand for many tensors, or for none."""

Names = Mapping[str, int]


@dataclass
class Tables:
    """Tables as `kernels/loops/tables.py` reads them, of one block or of several one after the other."""

    cells: Integers = field(default_factory=lambda: np.zeros((0, 5), np.int64))
    classes: Integers = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    plain: Integers = field(default_factory=lambda: np.zeros((0, 11), np.int64))
    """Components whose entries are unknowns of their own."""
    tied: Integers = field(default_factory=lambda: np.zeros((0, 11), np.int64))
    """Components in which several entries share an unknown."""
    entries: Integers = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    """Tensor, place and unknown of every entry."""
    lines: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    """Scale and shift of every entry: it is `scale · z + shift` of its unknown z."""
    unknowns: Floats = field(default_factory=lambda: np.zeros((0, 3)))
    """The place among the component's entries of one with scale 1 and shift 0, √Σ scale², and how many there are."""
    numbers: Floats = field(default_factory=lambda: np.zeros(0))
    exact: Integers = field(default_factory=lambda: np.zeros(0, np.int64))

    def then(self, other: Tables) -> Tables:
        """These tables and another's after them, which refer to themselves still."""
        cells, plain, tied = other.cells.copy(), other.plain.copy(), other.tied.copy()
        cells[:, -1] += len(self.numbers)
        for components in (plain, tied):
            components[:, [0, 1]] += len(self.entries)
            components[:, 2] += len(self.unknowns)
            components[:, [4, 6, 8]] += len(self.numbers)
            components[:, [7, 9]] += len(self.exact)
        return Tables(
            np.concatenate([self.cells, cells]),
            np.concatenate([self.classes, other.classes + len(self.entries)]),
            np.concatenate([self.plain, plain]),
            np.concatenate([self.tied, tied]),
            np.concatenate([self.entries, other.entries]),
            np.concatenate([self.lines, other.lines]),
            np.concatenate([self.unknowns, other.unknowns]),
            np.concatenate([self.numbers, other.numbers]),
            np.concatenate([self.exact, other.exact]),
        )


class Together:
    """Blocks that one compiled call projects in place, on contiguous tensors of one dtype on the CPU."""

    def __init__(self, tensors: Mapping[str, Tensor], blocks: Iterable[Tables], dtype: torch.dtype) -> None:
        """`blocks` number the tensors as they come."""
        from affinet.kernels.loops import tables as compiled

        tables = Tables()
        for block in blocks:
            tables = tables.then(block)
        used = np.unique(np.concatenate([tables.cells[:, 0], tables.entries[:, 0]]))
        tables.cells[:, 0] = np.searchsorted(used, tables.cells[:, 0])
        tables.entries[:, 0] = np.searchsorted(used, tables.entries[:, 0])
        self._run, self._dtype = compiled.small, dtype
        self._names = tuple(name for number, name in enumerate(tensors) if number in used)
        self._sizes = tuple(tensors[name].numel() for name in self._names)
        spans = np.concatenate([table[:, 1] - table[:, 0] for table in (tables.plain, tables.tied)])
        self._tables = (
            tables.cells,
            tables.classes,
            tables.plain,
            tables.tied,
            tables.entries,
            tables.lines,
            tables.unknowns,
            tables.numbers,
            tables.exact,
            int(spans.max(initial=1)),
        )
        self._like = np.dtype(str(dtype).removeprefix("torch.")).type(0)
        self._no_rates = np.zeros(0)

    def settle(
        self,
        tensors: Tensors,
        *,
        affine: bool,
        quiet: float = 0.0,
        decay: Decay | None = None,
        passes: int = 1,
    ) -> bool:
        """As of a kernel, for all blocks together; a gradient that is missing carries no decay."""
        given = [tensors.get(name) for name in self._names]
        present = [
            torch.zeros(size, dtype=self._dtype) if tensor is None else tensor
            for tensor, size in zip(given, self._sizes, strict=True)
        ]
        places = self._addresses(present)
        if places is None:
            return False
        others, rates = places, self._no_rates
        if decay is not None:
            decayed = self._addresses([decay.weights[name] for name in self._names])
            if decayed is None:
                return False
            pairs = zip(self._names, given, strict=True)
            others = decayed
            rates = np.array([0.0 if tensor is None else decay.rates.get(name, 0.0) for name, tensor in pairs])
        addresses = np.array((places, others), np.int64)
        for _ in range(passes):
            self._run(self._like, addresses, rates, *self._tables, affine, quiet)
        increment_version(present)
        return True

    def _addresses(self, tensors: Iterable[Tensor]) -> list[int] | None:
        """Where tensors lie; None where one is not as the loop needs it."""
        found: list[int] = []
        try:
            for tensor in tensors:
                if not (type(tensor) in KNOWN and tensor.dtype is self._dtype and tensor.is_contiguous()):
                    return None
                if not tensor.is_cpu:
                    return None
                found.append(tensor.data_ptr())
        except RuntimeError:  # a tensor inside a transform of torch.func stands for many
            return None
        return found


def together(
    blocks: Sequence[AnyBlock], kernels: Sequence[Kernel], tensors: Mapping[str, Tensor]
) -> tuple[Together | None, tuple[Kernel, ...]]:
    """The small blocks as one call, and the kernels of all others; None and all kernels where that saves nothing."""
    named = {name: tensors[name] for kernel in kernels for name in kernel.names}
    kinds = {(tensor.device.type, tensor.dtype) for tensor in named.values()}
    if not looped.available() or len(kinds) != 1 or not kinds <= {("cpu", dtype) for dtype in WIDTHS}:
        return None, tuple(kernels)
    numbers = {name: number for number, name in enumerate(named)}
    ((_, dtype),) = kinds
    tables = [tables_of(block, numbers, dtype) for block in blocks]
    small = [each for each in tables if each is not None]
    if not small:
        return None, tuple(kernels)
    others = tuple(kernel for kernel, each in zip(kernels, tables, strict=True) if each is None)
    return Together(named, small, dtype), others


def tables_of(block: AnyBlock, names: Names, dtype: torch.dtype) -> Tables | None:
    """The tables of a block whose parameters have these numbers; None where it is not small, or of another kind."""
    if block.size > MOST_ENTRIES:
        return None
    match block:
        case Slices():
            return _slices(block, names)
        case Ties():
            return _ties(block, names)
        case Dense():
            return _dense(block, names, dtype)
        case Mirror():
            return _mirror(block, names)
        case Pairs():
            return _pairs(block, names)
        case Fixed():
            return _fixed(block, names)
        case _:
            return None


def _slices(block: Slices, names: Names) -> Tables | None:
    cells, n, r = block.outer.size, block.inner.size, len(block.basis)
    if cells * n * r > MOST_PRODUCTS:
        return None
    tensor = names[block.parameter.name]
    step = _step(block.inner)
    if block.even and step and not len(block.pinned) and not len(block.copies):
        table = np.zeros((cells, 5), np.int64)
        table[:, 0], table[:, 1] = tensor, block.offset + block.outer.table()
        table[:, 2], table[:, 3] = n, step
        table[:, 4] = np.arange(cells) if len(block.target) > 1 else 0
        return Tables(cells=table, numbers=(block.target * np.sign(block.basis[0, 0]) * np.sqrt(n)).ravel())
    places = block.offset + block.outer.table()[:, None] + block.inner.table()
    exact = np.concatenate([[len(block.pinned)], block.pinned, [len(block.copies)], block.copies.ravel()])
    components = np.zeros((cells, 11), np.int64)
    numbers, at = [block.basis.ravel()], block.basis.size
    for column, values, width in ((6, block.target, r), (8, block.values, len(block.pinned))):
        numbers.append(np.asarray(values).ravel())
        components[:, column] = at + (np.arange(cells) * width if len(values) > 1 else 0)
        at += np.asarray(values).size
    components[:, 5], components[:, 9] = r, 1 + len(block.pinned)
    return _plain(np.full(cells * n, tensor), places.ravel(), n, components, np.concatenate(numbers), exact)


def _step(inner: Offsets) -> int:
    """By how much the entries of a cell are apart, where that is always the same and more than zero; else zero."""
    dims = merged(inner.dims) if isinstance(inner, Nest) else ()
    return max(0, dims[0][1]) if len(dims) == 1 else 0


def _plain(
    tensors: Integers, places: Integers, n: int, components: Integers, numbers: Floats, exact: Integers
) -> Tables:
    """Components of `n` entries each, every entry its own unknown."""
    count = len(components)
    components[:, 0] = np.arange(count) * n
    components[:, 1], components[:, 3] = components[:, 0] + n, n
    local = np.tile(np.arange(n), count)
    return Tables(
        plain=components,
        entries=np.stack([tensors, places, local], axis=1).astype(np.int64),
        lines=np.tile([1.0, 0.0], (count * n, 1)),
        numbers=np.asarray(numbers, np.float64),
        exact=exact.astype(np.int64),
    )


def _ties(block: Ties, names: Names) -> Tables:
    classes = block.classes
    tensors, places = _located(block.parts, names)
    other = np.ones(block.size, bool)
    other[classes.representative] = False
    order = np.lexsort((other, classes.class_of))  # the representative first: its scale is 1, and its shift 0
    ends = np.cumsum(np.bincount(classes.class_of, minlength=classes.count))
    scale, shift = (np.broadcast_to(values, other.shape)[order] for values in (classes.scale, classes.shift))
    return _tied(np.concatenate([[0], ends]), tensors[order], places[order], scale, shift)


def _tied(bounds: Integers, tensors: Integers, places: Integers, scale: Floats, shift: Floats) -> Tables:
    """Classes of entries, one after the other."""
    return Tables(
        classes=np.stack([bounds[:-1], bounds[1:]], axis=1).astype(np.int64),
        entries=np.stack([tensors, places, np.zeros(len(places), np.int64)], axis=1).astype(np.int64),
        lines=np.stack([scale, shift], axis=1).astype(np.float64),
    )


def _dense(block: Dense, names: Names, dtype: torch.dtype) -> Tables | None:
    k, r, n = block.basis.shape
    if k * r * n > MOST_PRODUCTS:
        return None
    basis, target, inside = block.basis, block.target, False
    # Not for float64 weights, where its rounding would be seen: it is five times that of gaps that are nearly zero.
    if dtype == torch.float32 and k == 1 and 2 * r > n and _as_they_are(block.classes):
        basis, target, inside = *_complement(block), True
    found = _unknowns(block, names)
    for components in (found.plain, found.tied):
        components[:, 4] = np.arange(len(components)) * basis.shape[1] * n
        components[:, 5], components[:, 10] = basis.shape[1], inside
        components[:, 6] = basis.size + np.arange(len(components)) * target.shape[1]
    found.numbers = np.concatenate([basis.ravel(), target.ravel()])
    return found


def _as_they_are(classes: Classes) -> bool:
    """Whether every entry is an unknown of its own."""
    return classes.plain and bool((classes.scale == 1.0).all()) and not classes.shift.any()


def _complement(block: Dense) -> tuple[Floats, Floats]:
    """Orthonormal rows that span what the equations leave free, and the point nearest to zero, where that is less."""
    basis = block.basis[0]
    basis = basis[np.any(basis != 0.0, axis=1)]
    every, _ = lapack.batched_qr(basis.T, mode="complete")
    return every.T[None, len(basis) :], (block.basis[0].T @ block.target[0])[None]


def _unknowns(block: Dense, names: Names) -> Tables:
    """The components of a block without its equations; entries in the order of their unknowns."""
    members, classes = block.members, block.classes
    (k, n), class_of, representative = members.shape, classes.class_of, classes.representative
    tensors, places = _located(block.parts, names)
    component, local = np.empty(members.size, np.int64), np.empty(members.size, np.int64)
    component[members.ravel()], local[members.ravel()] = np.repeat(np.arange(k), n), np.tile(np.arange(n), k)
    order = np.lexsort((local[class_of], component[class_of]))
    ends = np.cumsum(np.bincount(component[class_of], minlength=k))
    starts = np.concatenate([[0], ends[:-1]])
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    chosen = representative[members.ravel()]
    scale, shift = (np.broadcast_to(values, class_of.shape) for values in (classes.scale, classes.shift))
    count = np.bincount(class_of, minlength=classes.count)
    components = np.zeros((k, 11), np.int64)
    components[:, 0], components[:, 1], components[:, 2], components[:, 3] = starts, ends, np.arange(k) * n, n
    components[:, 9] = 1
    none = components[:0]
    unknowns = [
        place_of[chosen] - np.repeat(starts, n),
        np.sqrt(classes.weight[members.ravel()]),
        count[members.ravel()],
    ]
    return Tables(
        plain=components if _as_they_are(classes) else none,
        tied=none if _as_they_are(classes) else components,
        entries=np.stack([tensors[order], places[order], local[class_of[order]]], axis=1).astype(np.int64),
        lines=np.stack([scale[order], shift[order]], axis=1),
        unknowns=np.stack(unknowns, axis=1).astype(np.float64),
        exact=np.zeros(2, np.int64),
    )


def _mirror(block: Mirror, names: Names) -> Tables:
    """Pairs of an entry and its image, and entries that are their own opposites: half of their shift."""
    every = np.arange(block.view.size)
    image = block.images(every)
    mine = np.ones(block.view.size, bool)
    mine[block.without] = False
    shift = np.broadcast_to(block.shift, [size for size, _ in block.view.dims]).ravel()
    one = np.flatnonzero(mine & (every < image))
    places = _positions(block.view)
    tensor = names[block.view.parameter.name]
    found = _twos((tensor, places[one]), (tensor, places[image[one]]), block.sign, -block.sign * shift[one])
    own = np.flatnonzero(mine & (every == image)) if block.sign < 0 else every[:0]
    return found.then(_given(np.full(len(own), tensor), places[own], shift[own] / 2.0)) if len(own) else found


def _pairs(block: Pairs, names: Names) -> Tables:
    mine = np.ones(block.first.size, bool)
    mine[block.without] = False
    shift = np.broadcast_to(block.shift, [size for size, _ in block.first.dims]).ravel()[mine]
    first, second = ((names[view.parameter.name], _positions(view)[mine]) for view in (block.first, block.second))
    if abs(block.ratio) > 1.0:
        return _twos(first, second, 1.0 / block.ratio, -shift / block.ratio)
    return _twos(second, first, block.ratio, shift)


def _twos(one: tuple[int, Integers], other: tuple[int, Integers], scale: float, shift: Floats) -> Tables:
    """`other == scale · one + shift`, entry by entry, |scale| ≤ 1."""
    count = len(one[1])
    tensors, scales = np.tile([one[0], other[0]], count), np.tile([1.0, scale], count)
    places = np.stack([one[1], other[1]], axis=1).ravel()
    shifts = np.stack([np.zeros(count), shift], axis=1).ravel()
    return _tied(2 * np.arange(count + 1), tensors, places, scales, shifts)


def _fixed(block: Fixed, names: Names) -> Tables:
    places = positions_of(block.places)
    return _given(np.full(len(places), names[block.parameter.name]), places, block.values_at(np.arange(block.size)))


def _given(tensors: Integers, places: Integers, values: Floats) -> Tables:
    """Entries of given value, as one component."""
    components = np.zeros((1, 11), np.int64)
    components[:, 9] = 1 + len(values)
    exact = np.concatenate([[len(values)], np.arange(len(values)), [0]])
    return _plain(tensors, places, len(values), components, np.asarray(values, np.float64), exact)


def _positions(view: View) -> Integers:
    """The places of a box in its flat parameter, in the order of its loops."""
    return view.offset + Nest(view.dims).table()


def _located(parts: tuple[Part, ...], names: Names) -> tuple[Integers, Integers]:
    """The number of the tensor of every entry, and its place there."""
    tensors = np.concatenate([np.full(part.size, names[part.parameter.name]) for part in parts])
    return tensors, np.concatenate([part.positions for part in parts]).astype(np.int64)
