"""Compute how one element acts on larger spaces: tensor products, direct sums and duals of its matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from affinet.language.calculus.terms import Integers
from affinet.language.forecast import forecast
from affinet.language.groups.elements import NEAR_INTEGER, Generator, Mixes, Moves


def identity(element: Generator, size: int) -> Generator:
    """The action of the element on `size` numbers that it does not change: the identity, or 0 in a Lie algebra."""
    if element.lie:
        from scipy import sparse

        return Mixes(sparse.csr_array((size, size), dtype=np.float64), size, lie=True)
    return Moves(np.arange(size), None)


def tensor(a: Generator, b: Generator) -> Generator:
    """`a ⊗ b`, on row-major matrices with a row for each entry of the first space; `a ⊗ 1 + 1 ⊗ b` in a Lie algebra."""
    size = a.size * b.size
    if isinstance(a, Moves) and isinstance(b, Moves):
        forecast(f"a permutation of {size:,} entries", size)
        permutation = (a.permutation[:, None] * b.size + b.permutation).reshape(-1)
        signed = a.signs is not None or b.signs is not None
        return Moves(permutation, np.multiply.outer(_signs(a), _signs(b)).reshape(-1) if signed else None)
    from scipy import sparse

    first, second = as_sparse(a), as_sparse(b)
    lie = a.lie or b.lie
    numbers = first.nnz * b.size + second.nnz * a.size if lie else first.nnz * second.nnz
    forecast(f"a matrix of {size:,} × {size:,} with {numbers:,} numbers", numbers, item_bytes=16)
    if lie:
        return Mixes(
            sparse.csr_array(sparse.kron(first, _eye(b.size)) + sparse.kron(_eye(a.size), second)), size, lie=True
        )
    return Mixes(sparse.csr_array(sparse.kron(first, second, format="csr")), size)


def direct_sum(a: Generator, b: Generator) -> Generator:
    """`a` on the first entries and `b` on those after them."""
    if isinstance(a, Moves) and isinstance(b, Moves):
        signed = a.signs is not None or b.signs is not None
        permutation = np.concatenate([a.permutation, b.permutation + a.size])
        return Moves(permutation, np.concatenate([_signs(a), _signs(b)]) if signed else None)
    from scipy import sparse

    blocks = sparse.block_diag([as_sparse(a), as_sparse(b)], format="csr")
    return Mixes(sparse.csr_array(blocks), a.size + b.size, lie=a.lie or b.lie)


def dual(element: Generator) -> Generator:
    """The action of the element on linear functionals: the transposed inverse, or `−Xᵀ` in a Lie algebra.

    An orthogonal matrix is its own transposed inverse, and is returned as it is.
    """
    if isinstance(element, Moves):
        return element
    if element.lie:
        return Mixes(-as_sparse(element).T.tocsr(), element.size, lie=True)
    forecast(f"the inverse of a matrix of {element.size:,} × {element.size:,}", element.size**2)
    dense = as_sparse(element).toarray()
    if np.abs(dense @ dense.T - np.eye(element.size)).max(initial=0.0) <= NEAR_INTEGER:
        return element
    return Mixes(np.linalg.inv(dense).T, element.size)


def as_sparse(element: Generator) -> Any:
    """The matrix of the element, sparse."""
    from scipy import sparse

    return sparse.csr_array(element.matrix(), dtype=np.float64)


def _signs(moves: Moves) -> Integers:
    return np.ones(moves.size, np.int64) if moves.signs is None else moves.signs


def _eye(size: int) -> Any:
    from scipy import sparse

    return sparse.eye_array(size, format="csr")
