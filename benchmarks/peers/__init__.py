"""Other libraries on the same job in the same run, each in an interpreter of its own: one that dies is a row."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from benchmarks.apart import ask
from benchmarks.results import PeerRow

PEERS = {
    "pseudo_inverse": ("numpy",),
    "dense_null_space": ("numpy",),
    "jaxopt_affine": ("jaxopt", "jax"),
    "cvxpy_solvers": ("cvxpy", "osqp", "clarabel"),
    "emlp_nullspace": ("emlp", "jax"),
    "escnn_cyclic": ("escnn",),
    "cooper_lagrangian": ("cooper-optim",),
    "geotorch_symmetric": ("geotorch",),
    "manifolds": ("geotorch", "geoopt"),
    "sparse_solvers": ("qdldl", "cholespy"),
    "optax_steps": ("optax", "jax"),
    "polyhedra": ("daqp", "quadprog", "clarabel", "piqp", "osqp", "jaxopt", "cvxpy"),
}
"""Module of this folder → the distributions that it needs (extra `bench`)."""
LONGEST = 40.0
"""Seconds that one peer may take for all its jobs."""


def measured() -> list[PeerRow]:
    """The rows of every peer; one that is not installed, fails, or takes too long has a row that says so."""
    return [row for peer in PEERS for row in _rows(peer)]


def _rows(peer: str) -> list[PeerRow]:
    try:
        title = ", ".join(f"{name} {version(name)}" for name in PEERS[peer])
    except PackageNotFoundError as missing:
        return [PeerRow(peer, "all", note=f"not installed: {missing.name}")]
    told, problem = ask("benchmarks.peers", peer, title, longest=LONGEST)
    found = [PeerRow(**row) for row in told]
    return [*found, PeerRow(title, "the rest", note=problem)] if problem else found
