"""Other libraries on the same job in the same run, each in an interpreter of its own: one that dies is a row."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from benchmarks.results import PeerRow

PEERS = {
    "pseudo_inverse": ("numpy",),
    "jaxopt_affine": ("jaxopt", "jax"),
    "cvxpy_solvers": ("cvxpy", "osqp", "clarabel"),
    "emlp_nullspace": ("emlp", "jax"),
    "cooper_lagrangian": ("cooper-optim",),
    "geotorch_symmetric": ("geotorch",),
}
"""Module of this folder → the distributions that it needs (extra `bench`)."""
MARK = "row: "
"""Starts a line that holds a row as JSON."""
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
    command = [sys.executable, "-m", "benchmarks.peers", peer, title]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired as late:
        return [*_read(late.stdout), PeerRow(title, "the rest", note=f"not done within {LONGEST:.0f} s")]
    found = _read(done.stdout)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or [f"ended with status {done.returncode}"]
        found.append(PeerRow(title, "the rest", note=f"failed: {said[-1]}"[:200]))
    return found


def _read(printed: bytes | None) -> list[PeerRow]:
    """The rows among what a peer printed; a library's own chatter is passed over."""
    lines = (printed or b"").decode(errors="replace").splitlines()
    return [PeerRow(**json.loads(line.removeprefix(MARK))) for line in lines if line.startswith(MARK)]
