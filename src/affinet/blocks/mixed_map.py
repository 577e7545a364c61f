"""The law of nonlinear equations together with inequalities, and of nonlinear ones: the normal map over linear parts.

What is known between two steps is that of `NormalMap`, averaged multipliers and a face, with the point to which they
belong. A step lands on the polyhedron of moves from there, and returns to the equations; then what is known is carried
to the polyhedron of the new point. At rest nothing moves, so that the weights satisfy the KKT conditions, locally.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, NamedTuple

import numpy as np

from affinet.blocks.curved_cells import Outcome
from affinet.blocks.curved_set import FARTHEST, SHORTENINGS
from affinet.blocks.mixed_set import MixedSet
from affinet.blocks.namespace import Array, Namespace
from affinet.blocks.normal_map import Learned, NormalMap, Underway
from affinet.blocks.polyhedral_set import PolyhedralFace
from affinet.language.calculus.terms import Floats, Integers

SUMMED = 2.0
"""Roundoffs of a sum of two numbers, and of the return; each further number adds to the square of this."""


ROUNDINGS = 64.0
"""Roundoffs of the weights, by which a return may lead away where nothing moved."""


class MixedFace(NamedTuple):
    """A point (cells, n), and the inequalities that hold with equality on its face, as those of `PolyhedralFace`."""

    point: Array
    rows: Array
    lower: Array
    upper: Array

    @property
    def marks(self) -> PolyhedralFace:
        """The face of the polyhedron of moves."""
        return PolyhedralFace(self.rows, self.lower, self.upper)


@dataclass(frozen=True, eq=False)
class MixedMap:
    """The verbs of a training for one mixed set; states are values that the caller keeps."""

    set: MixedSet
    order: Integers | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.set.shape

    @property
    def wide(self) -> bool:
        """True: entries are read in float64 where the library has it, and rounded once when they are written back."""
        return True

    @property
    def learns(self) -> bool:
        return True

    @property
    def always_found(self) -> bool:
        return False

    def count(self) -> int:
        return int(self.set.shape[1])

    def only(self, cells: Integers) -> MixedMap | None:
        return None

    def norm(self, xp: Namespace, x: Array) -> Array:
        return xp.sum(x * x, (1,)) ** 0.5

    def nearest(self, xp: Namespace, x: Array, metric: Array | None = None) -> Array:
        """A point near x; no metric is used, which `affinet.project` refuses for nonlinear equations."""
        return xp.array(self.set.nearest(xp.host(x)), x)

    def satisfies(self, xp: Namespace, x: Array, u: float) -> Array:
        excess = self.set.excess(xp.host(x), u)
        return xp.array((excess <= 1.0).astype(np.float64)[:, None], x) > 0.0

    def snapped(self, xp: Namespace, w: Array, u: float, nearest: Callable[[Array], Array] | None = None) -> Array:
        """A near point, but in cells that hold to rounding w itself, its entries between their bounds."""
        inside = xp.array(self.set.clipped(xp.host(w)), w)
        satisfied = self.satisfies(xp, inside, u) & (self.norm(xp, w) < inf)
        if not xp.any(~satisfied):
            return inside
        return xp.where(satisfied, inside, self.nearest(xp, w) if nearest is None else nearest(w))

    def tangent_part(self, xp: Namespace, x: Array, face: MixedFace) -> Array:
        return self._at(xp, face.point).set.tangent_part(xp, x, face.marks)

    def face_at(self, xp: Namespace, w: Array) -> MixedFace:
        point = self.nearest(xp, w)
        zero = 0.0 * w
        return MixedFace(point, *self._at(xp, point).set.normal(xp, zero, w - point, None, xp.spacing(w))[1])

    def same_face(self, xp: Namespace, face: MixedFace, former: MixedFace) -> bool:
        pairs = zip(face.marks, former.marks, strict=True)
        return not any(xp.any(new != old) for new, old in pairs)

    def normal(self, xp: Namespace, w: Array, v: Array, u: float) -> Array:
        return self._at(xp, w, u).set.normal(xp, 0.0 * w, v, None, u)[0]

    def start(self, xp: Namespace, g: Array, w: Array, u: float, face: MixedFace | None = None) -> Learned[MixedFace]:
        marks = None if face is None else face.marks
        return self._known(w, self._at(xp, w, u).start(xp, g, 0.0 * w, u, marks))

    def learn(self, xp: Namespace, g: Array, w: Array, state: Learned[MixedFace]) -> tuple[Underway[MixedFace], Array]:
        """As `NormalMap.learn`, over the polyhedron of moves from w; marks may belong to weights before rounding."""
        step, projected = self._at(xp, w).learn(xp, g, 0.0 * w, self._inner(state))
        face = MixedFace(w, *state.face.marks)
        return Underway(step.y, face, w, step.force, Learned(state.y, face)), projected

    def silenced(self, xp: Namespace, projected: Array, g: Array, floor: float) -> Array:
        noise = floor * (abs(g) + self.norm(xp, g) * self.count() ** -0.5)
        return xp.where(abs(projected) <= noise, xp.array(0.0, projected), projected)

    def land(
        self, xp: Namespace, stepped: Array, state: Underway[MixedFace], u: float, taken: Array | None = None
    ) -> tuple[Array, Learned[MixedFace]]:
        """The weights after a step, on the set, and what is known there.

        A step from which there is no way back is divided by four, and given up after eight times: then the cell stays.
        """
        law, before = self._at(xp, state.before, u), xp.host(state.before)
        inner = Underway(state.y, state.face.marks, 0.0 * state.before, state.force, self._inner(state.former))
        move = stepped - state.before
        finite = self.norm(xp, move) < inf
        move = xp.where(finite, move, 0.0 * state.before)
        w, tally = before.copy(), _Tally.of(len(before))
        known = self._inner(state.former)
        for _ in range(SHORTENINGS + 1):
            landed, learned = law.land(xp, move, inner, u)
            points, arrived = self._returned(xp.host(landed), learned.face, before, tally, xp, u)
            w[arrived] = points[arrived]
            fits = xp.array(arrived.astype(np.float64)[:, None], stepped) > 0.0
            known = _chosen(xp, fits, learned, known)
            if not tally.searched.any():
                break
            move = 0.25 * move
        result = xp.array(w, stepped)
        carried = self._at(xp, result, u).set.normal(xp, 0.0 * result, known.y, known.face, u)
        new = replace(self._known(result, Learned(*carried)), outcome=tally.outcome(xp, stepped))
        landed_cells = finite if taken is None else finite & taken
        if taken is None and not xp.any(~finite):
            return result, new
        former = state.former
        face = MixedFace(
            xp.where(landed_cells, new.face.point, former.face.point),
            *(xp.where(landed_cells, n, o) for n, o in zip(new.face.marks, former.face.marks, strict=True)),
        )
        y = xp.where(landed_cells, new.y, former.y)
        return xp.where(landed_cells, result, stepped), Learned(y, face, new.outcome)

    def roundoff(self, u: float, spacing: float) -> float:
        roundings: float = SUMMED + self.count() ** 0.5
        return u + spacing * roundings

    def resettle(self, xp: Namespace, w: Array, state: Learned[MixedFace], u: float) -> Learned[MixedFace]:
        return self._known(w, self._at(xp, w, u).resettle(xp, 0.0 * w, self._inner(state), u))

    def _returned(
        self, moves: Floats, face: PolyhedralFace, before: Floats, tally: _Tally, xp: Namespace, u: float
    ) -> tuple[Floats, np.ndarray]:
        """The points of the set to which moves lead, and the cells that arrive near the end of their move.

        Weights before it are off the set by rounding, from which the return leads back, however short the move is.
        """
        rows = xp.host(face.rows)[:, self.set.equations :] > 0.0
        sides = xp.host(face.upper) - xp.host(face.lower)
        points, arrived = before.copy(), np.zeros(len(before), bool)
        for cell in np.flatnonzero(tally.searched).tolist():
            size = float(np.linalg.norm(moves[cell]))
            if size == 0.0:
                arrived[cell] = True
                continue
            back = self.set.returned(cell, before[cell] + moves[cell], rows[cell], sides[cell])
            reach = FARTHEST * size + ROUNDINGS * u * float(np.linalg.norm(before[cell]))
            if back.arrives and float(np.linalg.norm(back.point - before[cell])) <= reach:
                points[cell], arrived[cell] = back.point, True
                tally.slow[cell] |= back.slow
        tally.searched[arrived] = False
        tally.shortenings[tally.searched] = np.minimum(tally.shortenings[tally.searched] + 1.0, SHORTENINGS)
        return points, arrived

    def _at(self, xp: Namespace, point: Array, u: float = 0.0) -> NormalMap[PolyhedralFace]:
        """The law over the moves from a point, which was rounded to `u`."""
        with np.errstate(all="ignore"):
            return NormalMap(self.set.polyhedra(xp.host(point), u))

    def _known(self, w: Array, inner: Learned[PolyhedralFace]) -> Learned[MixedFace]:
        return Learned(inner.y, MixedFace(w, *inner.face))

    def _inner(self, state: Learned[MixedFace]) -> Learned[PolyhedralFace]:
        return Learned(state.y, state.face.marks)


@dataclass(frozen=True, eq=False)
class _Tally:
    """What happened on the way of each cell (cells,): see `Outcome`; `searched` marks those that did not arrive yet."""

    shortenings: Floats
    searched: np.ndarray
    slow: np.ndarray

    @classmethod
    def of(cls, cells: int) -> _Tally:
        return cls(np.zeros(cells), np.ones(cells, bool), np.zeros(cells, bool))

    def outcome(self, xp: Namespace, like: Array) -> Outcome | None:
        if not (self.shortenings.any() or self.slow.any()):
            return None
        parts = (part.astype(np.float64)[:, None] for part in (self.shortenings, self.searched, self.slow))
        shortenings, refused, slow = (xp.array(part, like) for part in parts)
        return Outcome(shortenings, refused > 0.0, slow > 0.0)


def _chosen(xp: Namespace, condition: Array, first: Learned[Any], second: Learned[Any]) -> Learned[Any]:
    face = type(first.face)(*(xp.where(condition, n, o) for n, o in zip(first.face, second.face, strict=True)))
    return Learned(xp.where(condition, first.y, second.y), face)
