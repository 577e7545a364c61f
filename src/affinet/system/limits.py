"""Thresholds by which planning chooses between two methods, in one value that a system carries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How large something may be for the first of two roads; both lead to the same projection, to rounding.

    A system holds them, so that whatever is planned again from it takes the same roads. Plan files do not hold them.
    """

    one_by_one: int = 65_536
    """Rules of at most this many (equation, entry) pairs are read one equation at a time: it costs a few milliseconds,
    and makes the plan of a small rule the same however it was written. Larger ones are read from their terms."""

    fixed_from: int = 2_000
    """Large rules that fix more entries than this are substituted into the others; fewer can stand on top of regular
    rules, which stay regular."""

    most_extra: int = 2_000
    """Equations that a border holds at most: its matrix S of 2,000 rows has 32 MB, and its eigenvectors take some
    seconds, once."""

    most_split: int = 2**20
    """(Equation, entry) pairs of cells that are split off rather than bordered: as a component of their own they take
    a fraction of a second to plan, and a step projects the other cells once, where a border projects all of them
    twice."""

    most_apart: int = 2**22
    """Equations of three entries or more, times the entries that leave a mirror or pairs for them: a dense component of
    that size has a factor of 32 MB, and a step projects the others once, where a border projects all twice."""

    most_tying: int = 2**22
    """(Equation, entry) pairs of the equations that tie boxes to each other and are looked at together: they are sorted
    once. More of them are solved one by one."""

    most_stacked: int = 4_000_000
    """Numbers of a matrix in which the equations of several batches, or of tied boxes, are stacked into one cell."""

    most_joint: int = 1_024
    """Places of the loops of two general matrices up to which their projectors are multiplied to see if they
    commute; larger ones are bordered. The product costs the cube of this."""

    large_basis: int = 2**20
    """Numbers from which on the basis of a single cell is kept dense, since it does not fit a cache as a slice."""

    few_numbers: int = 2**20
    """Numbers of the equations of a border, written out over all entries, up to which its rank is that of singular
    values; a larger border goes by eigenvalues of their squares, which have half the digits."""

    dense_rows: int = 512
    """Equations of a component that get a dense factor, which costs their cube; more of them are kept sparse."""

    dense_numbers: int = 2**26
    """Numbers of that dense factor at most: half a gigabyte."""

    largest_core: int = 4_000
    """Equations of a sparse component, after peeling, whose rank is found by dense QR: 4,000 rows take some seconds.
    A larger core is eliminated as long as it stays sparse, and its rank is bounded where it does not."""

    largest_core_numbers: int = 2**27
    """Numbers of that dense core at most: a gigabyte."""

    most_eliminated: int = 1_000_000
    """Numbers that elimination in a large core may change, about one per microsecond, before its rank is bounded."""

    largest_fill: int = 2**25
    """Numbers of a sparse factor up to which it is kept: a quarter of a gigabyte, twice (it comes as L and U). A
    larger component is solved by conjugate gradients."""

    most_written_products: int = 4_096
    """Products of numbers, per product of two matrices in a nonlinear equation, that are written out one by one; of
    more, the matrices are multiplied. Matrices of 16 × 16 have that many."""

    dense_curved: int = 64
    """Nonlinear equations of a component whose derivatives are a dense matrix. Its Gram matrix is decomposed several
    times per step, which costs the cube of this; sparse derivatives are as quick from a dozen equations on, but belong
    to one component, while dense ones are computed for all components of one form together, on their device."""

    dense_curved_cells: int = 256
    """The same where there are many components of one size."""

    dense_derivatives: int = 2**24
    """Numbers of those dense derivatives at most, by entries and steps: 128 MB."""

    most_written_derivatives: int = 2**25
    """Products of coefficients and slopes from which the derivatives of a larger component are computed as a sparse
    matrix: 800 MB of places and coefficients. A component with more is multiplied step by step of its program."""

    most_mixed: int = 2**18
    """Coefficients of the equations and inequalities of a component with nonlinear equations: a step solves a quadratic
    program over them, and decomposes the derivatives in each return."""

    pairs_at_once: int = 2**20
    """(Equation, entry) pairs of rules that are priced at once where others share no entry with them: their sparse form
    stays in the caches of a processor, where ten times as many took two to three times as long per pair."""
