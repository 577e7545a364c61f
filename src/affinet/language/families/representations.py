"""Building representations from smaller ones: tensor powers of groups and of Lie algebras, direct sums."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.errors import RuleError, ShapeError
from affinet.language.constants import read_constant
from affinet.language.families.generators import Moves, SignedPermutation, read_generators
from affinet.language.forecast import forecast
from affinet.language.terms import Floats, Integers


def kronecker_power(matrix: Any, k: int) -> Floats:
    """`matrix ⊗ … ⊗ matrix`, k times: how a group element acts on the n**k entries of a row-major tensor of k axes.

    Law: for k = 2, `kronecker_power(M, 2) @ x.flatten() == (M @ x @ M.T).flatten()`; k = 0 is the number 1.
    Errors: `ShapeError` for a matrix that is not square or a negative power. For permutations see `powers`.
    """
    square, count = _square(matrix), _power(k)
    forecast(f"the power {count} of a matrix of {len(square)} × {len(square)}", len(square) ** (2 * count))
    result: Floats = np.ones((1, 1))
    for _ in range(count):
        result = np.kron(result, square).astype(np.float64, copy=False)
    return result


def kronecker_sum(element: Any, k: int) -> Floats:
    """`X ⊗ 1 ⊗ … + 1 ⊗ X ⊗ … + …`: how an element X of a Lie algebra acts on the n**k entries of a tensor of k axes.

    Law: the derivative of `kronecker_power(expm(t X), k)` at t = 0, so its exponential is that of `expm(X)`. For
    k = 2, `kronecker_sum(X, 2) @ x.flatten() == (X @ x + x @ X.T).flatten()`; k = 0 is the number 0.
    Errors: as `kronecker_power`.
    """
    square, count = _square(element), _power(k)
    n = len(square)
    forecast(f"the Kronecker sum of {count} matrices of {n} × {n}", n ** (2 * count))
    result: Floats = np.zeros((1, 1))
    for done in range(count):
        result = np.kron(result, np.eye(n)) + np.kron(np.eye(n**done), square)
    return result


def direct_sum(*parts: Any) -> Integers | SignedPermutation | Floats:
    """One generator that acts on several spaces laid end to end: parts are permutations, signed ones, or matrices.

    The result is as simple as its parts allow: a permutation, a `SignedPermutation`, or a block-diagonal matrix.
    Elements of a Lie algebra (which may be singular) are matrices, and so is their sum.
    Errors: `RuleError` for no parts, `ShapeError` for what is no generator.
    """
    if not parts:
        raise RuleError("direct_sum takes one part or more.")
    read = [_part(number, part) for number, part in enumerate(parts)]
    if any(isinstance(part, np.ndarray) for part in read):
        import scipy.linalg

        blocks = [part if isinstance(part, np.ndarray) else part.matrix().toarray() for part in read]
        whole: Floats = scipy.linalg.block_diag(*blocks)
        return whole
    moves = [part for part in read if isinstance(part, Moves)]
    starts = np.cumsum([0, *(part.size for part in moves)])
    permutation = np.concatenate([part.permutation + start for part, start in zip(moves, starts, strict=False)])
    if all(part.signs is None for part in moves):
        return permutation
    signs = [np.ones(part.size, np.int64) if part.signs is None else part.signs for part in moves]
    return SignedPermutation(permutation, np.concatenate(signs))


def _part(number: int, given: Any) -> Moves | Floats:
    if isinstance(given, SignedPermutation) or np.ndim(given) == 1:
        moves = read_generators(f"part {number}", [given], lie_algebra=False)[0]
        assert isinstance(moves, Moves)
        return moves
    return _square(given)


def _square(matrix: Any) -> Floats:
    constant = read_constant(matrix)
    if len(constant.shape) != 2 or constant.shape[0] != constant.shape[1]:
        raise ShapeError(f"a matrix of shape {constant.shape} is no generator: it must be square.")
    return np.array(np.broadcast_to(constant.values, constant.shape))


def _power(k: object) -> int:
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= 64:
        raise ShapeError(f"the power {k!r:.60} is no integer from 0 to 64.")
    return k
