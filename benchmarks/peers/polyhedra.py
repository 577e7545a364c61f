"""Solvers of quadratic programs: nearest points of general polyhedra of 100 to 300 weights, one after the other.

Each job is a sequence of targets that move by small steps, as the weights of a training do. All sides get the same
rows, in float64. The tolerances of solvers that iterate are set to 1e-9 (jaxopt: 1e-6), as their defaults end far from
the nearest point; notes give how far each is off the rules, and off the point of affinet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import clarabel
import cvxpy
import daqp
import jax
import numpy as np
import osqp
import piqp
import quadprog
from jaxopt import OSQP
from scipy import sparse

import affinet
from affinet import families
from affinet.blocks.namespace import NumPy
from affinet.blocks.polyhedron import Polyhedron
from benchmarks.measuring import Effort, by_turns
from benchmarks.results import PeerRow

jax.config.update("jax_enable_x64", True)
TOLERANCE, TARGETS = 1e-9, 10
EFFORT = Effort(seconds=2.0, most=60)
SLOW = Effort(seconds=0.5, least=1, most=6)
EXACT = {"daqp", "quadprog"}
"""Active-set solvers run in turns with affinet; those that iterate take so long that each has one target only."""
Solve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Job:
    """`A x == b`, `G x <= h`, a point of which is a vertex of some of the rows; and targets near it."""

    A: np.ndarray
    b: np.ndarray
    G: np.ndarray
    h: np.ndarray
    targets: tuple[np.ndarray, ...]

    @property
    def says(self) -> str:
        return f"{self.A.shape[1]} weights, {len(self.A)} equations, {len(self.G)} inequalities"


def measured(title: str) -> Iterator[PeerRow]:
    """A row for each job and solver; `title` names their versions."""
    versions = dict(part.split(" ") for part in title.split(", "))
    for job in (drawn(100, 200, 5, 1.0), drawn(300, 600, 10, 0.05), drawn(300, 600, 10, 1.0)):
        yield from _raced(job, versions)


def drawn(width: int, inequalities: int, equations: int, density: float) -> Job:
    """Random rows of which this share is not zero; a fifth of the inequalities hold with equality at one point."""
    draw = np.random.default_rng(0)
    G = draw.normal(size=(inequalities, width)) * (draw.random((inequalities, width)) < density)
    G[~G.any(axis=1), 0] = 1.0
    A = draw.normal(size=(equations, width))
    G, A = (rows / np.linalg.norm(rows, axis=1)[:, None] for rows in (G, A))
    point = draw.normal(size=width)
    h = G @ point + np.where(draw.random(inequalities) < 0.2, 0.0, np.abs(draw.normal(size=inequalities)))
    targets = [point + 0.3 * draw.normal(size=width)]
    for _ in range(TARGETS - 1):
        targets.append(targets[-1] + 0.02 * draw.normal(size=width))
    return Job(A, A @ point, G, h, tuple(targets))


def _raced(job: Job, versions: Mapping[str, str]) -> Iterator[PeerRow]:
    cold, warm = _affinet(job, warm=False), _affinet(job, warm=True)
    wanted = [cold(target) for target in job.targets]
    solvers = {name: make(job) for name, make in SOLVERS.items()}
    exact = {"cold": cold, "warm": warm, **{name: solvers[name] for name in EXACT}}
    turns = by_turns({name: partial(_all, solve, job) for name, solve in exact.items()}, EFFORT)
    taken = {name: spread.median / TARGETS for name, spread in turns.items()}
    for name, solve in solvers.items():
        targets = job.targets if name in EXACT else job.targets[:1]
        points = [solve(target) for target in targets]
        if name not in EXACT:
            taken[name] = by_turns({name: partial(solve, targets[0])}, SLOW)[name].median
        off = max(max(np.abs(job.A @ x - job.b).max(), (job.G @ x - job.h).max()) for x in points)
        apart = max(float(np.abs(x - y).max()) for x, y in zip(points, wanted, strict=False))
        note = f"violation {max(off, 0.0):.0e}, {apart:.0e} from affinet's point"
        distribution = name.split(" ", maxsplit=1)[0]
        for says, side in (("from scratch", "cold"), ("from the face of the last point", "warm")):
            mine, theirs = taken[side], taken[name]
            yield PeerRow(
                f"{name} {versions[distribution]}", f"nearest point, {job.says}; affinet {says}", mine, theirs, note
            )


def _all(solve: Solve, job: Job) -> None:
    for target in job.targets:
        solve(target)


def _affinet(job: Job, *, warm: bool) -> Solve:
    w = affinet.weights({"w": (job.A.shape[1],)}).w
    plan = affinet.plan([families.linear([w], job.A, job.b), families.linear([w], job.G, job.h, sense="<=")])
    (block,) = plan.blocks
    assert isinstance(block, Polyhedron)
    convex, xp, last = block.law().set, NumPy(), []

    def solve(target: np.ndarray) -> np.ndarray:
        point, face = convex.nearest(xp, target[None], guess=last[0] if warm and last else None)
        last[:] = [face]
        return np.asarray(point[0])

    return solve


def _daqp(job: Job) -> Solve:
    identity, rows, upper = np.eye(job.A.shape[1]), np.vstack([job.A, job.G]), np.concatenate([job.b, job.h])
    lower = np.concatenate([job.b, np.full(len(job.h), -1e30)])
    kinds = np.concatenate([np.full(len(job.b), 5), np.zeros(len(job.h))]).astype(np.intc)  # 5: an equation
    return lambda x: np.asarray(daqp.solve(identity, -x, rows, upper, lower, kinds.copy())[0])


def _quadprog(job: Job) -> Solve:
    rows = np.ascontiguousarray(np.vstack([job.A, -job.G]).T)
    limits, identity = np.concatenate([job.b, -job.h]), np.eye(job.A.shape[1])
    return lambda x: np.asarray(quadprog.solve_qp(identity, x, rows, limits, len(job.A))[0])


def _osqp(job: Job) -> Solve:
    solver = osqp.OSQP()
    rows, upper = sparse.csc_matrix(np.vstack([job.A, job.G])), np.concatenate([job.b, job.h])
    lower = np.concatenate([job.b, np.full(len(job.h), -np.inf)])
    solver.setup(
        P=sparse.eye(job.A.shape[1], format="csc"), q=-job.targets[0], A=rows, l=lower, u=upper,
        eps_abs=TOLERANCE, eps_rel=TOLERANCE, max_iter=20_000, verbose=False,
    )  # fmt: skip

    def solve(x: np.ndarray) -> np.ndarray:
        solver.update(q=-x)
        return np.array(solver.solve().x)

    return solve


def _clarabel(job: Job) -> Solve:
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = TOLERANCE
    identity, rows = sparse.eye(job.A.shape[1], format="csc"), sparse.csc_matrix(np.vstack([job.A, job.G]))
    cones = [clarabel.ZeroConeT(len(job.A)), clarabel.NonnegativeConeT(len(job.G))]
    limits = np.concatenate([job.b, job.h])
    return lambda x: np.asarray(clarabel.DefaultSolver(identity, -x, rows, limits, cones, settings).solve().x)


def _piqp(job: Job) -> Solve:
    solver = piqp.DenseSolver()
    solver.settings.eps_abs = solver.settings.eps_rel = TOLERANCE
    solver.setup(np.eye(job.A.shape[1]), -job.targets[0], job.A, job.b, job.G, np.full(len(job.h), -np.inf), job.h)

    def solve(x: np.ndarray) -> np.ndarray:
        solver.update(c=-x)
        solver.solve()
        return np.array(solver.result.x)  # which the next solve writes to

    return solve


def _jaxopt(job: Job) -> Solve:
    solver, identity = OSQP(tol=1e-6, maxiter=4_000), np.eye(job.A.shape[1])  # with 1e-9 it takes minutes

    @jax.jit
    def point(x: jax.Array) -> jax.Array:
        rows = {"params_eq": (job.A, job.b), "params_ineq": (job.G, job.h)}
        return solver.run(params_obj=(identity, -x), **rows).params.primal

    return lambda x: np.asarray(point(x))


def _cvxpy(job: Job) -> Solve:
    x, target = cvxpy.Variable(job.A.shape[1]), cvxpy.Parameter(job.A.shape[1])
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(x - target)), [job.A @ x == job.b, job.G @ x <= job.h])

    def solve(start: np.ndarray) -> np.ndarray:
        target.value = start
        problem.solve(solver="CLARABEL")
        return np.asarray(x.value)

    return solve


SOLVERS: Mapping[str, Callable[[Job], Solve]] = {
    "daqp": _daqp,
    "quadprog": _quadprog,
    "clarabel": _clarabel,
    "piqp": _piqp,
    "osqp": _osqp,
    "jaxopt OSQP": _jaxopt,
    "cvxpy with CLARABEL": _cvxpy,
}
