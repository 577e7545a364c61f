"""Ties as compiled loops: means of classes, or where the entries of a class agree already, one of them copied."""

from __future__ import annotations

from functools import cached_property
from threading import local

import numpy as np
from scipy import sparse

from affinet.blocks.ties import Ties

SHARED = 2**20
"""Entries from which on sums are taken in two parts, one for each of two threads."""
SMALL_CLASS = 16
"""Entries of a class up to which a gradient's sum keeps its dtype: rounding is then below the floor of noise."""


class EqualEntries:
    """Classes of equal entries of one flat parameter.

    Stock optimizers move equal entries alike up to rounding, and then a copy of one of them is all there is to do
    after a step; means are taken where it is not. Classes are numbered as their first entries come, so that tables of
    them are walked through and not jumped about in where a class is new.
    """

    def __init__(self, block: Ties) -> None:
        from affinet.kernels.loops import classes, openmp

        (part,) = block.parts
        self._loops, self._team = classes, openmp.team
        number, count = block.classes.class_of, block.classes.count
        if part.listed is None:  # the few that are missing are classes of their own: nothing to look up
            every = np.empty(part.parameter.size, np.int64)
            every[part.positions] = number
            every[part.missing] = np.arange(count, count + len(part.missing))
            number, count = every, count + len(part.missing)
        class_of, self._first_of = _by_first_entry(number, count)
        self._known = np.zeros(0, np.uint32) if part.listed is None else part.listed.astype(np.uint32), class_of
        counts = np.bincount(class_of, minlength=count)
        # A byte a class where that is enough: the means read them all.
        self._counts = counts.astype(np.uint8 if counts.max(initial=0) < 2**8 else np.float64)
        self._parts = 2 if part.size >= SHARED else 1
        self._small = bool(self._counts.max(initial=0.0) <= SMALL_CLASS)
        self._scratch = local()

    @staticmethod
    def fits(block: Ties) -> bool:
        """Whether all entries of a class are equal."""
        return bool((block.classes.scale == 1.0).all()) and not block.classes.shift.any()

    def __call__(self, x: np.ndarray, threads: int, *, affine: bool, quiet: float) -> None:
        entries = len(self._known[1])
        threads = self._team(entries, threads)
        means = self._table(x.dtype.type)[0]
        if affine and self._loops.agreed(x, *self._known, self._first_of, *self._members, means, threads):
            return
        sums = self._table(x.dtype.type if quiet and self._small else np.float64)
        self._loops.averaged(x, *self._known, self._counts, *self._members, sums, means, quiet, threads)

    def _table(self, kind: type[np.generic]) -> np.ndarray:
        """Scratch of one number a class and part, kept, each thread its own: fresh pages cost as much as a pass."""
        tables: dict[str, np.ndarray] = self._scratch.__dict__
        name = kind.__name__
        if name not in tables:
            tables[name] = np.empty((self._parts, len(self._counts)), kind)
        return tables[name]

    @cached_property
    def _members(self) -> tuple[np.ndarray, np.ndarray]:
        """The entries of every class: their numbers by class, and where each class begins."""
        class_of = self._known[1]
        shape = (len(self._counts), len(class_of))
        counted = sparse.csr_array((np.ones(len(class_of), bool), (class_of, np.arange(len(class_of)))), shape=shape)
        return counted.indices.astype(np.uint32), counted.indptr.astype(np.uint32)


def _by_first_entry(class_of: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The class of every entry, numbered by their first entries, and the number of the first entry of each."""
    entries = np.arange(len(class_of))
    first = np.empty(count, np.int64)
    first[class_of[::-1]] = entries[::-1]  # the last that is written is the first entry
    is_first = first[class_of] == entries
    number = np.empty(count, np.uint32)
    number[class_of[is_first]] = np.arange(count)
    return number[class_of], np.flatnonzero(is_first).astype(np.uint32)
