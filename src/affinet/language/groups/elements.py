"""Elements of a group or of its Lie algebra as users give them: permutations, signed permutations, matrices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from affinet.errors import RuleError, ShapeError
from affinet.language.calculus.terms import Floats, Integers
from affinet.language.constants import Constant, SparseMatrix, is_sparse, read_array, read_matrix, word_of

NEAR_INTEGER = 1e-12
"""A matrix within this of a signed permutation is one: a quarter turn made of sines and cosines is off by 6e-17."""

MOSTLY_ZEROS, SMALLEST_SPARSE = 4, 16
"""A matrix of which less than one number in four is not zero, and of so many rows, is held as a sparse one."""

MOST_SAID = 4
"""Generators that the text of a rule shows."""


@dataclass(frozen=True, eq=False, slots=True)
class SignedPermutation:
    """`(ρ x)[i] = signs[i] · x[permutation[i]]`: the matrix `np.diag(signs) @ np.eye(n)[permutation]`.

    Kept as int64 arrays of shape (n,). Errors: `ShapeError` for what is no permutation, and for signs that are not n
    numbers 1 or -1.
    """

    permutation: Any
    signs: Any

    def __post_init__(self) -> None:
        what = f"the permutation of SignedPermutation, {_shown(self.permutation)},"
        permutation, signs = read_permutation(what, self.permutation), read_array(self.signs)[0]
        if signs.shape != permutation.shape or not (np.abs(signs) == 1).all():
            raise ShapeError(
                f"the signs of SignedPermutation are {_shown(self.signs)}, and must be {len(permutation)} numbers that "
                f"are 1 or -1."
            )
        object.__setattr__(self, "permutation", permutation)
        object.__setattr__(self, "signs", signs.astype(np.int64))


@dataclass(frozen=True, eq=False, slots=True)
class LieElement:
    """An element X of a Lie algebra, a square matrix, in a list beside elements of a group: `exp(t X)` is in the group.

    A group of several parts is said so by one list, as `[LieElement(turn), SignedPermutation([0, 1], [-1, 1])]`.
    Errors: `ShapeError` for a matrix that is not square.
    """

    matrix: Any

    def __post_init__(self) -> None:
        shape = _real_matrix("the matrix of LieElement", self.matrix).shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ShapeError(f"the matrix of LieElement has shape {shape}, and must be square.")


@dataclass(frozen=True, eq=False, slots=True)
class Moves:
    """A generator that moves entries: `(ρ x)[i] = signs[i] · x[permutation[i]]`; no signs: all are 1."""

    permutation: Integers
    signs: Integers | None

    @property
    def lie(self) -> bool:
        """Whether it is an element of a Lie algebra."""
        return False

    @property
    def size(self) -> int:
        return len(self.permutation)

    def matrix(self) -> Any:
        """The same as a sparse matrix."""
        import scipy.sparse

        values = np.ones(self.size) if self.signs is None else self.signs.astype(np.float64)
        places = np.arange(self.size), self.permutation
        return scipy.sparse.coo_array((values, places), shape=(self.size, self.size))


@dataclass(frozen=True, eq=False, slots=True)
class Mixes:
    """A generator that is a matrix and no signed permutation, or (`lie`) an element of a Lie algebra."""

    given: Any
    size: int
    lie: bool = False

    def matrix(self) -> Any:
        return self.given


Generator: TypeAlias = Moves | Mixes


def read_generators(side: str, given: Any, *, lie_algebra: bool) -> list[Generator]:
    """The generators of one side, all of one size.

    Errors: `RuleError` for no list, an empty one, or permutations in a Lie algebra; `ShapeError` for what is no
    permutation, a matrix that is not square or (in a group) singular, and for sizes that differ.
    """
    listed = list(given) if isinstance(given, Iterable) and not is_sparse(given) else None
    if not listed or any(isinstance(one, Real | str) or getattr(one, "ndim", 1) == 0 for one in listed):
        raise RuleError(
            f"{side} is a list of generators that is not empty, each a permutation such as [1, 2, 0], a "
            f"SignedPermutation or a matrix; one alone stands in a list too: {side}=[generator]."
        )
    read = [_read(f"generator {k} of {side}", one, lie_algebra) for k, one in enumerate(listed)]
    sizes = [one.size for one in read]
    if len(set(sizes)) > 1:
        raise ShapeError(f"the generators of {side} have sizes {sizes}, and act on one space: the sizes must be equal.")
    return read


def read_permutation(what: str, given: Any) -> Integers:
    """A permutation of 0, …, n - 1.

    Errors: `ShapeError` for anything else.
    """
    moved = read_array(given)[0]
    if moved.ndim != 1 or moved.dtype.kind not in "iu" or not np.array_equal(np.sort(moved), np.arange(moved.size)):
        raise ShapeError(f"{what} is no permutation: it holds every integer from 0 to n - 1 once, as [1, 2, 0] does.")
    return moved.astype(np.int64, copy=False)


def read_moves(given: Any) -> Moves:
    """A permutation or a `SignedPermutation`.

    Errors: `ShapeError` for what is no permutation.
    """
    if isinstance(given, SignedPermutation):
        return _moves(given.permutation, given.signs)
    return Moves(read_permutation(_shown(given), given), None)


def _read(what: str, given: Any, lie_algebra: bool) -> Generator:
    if isinstance(given, Moves | Mixes):
        return given
    if isinstance(given, LieElement):
        return _read_matrix(what, given.matrix, lie_algebra=True)
    matrix = is_sparse(given) or (not isinstance(given, SignedPermutation) and read_array(given)[0].ndim != 1)
    if matrix:
        return _read_matrix(what, given, lie_algebra)
    if lie_algebra:
        raise RuleError(
            f"{what} is a permutation, an element of a group, and with lie_algebra all are matrices of a Lie algebra. "
            f"For both in one rule leave lie_algebra out, and write families.LieElement(X) for those of the algebra."
        )
    if not isinstance(given, SignedPermutation):
        return Moves(read_permutation(f"{what}, {_shown(given)},", given), None)
    return _moves(given.permutation, given.signs)


def _read_matrix(what: str, given: Any, lie_algebra: bool) -> Generator:
    matrix = _real_matrix(what, given)
    shape = matrix.shape
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ShapeError(f"{what} has shape {shape}, and is no square matrix or permutation.")
    mixes = Mixes(_held(given), shape[0], lie_algebra)
    if lie_algebra:
        return mixes
    moves = _as_moves(matrix)
    if moves is not None:
        return moves
    if _singular(matrix):
        raise ShapeError(
            f"{what} is a singular matrix, and every element of a group has an inverse. An element of a Lie algebra "
            f"may be singular: say lie_algebra=True where all are, or families.LieElement(X) for this one."
        )
    return mixes


def _real_matrix(what: str, given: Any) -> Constant | SparseMatrix:
    complex_tensor = getattr(given, "is_complex", None)
    if complex_tensor() if complex_tensor is not None else np.iscomplexobj(given):
        raise ShapeError(
            f"{what} is complex, and weights are real: families.real_blocks(matrix) is how it acts on real and "
            f"imaginary parts."
        )
    return read_matrix(given)


def _held(given: Any) -> Any:
    """The matrix as it was given; a float64 array of mostly zeros as a sparse matrix."""
    array = given if hasattr(given, "T") else np.asarray(given)
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        return array
    import scipy.sparse

    few = MOSTLY_ZEROS * np.count_nonzero(array) < array.size
    return scipy.sparse.csr_array(array) if few and len(array) >= SMALLEST_SPARSE else array


def _as_moves(matrix: Constant | SparseMatrix) -> Moves | None:
    """The signed permutation that a matrix is to rounding."""
    n = matrix.shape[0]
    if isinstance(matrix, SparseMatrix):
        rows, columns, values = matrix.rows, matrix.columns, matrix.values
    else:
        dense = np.broadcast_to(matrix.values, matrix.shape)
        rows, columns = np.nonzero(np.abs(dense) > NEAR_INTEGER)
        values = dense[rows, columns]
    if len(rows) != n or not (np.abs(np.abs(values) - 1.0) <= NEAR_INTEGER).all():
        return None
    order = np.argsort(rows)
    if not np.array_equal(rows[order], np.arange(n)) or not np.array_equal(np.sort(columns), np.arange(n)):
        return None
    return _moves(columns[order].astype(np.int64), np.sign(values[order]).astype(np.int64))


def _moves(permutation: Integers, signs: Integers) -> Moves:
    return Moves(permutation, None if (signs == 1).all() else signs)


def _singular(matrix: Constant | SparseMatrix) -> bool:
    if not isinstance(matrix, SparseMatrix):
        dense: Floats = np.broadcast_to(matrix.values, matrix.shape)
        return bool(np.linalg.matrix_rank(dense) < len(dense))
    import scipy.sparse

    values = scipy.sparse.csr_array((matrix.values, (matrix.rows, matrix.columns)), shape=matrix.shape)
    return bool(scipy.sparse.csgraph.structural_rank(values) < matrix.shape[0])


def _shown(given: Any) -> str:
    text = repr(given.tolist() if isinstance(given, np.ndarray) else given)
    return text if len(text) <= 60 else f"{text[:60]}…"


def said_generators(read: Sequence[Generator], *, lie_algebra: bool = False) -> str:
    """`[[1, 2, 0], [1, 0, 2]]`, `[array(9, 9)]`: the generators of a side in the text of a rule."""
    words = [_word(one, lie_algebra) for one in read[:MOST_SAID]]
    return f"[{', '.join(words)}{', …' if len(read) > MOST_SAID else ''}]"


def _word(generator: Generator, lie_algebra: bool) -> str:
    if isinstance(generator, Mixes):
        word = f"array({generator.size}, {generator.size})"
        return f"LieElement({word})" if generator.lie and not lie_algebra else word
    if generator.signs is None:
        return word_of(generator.permutation).text
    return f"SignedPermutation({word_of(generator.permutation).text}, {word_of(generator.signs).text})"
