"""Sparse Cholesky solvers beside the one that affinet factors large components with, SciPy's SuperLU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import cholespy
import numpy as np
import qdldl
from scipy import sparse

from affinet.blocks.sparse import factored
from benchmarks.results import PeerRow

Solve = Callable[[np.ndarray], np.ndarray]


def measured(title: str) -> Iterator[PeerRow]:
    """Factoring `A Aᵀ` once, and then solving with it, on one thread each."""
    draw = np.random.default_rng(0)
    for job, A in (
        ("3,000 random equations of 3 terms over 4,500 entries", _random(draw, 3_000, 4_500, 3)),
        ("5,000 random equations of 4 terms over 20,000 entries", _random(draw, 5_000, 20_000, 4)),
        ("what flows into each of 150 × 150 nodes", _flows(150)),
        ("what flows into each of 400 × 400 nodes", _flows(400)),
    ):
        gram, b = sparse.csc_array(A @ A.T), draw.standard_normal(A.shape[0])
        ours = _timed(lambda A=A: factored(A, np.ones(A.shape[1])).solve, b)
        for name, make in (("qdldl", _qdldl), ("cholespy", _cholespy)):
            theirs = _timed(lambda make=make, gram=gram: make(gram), b)
            apart = float(np.abs(theirs[2] - ours[2]).max() / np.abs(ours[2]).max())
            for what, mine, other in (("factor", ours[0], theirs[0]), ("solve", ours[1], theirs[1])):
                yield PeerRow(name, f"{what}: {job}", mine, other, f"solutions differ by {apart:.0e}")


def _random(draw: np.random.Generator, rows: int, entries: int, terms: int) -> sparse.csr_array:
    columns = draw.integers(0, entries, rows * terms)
    bounds = np.arange(0, rows * terms + 1, terms)
    return sparse.csr_array((draw.standard_normal(rows * terms), columns, bounds), shape=(rows, entries))


def _flows(width: int) -> sparse.csr_array:
    """One weight an edge of a square grid, one equation a node but the first (it follows from the others)."""
    node = np.arange(width * width).reshape(width, width)
    tails = np.concatenate([node[:, :-1].ravel(), node[:-1].ravel()])
    heads = np.concatenate([node[:, 1:].ravel(), node[1:].ravel()])
    edges = np.arange(len(tails))
    values = np.repeat([1.0, -1.0], len(edges))
    A = sparse.coo_array((values, (np.concatenate([tails, heads]), np.concatenate([edges, edges]))))
    return sparse.csr_array(A.tocsr()[1:])


def _qdldl(gram: sparse.csc_array) -> Solve:
    solver = qdldl.Solver(sparse.csc_matrix(sparse.triu(gram)), upper=True)
    return solver.solve


def _cholespy(gram: sparse.csc_array) -> Solve:
    triples = gram.tocoo()
    rows, columns = (part.astype(np.int32) for part in (triples.row, triples.col))
    solver = cholespy.CholeskySolverD(gram.shape[0], rows, columns, triples.data, cholespy.MatrixType.COO)

    def solve(b: np.ndarray) -> np.ndarray:
        x = np.zeros_like(b)
        solver.solve(b, x)
        return x

    return solve


def _timed(make: Callable[[], Solve], b: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Seconds of factoring and of solving, medians, and the solution."""
    factoring, solving = [], []
    for _ in range(3):
        began = time.perf_counter()
        solve = make()
        factoring.append(time.perf_counter() - began)
        for _ in range(3):
            began = time.perf_counter()
            x = solve(b)
            solving.append(time.perf_counter() - began)
    return statistics.median(factoring), statistics.median(solving), x
