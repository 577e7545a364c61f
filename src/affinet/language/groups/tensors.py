"""Make generators on larger spaces from matrices and permutations: tensor powers, direct sums, duals, real blocks."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

from affinet.errors import RuleError, ShapeError
from affinet.language.calculus.terms import Floats
from affinet.language.constants import is_sparse, read_array, read_constant, read_matrix
from affinet.language.forecast import forecast
from affinet.language.groups import actions
from affinet.language.groups.elements import Generator, LieElement, Mixes, Moves, SignedPermutation, read_moves


def kronecker_power(element: Any, k: int) -> Any:
    """`matrix ⊗ … ⊗ matrix`, k times: the action of a group element on the n**k entries of a row-major tensor.

    Law: for k = 2, `kronecker_power(M, 2) @ x.flatten() == (M @ x @ M.T).flatten()`; k = 0 is the number 1.
    A sparse matrix gives a sparse one, a permutation the array that `powers` gives, a `SignedPermutation` another.
    Errors: `ShapeError` for a matrix that is not square or a negative power, `RuleError` for a `LieElement`.
    """
    count = _power(k)
    if isinstance(element, LieElement):
        raise RuleError("kronecker_power takes group elements. For a LieElement write families.kronecker_sum(X, k).")
    if (moves := _as_moves(element)) is not None:
        return _as_written(reduce(actions.tensor, [moves] * count, actions.identity(moves, 1)))
    if is_sparse(element):
        square = _square_sparse(element)
        return _tensor_product(Mixes(square, square.shape[0]), count)
    square = _square(element)
    forecast(f"the power {count} of a matrix of {len(square)} × {len(square)}", len(square) ** (2 * count))
    result: Floats = np.ones((1, 1))
    for _ in range(count):
        result = np.kron(result, square).astype(np.float64, copy=False)
    return result


def kronecker_sum(element: Any, k: int) -> Any:
    """`X ⊗ 1 ⊗ … + 1 ⊗ X ⊗ … + …`: the action of an element X of a Lie algebra on the n**k entries of a tensor.

    Law: the derivative of `kronecker_power(expm(t X), k)` at t = 0, so its exponential is that of `expm(X)`. For
    k = 2, `kronecker_sum(X, 2) @ x.flatten() == (X @ x + x @ X.T).flatten()`; k = 0 is the number 0.
    A sparse matrix gives a sparse one, with at most k numbers for each of its numbers; a `LieElement` gives another.
    Errors: as `kronecker_power`; `RuleError` for permutations, which are not elements of a Lie algebra.
    """
    count = _power(k)
    if isinstance(element, LieElement):
        return LieElement(kronecker_sum(element.matrix, count))
    if _as_moves(element) is not None:
        raise RuleError(
            "kronecker_sum takes elements of a Lie algebra. For a permutation write families.kronecker_power(p, k)."
        )
    if is_sparse(element):
        square = _square_sparse(element)
        return _tensor_product(Mixes(square, square.shape[0], lie=True), count)
    square = _square(element)
    n = len(square)
    forecast(f"the Kronecker sum of {count} matrices of {n} × {n}", n ** (2 * count))
    result: Floats = np.zeros((1, 1))
    for axes_before in range(count):
        result = np.kron(result, np.eye(n)) + np.kron(np.eye(n**axes_before), square)
    return result


def direct_sum(*parts: Any) -> Any:
    """One generator that acts on several spaces laid end to end, from its action on each of them.

    Parts are permutations, signed permutations or matrices. The result is as simple as its parts allow: a permutation,
    a `SignedPermutation`, or a block-diagonal matrix, which is sparse where a part is. Elements of a Lie algebra are
    matrices, or all are `LieElement`, and so is their sum.
    Errors: `RuleError` for no parts and for a mix of `LieElement` and others, `ShapeError` for wrong generators.
    """
    if not parts:
        raise RuleError("direct_sum takes one part or more.")
    are_lie = [isinstance(part, LieElement) for part in parts]
    if any(are_lie):
        if not all(are_lie):
            raise RuleError(
                "some parts of direct_sum are a LieElement and some are not. Where an element of the algebra does "
                "nothing, write families.LieElement(np.zeros((n, n)))."
            )
        return LieElement(direct_sum(*(part.matrix for part in parts)))
    moves = [_as_moves(part) for part in parts]
    if all(part is not None for part in moves):
        permutations: list[Generator] = [part for part in moves if part is not None]
        return _as_written(reduce(actions.direct_sum, permutations))
    blocks: list[Any] = [
        move.matrix() if move is not None else _square_sparse(part) if is_sparse(part) else _square(part)
        for move, part in zip(moves, parts, strict=True)
    ]
    import scipy.linalg
    import scipy.sparse

    if any(is_sparse(part) for part in parts):
        return scipy.sparse.csr_array(scipy.sparse.block_diag(blocks, format="csr"))
    matrix: Floats = scipy.linalg.block_diag(
        *(np.asarray(block.toarray() if is_sparse(block) else block) for block in blocks)
    )
    return matrix


def dual(element: Any) -> Any:
    """The action of a generator on linear functionals: the transposed inverse, and `−Xᵀ` for a `LieElement`.

    Law: `dual(M).T @ M == 1`, so that `f @ x` is unchanged when f moves by `dual(M)` and x by M. Permutations, signed
    permutations and orthogonal matrices are their own duals. The result has the form of the element.
    Errors: `ShapeError` for a matrix that is singular or not square.
    """
    if isinstance(element, LieElement):
        return LieElement(-element.matrix.T)
    if (moves := _as_moves(element)) is not None:
        return _as_written(moves)
    square = _square_sparse(element) if is_sparse(element) else _square(element)
    try:
        result = actions.dual(Mixes(square, square.shape[0]))
    except np.linalg.LinAlgError:
        raise ShapeError(
            "this matrix is singular, so it is not an element of a group and has no dual. Write an element of a Lie "
            "algebra as families.LieElement(X)."
        ) from None
    return actions.as_sparse(result) if is_sparse(element) else _dense(result)


def real_blocks(matrix: Any) -> Any:
    """A complex n × n matrix as the real 2n × 2n matrix `[[Re, −Im], [Im, Re]]`.

    Law: `real_blocks(M) @ concatenate([x.real, x.imag])` holds the real parts of `M @ x`, then the imaginary parts, and
    `real_blocks(M @ N) == real_blocks(M) @ real_blocks(N)`. Sparse matrices of scipy stay sparse.
    Errors: `ShapeError` for a matrix that is not square.
    """
    from scipy import sparse

    complex_matrix = matrix if sparse.issparse(matrix) else read_array(matrix)[0]
    if len(complex_matrix.shape) != 2 or complex_matrix.shape[0] != complex_matrix.shape[1]:
        raise ShapeError(f"a generator must be a square matrix; got shape {tuple(complex_matrix.shape)}.")
    real, imaginary = complex_matrix.real, complex_matrix.imag
    if sparse.issparse(complex_matrix):
        return sparse.csr_array(sparse.block_array([[real, -imaginary], [imaginary, real]]))
    real_matrix: Floats = np.block([[real, -imaginary], [imaginary, real]]).astype(np.float64, copy=False)
    return real_matrix


def _as_moves(value: Any) -> Moves | None:
    """Read a permutation or a signed permutation; None for a matrix."""
    if isinstance(value, SignedPermutation) or (not is_sparse(value) and np.ndim(value) == 1):
        return read_moves(value)
    return None


def _as_written(moves: Generator) -> Any:
    """The generator in the form that users write: an array of positions, or a `SignedPermutation`."""
    assert isinstance(moves, Moves)
    return moves.permutation if moves.signs is None else SignedPermutation(moves.permutation, moves.signs)


def _tensor_product(element: Mixes, count: int) -> Any:
    return actions.as_sparse(reduce(actions.tensor, [element] * count, actions.identity(element, 1)))


def _dense(element: Generator) -> Floats:
    matrix: Floats = actions.as_sparse(element).toarray()
    return matrix


def _square(matrix: Any) -> Floats:
    constant = read_constant(matrix)
    _check_square(constant.shape)
    return np.array(np.broadcast_to(constant.values, constant.shape))


def _square_sparse(matrix: Any) -> Any:
    from scipy import sparse

    sparse_matrix = read_matrix(matrix)
    _check_square(sparse_matrix.shape)
    places = sparse_matrix.rows, sparse_matrix.columns  # type: ignore[union-attr]
    return sparse.csr_array((sparse_matrix.values, places), shape=sparse_matrix.shape)


def _check_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ShapeError(f"a generator must be a square matrix; got shape {shape}.")


def _power(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= 64:
        raise ShapeError(f"the power must be an integer from 0 to 64; got {k!r:.60}.")
    return k
