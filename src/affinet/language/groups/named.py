"""Make the named groups (SO, O, SL, …), each from as few generators as suffice."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from affinet.errors import ShapeError
from affinet.language.forecast import forecast
from affinet.language.groups.elements import LieElement, SignedPermutation
from affinet.language.groups.representation import Group
from affinet.language.groups.tensors import real_blocks

MOST = 1_000_000
"""The largest n. Memory is forecast for the spaces that a group acts on, but not for all generators themselves."""


def SO(n: int) -> Group:
    """Rotations of n-dimensional space, from the Lie algebra of turns in the planes of neighbouring axes."""
    return Group(f"SO({_checked_size('SO', n)})", _turns(n) or [np.arange(n)])


def O(n: int) -> Group:  # noqa: E743
    """Rotations and reflections of n-dimensional space."""
    return Group(f"O({_checked_size('O', n)})", [*_turns(n), _reflection(n)])


def SL(n: int) -> Group:
    """Matrices of determinant 1."""
    return Group(f"SL({_checked_size('SL', n)})", _shears(n) or [np.arange(n)])


def GL(n: int) -> Group:
    """Invertible matrices: those of positive determinant from the Lie algebra, the others from a reflection."""
    return Group(f"GL({_checked_size('GL', n)})", [*_shears(n), _lie(n, (0, 0, 1.0)), _reflection(n)])


def Sp(n: int) -> Group:
    """Symplectic maps of the 2n numbers (q, p): `MᵀJM = J` with `J = [[0, 1], [−1, 0]]` in blocks of n."""
    size = 2 * _checked_size("Sp", n)
    _forecast(2 * n, size)
    simple = [_lie(size, (i, j, 1.0), (n + j, n + i, -1.0)) for a, b in pairwise(range(n)) for i, j in ((a, b), (b, a))]
    return Group(f"Sp({n})", [*simple, _lie(size, (n - 1, size - 1, 1.0)), _lie(size, (size - 1, n - 1, 1.0))])


def Lorentz() -> Group:
    """`O(1, 3)`: boosts and rotations of (t, x, y, z), and the reflections of time and of space."""
    time, space = [-1, 1, 1, 1], [1, -1, 1, 1]
    return Group("Lorentz()", [*_boosts(), *(SignedPermutation(np.arange(4), signs) for signs in (time, space))])


def ProperLorentz() -> Group:
    """`SO⁺(1, 3)`: boosts and rotations of (t, x, y, z), without reflections."""
    return Group("ProperLorentz()", _boosts())


def S(n: int) -> Group:
    """All permutations of n things."""
    swap, cycle = np.arange(_checked_size("S", n)), np.roll(np.arange(n), 1)
    swap[:2] = swap[:2][::-1]
    return Group(f"S({n})", [swap, cycle] if n > 2 else [swap])


def Z(n: int) -> Group:
    """Cyclic shifts of n things."""
    return Group(f"Z({n})", [np.roll(np.arange(_checked_size("Z", n)), 1)])


def C(n: int) -> Group:
    """Rotations of the plane by multiples of 2π / n."""
    return Group(f"C({_checked_size('C', n)})", [_rotation(n)])


def D(n: int) -> Group:
    """The symmetries of a regular polygon of n corners: rotations and reflections of the plane."""
    return Group(f"D({_checked_size('D', n)})", [_rotation(n), _reflection(2)])


def U(n: int) -> Group:
    """Unitary maps of n complex numbers, on their n real parts followed by their n imaginary parts."""
    return Group(f"U({_checked_size('U', n)})", [*_complex_turns(n), _imaginary(n, (0, 0))])


def SU(n: int) -> Group:
    """Unitary maps of determinant 1, on n real parts followed by n imaginary parts."""
    return Group(f"SU({_checked_size('SU', n)})", _complex_turns(n) or [np.arange(2 * n)])


def _checked_size(name: str, n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST:
        raise ShapeError(f"{name}(n) takes an integer n from 1 to {MOST:,}; got {n!r:.40}.")
    return n


def _forecast(count: int, size: int) -> None:
    """Raise TooLargeError where sparse matrices, with at least one integer per row, would exceed the memory limit."""
    forecast(f"{count:,} generators of {size:,} × {size:,}", count * (size + 1), item_bytes=4)


def _lie(n: int, *places: tuple[int, int, float]) -> LieElement:
    from scipy import sparse

    rows, columns, values = zip(*places, strict=True)
    return LieElement(sparse.csr_array((np.array(values, np.float64), (rows, columns)), shape=(n, n)))


def _turns(n: int) -> list[LieElement]:
    """Turns in the planes of neighbouring axes; their brackets are the turns in all other planes."""
    _forecast(n, n)
    return [_lie(n, (i, j, -1.0), (j, i, 1.0)) for i, j in pairwise(range(n))]


def _shears(n: int) -> list[LieElement]:
    """Shears along neighbouring axes; with their brackets they span all matrices of trace 0."""
    _forecast(2 * n, n)
    return [_lie(n, (i, j, 1.0)) for a, b in pairwise(range(n)) for i, j in ((a, b), (b, a))]


def _boosts() -> list[LieElement]:
    """The three boosts; their brackets are the rotations."""
    return [_lie(4, (0, k, 1.0), (k, 0, 1.0)) for k in (1, 2, 3)]


def _reflection(n: int) -> SignedPermutation:
    return SignedPermutation(np.arange(n), np.where(np.arange(n) == 0, -1, 1))


def _rotation(n: int) -> Any:
    angle = 2 * np.pi / n
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _complex_turns(n: int) -> list[LieElement]:
    """Turns of neighbouring numbers, and the same turns by i: their brackets are su(n)."""
    _forecast(2 * n, 2 * n)
    real = (LieElement(real_blocks(turn.matrix)) for turn in _turns(n))
    return [*real, *(_imaginary(n, (i, j), (j, i)) for i, j in pairwise(range(n)))]


def _imaginary(n: int, *places: tuple[int, int]) -> LieElement:
    from scipy import sparse

    rows, columns = zip(*places, strict=True)
    matrix = sparse.csr_array((np.full(len(rows), 1j), (rows, columns)), shape=(n, n))
    return LieElement(real_blocks(matrix))
