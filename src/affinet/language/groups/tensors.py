"""Generators on larger spaces, from matrices and permutations: tensor powers, direct sums, duals, real blocks."""

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
    """`matrix ⊗ … ⊗ matrix`, k times: how a group element acts on the n**k entries of a row-major tensor of k axes.

    Law: for k = 2, `kronecker_power(M, 2) @ x.flatten() == (M @ x @ M.T).flatten()`; k = 0 is the number 1.
    A sparse matrix gives a sparse one, a permutation what `powers` gives, a `SignedPermutation` another.
    Errors: `ShapeError` for a matrix that is not square or a negative power, `RuleError` for a `LieElement`.
    """
    count = _power(k)
    if isinstance(element, LieElement):
        raise RuleError("an element of a Lie algebra acts on tensors by a sum: write families.kronecker_sum(X, k).")
    if (moves := _as_moves(element)) is not None:
        return _given(reduce(actions.tensor, [moves] * count, actions.identity(moves, 1)))
    if is_sparse(element):
        square = _square_sparse(element)
        return _folded(Mixes(square, square.shape[0]), count)
    square = _square(element)
    forecast(f"the power {count} of a matrix of {len(square)} × {len(square)}", len(square) ** (2 * count))
    result: Floats = np.ones((1, 1))
    for _ in range(count):
        result = np.kron(result, square).astype(np.float64, copy=False)
    return result


def kronecker_sum(element: Any, k: int) -> Any:
    """`X ⊗ 1 ⊗ … + 1 ⊗ X ⊗ … + …`: how an element X of a Lie algebra acts on the n**k entries of a tensor of k axes.

    Law: the derivative of `kronecker_power(expm(t X), k)` at t = 0, so its exponential is that of `expm(X)`. For
    k = 2, `kronecker_sum(X, 2) @ x.flatten() == (X @ x + x @ X.T).flatten()`; k = 0 is the number 0.
    A sparse matrix gives a sparse one of at most k numbers for each of its own, a `LieElement` another.
    Errors: as `kronecker_power`; `RuleError` for permutations, which are no elements of a Lie algebra.
    """
    count = _power(k)
    if isinstance(element, LieElement):
        return LieElement(kronecker_sum(element.matrix, count))
    if _as_moves(element) is not None:
        raise RuleError("a permutation is an element of a group, which acts on tensors by families.kronecker_power.")
    if is_sparse(element):
        square = _square_sparse(element)
        return _folded(Mixes(square, square.shape[0], lie=True), count)
    square = _square(element)
    n = len(square)
    forecast(f"the Kronecker sum of {count} matrices of {n} × {n}", n ** (2 * count))
    result: Floats = np.zeros((1, 1))
    for done in range(count):
        result = np.kron(result, np.eye(n)) + np.kron(np.eye(n**done), square)
    return result


def direct_sum(*parts: Any) -> Any:
    """One generator that acts on several spaces laid end to end: parts are permutations, signed ones, or matrices.

    The result is as simple as its parts allow: a permutation, a `SignedPermutation`, or a block-diagonal matrix, sparse
    where a part is. Elements of a Lie algebra are matrices, or all of them `LieElement`, and so is their sum.
    Errors: `RuleError` for no parts and for some `LieElement` among others, `ShapeError` for what is no generator.
    """
    if not parts:
        raise RuleError("direct_sum takes one part or more.")
    lie = [isinstance(part, LieElement) for part in parts]
    if any(lie):
        if not all(lie):
            raise RuleError(
                "some parts of direct_sum are a LieElement and some are not: where the element does nothing, write "
                "families.LieElement(np.zeros((n, n)))."
            )
        return LieElement(direct_sum(*(part.matrix for part in parts)))
    moves = [_as_moves(part) for part in parts]
    if all(part is not None for part in moves):
        alone: list[Generator] = [part for part in moves if part is not None]
        return _given(reduce(actions.direct, alone))
    blocks: list[Any] = [
        move.matrix() if move is not None else _square_sparse(part) if is_sparse(part) else _square(part)
        for move, part in zip(moves, parts, strict=True)
    ]
    import scipy.linalg
    import scipy.sparse

    if any(is_sparse(part) for part in parts):
        return scipy.sparse.csr_array(scipy.sparse.block_diag(blocks, format="csr"))
    whole: Floats = scipy.linalg.block_diag(*(np.asarray(one.toarray() if is_sparse(one) else one) for one in blocks))
    return whole


def dual(element: Any) -> Any:
    """How a generator acts on linear functionals: the transposed inverse, and `−Xᵀ` for a `LieElement`.

    Law: `dual(M).T @ M == 1`, so that `f @ x` is unchanged when f moves by `dual(M)` and x by M. Permutations, signed
    ones and orthogonal matrices are their own duals. The form is that of the element.
    Errors: `ShapeError` for what is no generator, and for a singular matrix.
    """
    if isinstance(element, LieElement):
        return LieElement(-element.matrix.T)
    if (moves := _as_moves(element)) is not None:
        return _given(moves)
    square = _square_sparse(element) if is_sparse(element) else _square(element)
    try:
        found = actions.dual(Mixes(square, square.shape[0]))
    except np.linalg.LinAlgError:
        raise ShapeError(
            "a singular matrix is no element of a group, and has no dual. An element of a Lie algebra is written "
            "families.LieElement(X)."
        ) from None
    return actions.as_sparse(found) if is_sparse(element) else _dense(found)


def real_blocks(matrix: Any) -> Any:
    """A complex n × n matrix as the real 2n × 2n one `[[Re, −Im], [Im, Re]]`.

    Law: `real_blocks(M) @ concatenate([x.real, x.imag])` are the real parts of `M @ x` followed by the imaginary ones,
    and `real_blocks(M @ N) == real_blocks(M) @ real_blocks(N)`. Sparse matrices of scipy stay sparse.
    Errors: `ShapeError` for a matrix that is not square.
    """
    from scipy import sparse

    found = matrix if sparse.issparse(matrix) else read_array(matrix)[0]
    if len(found.shape) != 2 or found.shape[0] != found.shape[1]:
        raise ShapeError(f"a matrix of shape {tuple(found.shape)} is no generator: it must be square.")
    real, imaginary = found.real, found.imag
    if sparse.issparse(found):
        return sparse.csr_array(sparse.block_array([[real, -imaginary], [imaginary, real]]))
    whole: Floats = np.block([[real, -imaginary], [imaginary, real]]).astype(np.float64, copy=False)
    return whole


def _as_moves(given: Any) -> Moves | None:
    """A permutation or a signed one; None for a matrix."""
    if isinstance(given, SignedPermutation) or (not is_sparse(given) and np.ndim(given) == 1):
        return read_moves(given)
    return None


def _given(moves: Generator) -> Any:
    """In the form that users write."""
    assert isinstance(moves, Moves)
    return moves.permutation if moves.signs is None else SignedPermutation(moves.permutation, moves.signs)


def _folded(element: Mixes, count: int) -> Any:
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

    read = read_matrix(matrix)
    _check_square(read.shape)
    return sparse.csr_array((read.values, (read.rows, read.columns)), shape=read.shape)  # type: ignore[union-attr]


def _check_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ShapeError(f"a matrix of shape {shape} is no generator: it must be square.")


def _power(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= 64:
        raise ShapeError(f"the power {k!r:.60} is no integer from 0 to 64.")
    return k
