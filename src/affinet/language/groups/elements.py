"""Read elements of a group or of its Lie algebra as users write them: permutations, signed permutations, matrices."""

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
"""A matrix within this of a signed permutation counts as one: a quarter turn from sines and cosines is off by 6e-17."""

MOSTLY_ZEROS, SMALLEST_SPARSE = 4, 16
"""A matrix with this many rows or more, of which fewer than one number in four is not zero, is stored as sparse."""

MOST_SHOWN = 4
"""The largest number of generators that the text of a rule shows."""


@dataclass(frozen=True, eq=False, slots=True)
class SignedPermutation:
    """`(ρ x)[i] = signs[i] · x[permutation[i]]`: the matrix `np.diag(signs) @ np.eye(n)[permutation]`.

    Both become int64 arrays of shape (n,). Errors: `ShapeError` for anything but a permutation, and for signs that are
    not n numbers 1 or -1.
    """

    permutation: Any
    signs: Any

    def __post_init__(self) -> None:
        description = f"the permutation of SignedPermutation, {_repr_of(self.permutation)},"
        permutation, signs = read_permutation(description, self.permutation), read_array(self.signs)[0]
        if signs.shape != permutation.shape or not (np.abs(signs) == 1).all():
            raise ShapeError(
                f"the signs of SignedPermutation are {_repr_of(self.signs)}, and must be {len(permutation)} "
                f"numbers that are 1 or -1."
            )
        object.__setattr__(self, "permutation", permutation)
        object.__setattr__(self, "signs", signs.astype(np.int64))


@dataclass(frozen=True, eq=False, slots=True)
class LieElement:
    """An element X of a Lie algebra, a square matrix: `exp(t X)` is in the group. Lists may mix it with group elements.

    So one list generates a group of several parts, as `[LieElement(turn), SignedPermutation([0, 1], [-1, 1])]`.
    Errors: `ShapeError` for a matrix that is not square.
    """

    matrix: Any

    def __post_init__(self) -> None:
        shape = _real_matrix("the matrix of LieElement", self.matrix).shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ShapeError(f"the matrix of LieElement has shape {shape}, and must be square.")


@dataclass(frozen=True, eq=False, slots=True)
class Moves:
    """A generator that moves entries: `(ρ x)[i] = signs[i] · x[permutation[i]]`; without signs all are 1."""

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
    """A generator that is a matrix but not a signed permutation, or (with `lie`) an element of a Lie algebra."""

    array: Any
    size: int
    lie: bool = False

    def matrix(self) -> Any:
        return self.array


Generator: TypeAlias = Moves | Mixes


def read_generators(side: str, value: Any, *, lie_algebra: bool) -> list[Generator]:
    """Read the generators of one side, which must be of one size.

    Errors: `RuleError` for anything but a list, an empty list, or permutations in a Lie algebra; `ShapeError` for wrong
    permutations, a matrix that is not square or (in a group) is singular, and for sizes that differ.
    """
    generators = list(value) if isinstance(value, Iterable) and not is_sparse(value) else None
    if not generators or any(
        isinstance(generator, Real | str) or getattr(generator, "ndim", 1) == 0 for generator in generators
    ):
        raise RuleError(
            f"{side} must be a list of generators, not empty, each a permutation such as [1, 2, 0], a "
            f"SignedPermutation or a matrix. Write a single generator as a list, too: {side}=[generator]."
        )
    elements = [_read(f"generator {k} of {side}", generator, lie_algebra) for k, generator in enumerate(generators)]
    sizes = [generator.size for generator in elements]
    if len(set(sizes)) > 1:
        raise ShapeError(f"the generators of {side} have sizes {sizes}, and must have one size: they act on one space.")
    return elements


def read_permutation(description: str, value: Any) -> Integers:
    """Read a permutation of 0, …, n - 1.

    Errors: `ShapeError` for anything else.
    """
    permutation = read_array(value)[0]
    if (
        permutation.ndim != 1
        or permutation.dtype.kind not in "iu"
        or not np.array_equal(np.sort(permutation), np.arange(permutation.size))
    ):
        raise ShapeError(
            f"{description} is not a permutation: that holds every integer from 0 to n - 1 once, as [1, 2, 0] does."
        )
    return permutation.astype(np.int64, copy=False)


