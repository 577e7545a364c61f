"""Rules as one dense program, projected by an independent solver (quadprog, Goldfarb and Idnani's dual method)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import quadprog
from scipy.optimize import linprog

from affinet.language.calculus.terms import Floats
from affinet.planning.inequalities.halfspaces import halfspaces
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class DenseProgram:
    """`{A w = b, G w <= h}` over all entries of all parameters laid end to end; rows have norm one."""

    system: System
    equations: Floats
    values: Floats
    sides: Floats
    limits: Floats

    @classmethod
    def of(cls, system: System) -> DenseProgram:
        """All equations and inequalities of a system."""
        width = system.layout.size
        numbers = range(len(system.rules))
        exact = system.rows([k for k in numbers if system.rules[k].sense == "=="])
        above = halfspaces(system, [k for k in numbers if system.rules[k].sense != "=="])
        matrices = [rows.matrix(width).toarray() for rows in (exact, above)]
        norms = [np.linalg.norm(matrix, axis=1) for matrix in matrices]
        return cls(
            system, matrices[0] / norms[0][:, None], exact.rhs / norms[0], matrices[1] / norms[1][:, None],
            above.rhs / norms[1],
        )  # fmt: skip

    def project(self, w: Floats, metric: Floats | None = None) -> Floats:
        """The nearest point in `Σ metric_i dw_i²`, polished on the active set that the solver finds."""
        metric = np.ones(len(w)) if metric is None else metric
        root = 1.0 / np.sqrt(metric)
        _, s, vt = np.linalg.svd(self.equations) if len(self.values) else (0, np.zeros(0), np.zeros((0, len(w))))
        rank = int((s > 1e-9).sum())
        basis = vt[:rank]
        particular = np.linalg.pinv(self.equations) @ self.values if rank else np.zeros(len(w))
        rows = np.concatenate([basis, -self.sides]) * root
        right = np.concatenate([basis @ particular, -self.limits])
        solution = quadprog.solve_qp(np.eye(len(w)), w / root, rows.T, right, rank)
        active = solution[4] > 1e-12 * max(1.0, solution[4].max(initial=0.0))
        active[:rank] = True
        held, side = rows[active], right[active]
        y = w / root
        for _ in range(2):
            y = y - np.linalg.pinv(held) @ (held @ y - side) if len(held) else y
        return y * root

    def violation(self, w: Floats) -> float:
        """The largest violation of any row of norm one."""
        gaps = [np.abs(self.equations @ w - self.values), self.sides @ w - self.limits]
        return float(np.concatenate(gaps).max(initial=0.0))

    def has_point(self) -> bool:
        """Whether any point satisfies all rows, by linear programming."""
        result = linprog(
            np.zeros(self.system.layout.size), A_ub=self.sides if len(self.limits) else None,
            b_ub=self.limits if len(self.limits) else None, A_eq=self.equations if len(self.values) else None,
            b_eq=self.values if len(self.values) else None, bounds=(None, None), method="highs",
        )  # fmt: skip
        return result.status == 0

    def flat(self, weights: Mapping[str, Floats]) -> Floats:
        """Arrays laid end to end."""
        return np.concatenate([np.asarray(weights[p.name], float).ravel() for p in self.system.layout.parameters])

    def apart(self, flat: Floats) -> dict[str, Floats]:
        """Arrays by name."""
        layout = self.system.layout
        return {
            p.name: flat[start : start + p.size].reshape(p.shape)
            for p, start in zip(layout.parameters, layout.starts, strict=True)
        }
