"""The job that every projecting peer gets: the nearest point on `A w = b` to random weights, again and again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

import affinet
from benchmarks.measuring import Effort, by_turns
from benchmarks.results import PeerRow

EFFORT = Effort(seconds=2.0, least=3, most=200)


@dataclass(frozen=True, eq=False)
class Job:
    """`A w = b` over one matrix of `width` × `width` entries, and the same said as rules."""

    says: str
    width: int
    A: sparse.csr_array
    b: np.ndarray
    rules: Callable[[affinet.Weights], list[affinet.Constraint]]

    @property
    def dense_bytes(self) -> int:
        """What A takes as a dense float64 matrix."""
        return 8 * len(self.b) * self.width**2


def row_sums(width: int) -> Job:
    """Rows of a square matrix sum to one."""
    A = sparse.csr_array(sparse.kron(sparse.eye_array(width), np.ones((1, width))))
    return Job(f"row sums, {width} × {width}", width, A, np.ones(width), lambda w: [w.W.sum(dim=1) == 1])


def random_equations(count: int, width: int) -> Job:
    """`count` random equations of four terms over the entries of a square matrix."""
    draw = np.random.default_rng(0)
    terms, coefficients = draw.integers(0, width**2, (count, 4)), draw.standard_normal((count, 4))
    b = draw.standard_normal(count)
    A = sparse.csr_array((coefficients.ravel(), terms.ravel(), np.arange(0, 4 * count + 1, 4)), (count, width**2))
    return Job(
        f"{count:,} random equations, {width} × {width}",
        width,
        A,
        b,
        lambda w: [(coefficients * w.W.flatten()[terms]).sum(dim=1) == b],
    )


JOBS = (row_sums(64), row_sums(256), random_equations(100, 64), random_equations(1_000, 256))
LARGEST = row_sums(2048)


def raced(peer: str, job: Job, theirs: Callable[[np.ndarray], np.ndarray], note: str = "") -> PeerRow:
    """Both project the same float64 weights in turns; the note says how far off the rules the peer's answer is."""
    start = np.random.default_rng(1).standard_normal(job.width**2)
    shape = (job.width, job.width)
    source = torch.from_numpy(start.reshape(shape))
    weights = {"W": source.clone()}
    projector = affinet.plan(job.rules(affinet.weights({"W": shape}))).projector(weights)

    def ours() -> None:
        weights["W"].copy_(source)
        projector.project_(weights)

    def their() -> None:
        theirs(start)

    taken = by_turns({"ours": ours, "theirs": their}, EFFORT)
    found = theirs(start)
    off = float(np.abs(job.A @ found - job.b).max())
    apart = float(np.abs(found - weights["W"].numpy().ravel()).max())
    said = f"violation {off:.0e}, {apart:.0e} from affinet's point" + (f"; {note}" if note else "")
    return PeerRow(peer, job.says, taken["ours"].median, taken["theirs"].median, said)


def too_large(peer: str, job: Job, needed: int) -> PeerRow:
    """A job that is not run: what the peer would allocate."""
    return PeerRow(peer, job.says, note=f"not run: would need {needed / 1e9:,.0f} GB")