def read_moves(value: Any) -> Moves:
    """Read a permutation or a `SignedPermutation`.

    Errors: `ShapeError` for anything else.
    """
    if isinstance(value, SignedPermutation):
        return _moves(value.permutation, value.signs)
    return Moves(read_permutation(_repr_of(value), value), None)


def _read(description: str, value: Any, lie_algebra: bool) -> Generator:
    if isinstance(value, Moves | Mixes):
        return value
    if isinstance(value, LieElement):
        return _read_matrix(description, value.matrix, lie_algebra=True)
    is_matrix = is_sparse(value) or (not isinstance(value, SignedPermutation) and read_array(value)[0].ndim != 1)
    if is_matrix:
        return _read_matrix(description, value, lie_algebra)
    if lie_algebra:
        raise RuleError(
            f"{description} is a permutation, which is an element of a group, but lie_algebra=True takes only matrices "
            f"of a Lie algebra. To mix both, leave lie_algebra out and write families.LieElement(X) for the matrices."
        )
    if not isinstance(value, SignedPermutation):
        return Moves(read_permutation(f"{description}, {_repr_of(value)},", value), None)
    return _moves(value.permutation, value.signs)


def _read_matrix(description: str, value: Any, lie_algebra: bool) -> Generator:
    matrix = _real_matrix(description, value)
    shape = matrix.shape
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ShapeError(f"{description} has shape {shape}, and must be a square matrix or a permutation.")
    mixes = Mixes(_stored(value), shape[0], lie_algebra)
    if lie_algebra:
        return mixes
    moves = _as_moves(matrix)
    if moves is not None:
        return moves
    if _singular(matrix):
        raise ShapeError(
            f"{description} is a singular matrix, but every element of a group has an inverse. Elements of a Lie "
            f"algebra may be singular: write lie_algebra=True if all are such, or families.LieElement(X) for this one."
        )
    return mixes


def _real_matrix(description: str, value: Any) -> Constant | SparseMatrix:
    complex_tensor = getattr(value, "is_complex", None)
    if complex_tensor() if complex_tensor is not None else np.iscomplexobj(value):
        raise ShapeError(
            f"{description} is complex, but weights are real. Write families.real_blocks(matrix), which acts on real "
            f"and imaginary parts."
        )
    return read_matrix(value)


def _stored(value: Any) -> Any:
    """The matrix in its own form, except that a float64 array of mostly zeros becomes a sparse matrix."""
    array = value if hasattr(value, "T") else np.asarray(value)
    if not isinstance(array, np.ndarray) or array.dtype != np.float64:
        return array
    import scipy.sparse

    mostly_zeros = MOSTLY_ZEROS * np.count_nonzero(array) < array.size
    return scipy.sparse.csr_array(array) if mostly_zeros and len(array) >= SMALLEST_SPARSE else array


def _as_moves(matrix: Constant | SparseMatrix) -> Moves | None:
    """The signed permutation that equals the matrix to rounding; None for any other matrix."""
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


def _repr_of(value: Any) -> str:
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def generators_text(generators: Sequence[Generator], *, lie_algebra: bool = False) -> str:
    """`[[1, 2, 0], [1, 0, 2]]`, `[array(9, 9)]`: the generators of a side in the text of a rule."""
    texts = [_generator_text(generator, lie_algebra) for generator in generators[:MOST_SHOWN]]
    return f"[{', '.join(texts)}{', …' if len(generators) > MOST_SHOWN else ''}]"


def _generator_text(generator: Generator, lie_algebra: bool) -> str:
    if isinstance(generator, Mixes):
        word = f"array({generator.size}, {generator.size})"
        return f"LieElement({word})" if generator.lie and not lie_algebra else word
    if generator.signs is None:
        return word_of(generator.permutation).text
    return f"SignedPermutation({word_of(generator.permutation).text}, {word_of(generator.signs).text})"
