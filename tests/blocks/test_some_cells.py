"""The set of some cells does with them what the set of all cells does: processes hold some cells each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.blocks.namespace import NumPy
from affinet.blocks.places import no_places
from affinet.blocks.set_law import SetLaw

RULES: dict[str, Callable[[Any], Any]] = {
    "bounds": lambda w: w.a >= np.arange(48).reshape(6, 8) * 0.01,
    "simplices": lambda w: families.simplex(w.a, dim=1),
    "sums": lambda w: w.a.sum(dim=1) <= np.arange(6.0),
    "chains": lambda w: families.monotone(w.a, dim=1),
    "l1 balls": lambda w: families.l1_ball(w.a, np.arange(1.0, 7.0), dim=1),
    "l2 balls": lambda w: families.l2_ball(w.a, 1, dim=1),
    "polyhedra": lambda w: [w.a.sum(dim=1) == 1, w.a[:, :2].sum(dim=1) <= np.arange(1.0, 7.0) / 8, w.a >= 0],
    "spheres": lambda w: families.unit_norm(w.a, dim=1),
    "products": lambda w: w.a[:, 0] * w.a[:, 1] == np.arange(1.0, 7.0),
    "orthonormal rows": lambda w: families.orthogonal(w.b),
}
U = 2.0**-53


ROUNDED = dict.fromkeys(("polyhedra", "products", "orthonormal rows"), 256 * np.finfo(np.float64).eps)
"""Kinds whose cells are factored: a library may round the factors of a batch by its size. These are some hundred
products of numbers up to one; all other kinds agree to the bit."""


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("cells", [(1, 3), (), (5, 4, 0)], ids=str)
def test_some_cells_follow_all_cells(name: str, cells: tuple[int, ...]) -> None:
    (block,) = affinet.plan(RULES[name](affinet.weights({"a": (6, 8), "b": (6, 2, 3)}))).blocks
    law: Any = block.law()
    some, draw = np.array(cells, np.int64), np.random.default_rng(0)
    numbers = [draw.standard_normal(law.shape) for _ in range(4)]
    fewer = law.only(some)
    with np.errstate(all="ignore"):
        wholes, parts = _steps(law, numbers), _steps(fewer, [x[some] for x in numbers])
    for whole, part in zip(wholes, parts, strict=True):
        np.testing.assert_allclose(part, np.asarray(whole)[some], rtol=0, atol=ROUNDED.get(name, 0.0))


def _steps(law: SetLaw, numbers: list[np.ndarray]) -> list[Any]:
    """What a training of three steps makes of a start, and of gradients."""
    xp, (start, *gradients) = NumPy(), numbers
    w = law.snapped(xp, law.nearest(xp, start), U)
    known, found = law.start(xp, gradients[0], w, U), [w]
    for g in gradients:
        step, along = law.learn(xp, g, w, known)
        along = law.silenced(xp, along, g, 1e-14)
        w, known = law.land(xp, w - 0.1 * along, step, U)
        found += [along, w, *known.face, *([known.y] if law.learns else [])]
    return [*found, *law.resettle(xp, w, known, U).face]


def test_sets_of_one_cell_are_not_taken_apart() -> None:
    w = affinet.weights({"a": (6, 8)})
    (block,) = affinet.plan([w.a[0] <= w.a[1], w.a[1, 0] == -w.a[2, 0]]).blocks[-1:]
    law: Any = block.law()
    assert law.only(no_places()) is None
