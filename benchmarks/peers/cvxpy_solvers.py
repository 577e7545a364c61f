"""cvxpy with OSQP and with Clarabel: `min ‖x − w‖²` subject to `A x = b`, A sparse, w a parameter of one problem."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cvxpy
import numpy as np

from benchmarks.peers.projecting import JOBS, Job, raced
from benchmarks.results import PeerRow


def measured(title: str) -> Iterator[PeerRow]:
    """Each job with both solvers, at their default accuracy; the problem is compiled once (DPP)."""
    for solver in ("OSQP", "CLARABEL"):
        for job in JOBS:
            yield raced(f"{title}: {solver}", job, _solver(job, solver))


def _solver(job: Job, solver: str) -> Callable[[np.ndarray], np.ndarray]:
    x, w = cvxpy.Variable(job.width**2), cvxpy.Parameter(job.width**2)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - w)), [job.A @ x == job.b])

    def project(start: np.ndarray) -> np.ndarray:
        w.value = start
        problem.solve(solver=solver, warm_start=True)
        return np.asarray(x.value)

    return project
