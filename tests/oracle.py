"""The oracle: NumPy, dense, slow, obviously right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.system.layout import Layout
from affinet.system.system import System


@dataclass(frozen=True, eq=False)
class Oracle:
    """`Π(w) = w − A⁺(A w − b)` and `P = I − A⁺A` by a row-equilibrated dense float64 pseudo-inverse.

    Columns of `matrix` are all entries of all parameters of the rules, laid end to end in the layout's order; its rows
    are the user's equations divided by their norms, `scale`.
    """

    layout: Layout
    matrix: Floats
    rhs: Floats
    scale: Floats
    inverse: Floats
    names: tuple[tuple[str, int], ...]

    @property
    def rank(self) -> int:
        return int(np.linalg.matrix_rank(self.matrix)) if self.matrix.size else 0

    def project(self, weights: Mapping[str, Floats]) -> dict[str, Floats]:
        """Nearest point that satisfies all rules; float64 arrays of the parameters' shapes."""
        w = self._flat(weights)
        return self._apart(w - self.inverse @ (self.matrix @ w - self.rhs))

    def tangent(self, vectors: Mapping[str, Floats]) -> dict[str, Floats]:
        """`P g`: the part of a vector along which the rules stay as they are."""
        g = self._flat(vectors)
        return self._apart(g - self.inverse @ (self.matrix @ g))

    def violation(self, weights: Mapping[str, Floats]) -> dict[str, float]:
        """Largest |A w − b| of each rule, in the units in which the user wrote it."""
        gaps = self.scale * np.abs(self.matrix @ self._flat(weights) - self.rhs)
        found: dict[str, float] = {}
        first = 0
        for name, count in self.names:
            found[name] = float(gaps[first : first + count].max(initial=0.0))
            first += count
        return found

    def _flat(self, values: Mapping[str, Any]) -> Floats:
        parts = [np.asarray(values[p.name], np.float64).ravel() for p in self.layout.parameters]
        return np.concatenate([np.zeros(0), *parts])

    def _apart(self, flat: Floats) -> dict[str, Floats]:
        starts = self.layout.starts
        return {
            p.name: flat[start : start + p.size].reshape(p.shape)
            for p, start in zip(self.layout.parameters, starts, strict=True)
        }


def oracle(system: System) -> Oracle:
    """The oracle of a system: every equation lowered to a dense row."""
    rows = system.rows(range(len(system.rules)))
    matrix = rows.matrix(system.layout.size).toarray()
    norms = np.linalg.norm(matrix, axis=1)
    scale = np.where(norms > 0, norms, 1.0)
    even, rhs = matrix / scale[:, None], rows.rhs / scale
    inverse = np.linalg.pinv(even, rcond=1e-12) if even.size else np.zeros(even.T.shape)
    names = tuple((rule.name, rule.equations) for rule in system.rules)
    return Oracle(system.layout, even, rhs, scale, inverse, names)
