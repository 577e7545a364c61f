"""The block of polyhedra: what it answers, and its law over tied entries."""

from __future__ import annotations

import numpy as np
import pytest

from affinet.blocks.classes import Classes
from affinet.blocks.namespace import NumPy
from affinet.blocks.places import Part
from affinet.blocks.polyhedral_set import PolyhedralSet
from affinet.blocks.polyhedron import Polyhedron
from affinet.blocks.reduced_set import ReducedSet
from affinet.language.calculus.terms import Parameter
from tests.blocks import polyhedra
from tests.blocks.polyhedra import nearest_by_quadprog, nearest_in_cone

XP = NumPy()
U = 2.0**-53
W, V = Parameter("w", (6,)), Parameter("v", (4,))


def parts() -> tuple[Part, ...]:
    return tuple(Part(each, np.arange(each.size)) for each in (W, V))


def ties() -> Classes:
    """Ten entries: 0 and 3 equal, 4 the opposite of 1, 7 half of 2 plus one; seven classes."""
    class_of = np.array([0, 1, 2, 0, 1, 3, 4, 2, 5, 6])
    scale = np.array([1.0, 1, 1, 1, -1, 1, 1, 0.5, 1, 1])
    shift = np.array([0.0, 0, 0, 0, 0, 0, 0, 1.0, 0, 0])
    return Classes(class_of, scale, shift, np.array([0, 1, 2, 5, 6, 8, 9]))


def tied_block() -> Polyhedron:
    """Two equations and three inequalities on the seven classes, four bounds, and class 6 held at 2."""
    dice = np.random.default_rng(1)
    matrix, inside = dice.standard_normal((5, 7)), dice.standard_normal(7)
    inside[6] = 2.0
    rhs = matrix @ inside + np.array([0.0, 0.0, 0.1, 0.2, 3.0])
    lower, upper = np.full(7, -np.inf), np.full(7, np.inf)
    lower[[0, 2]], upper[[0, 4]] = inside[[0, 2]] - 0.1, inside[[0, 4]] + 0.2
    lower[6] = upper[6] = 2.0
    return Polyhedron(parts(), ties(), matrix[None], rhs[None], 2, lower[None], upper[None], (0, 3))


def over_entries(block: Polyhedron) -> polyhedra.Polyhedron:
    """The same set over the entries themselves, its ties written as equations: for independent answers."""
    classes, representative = block.classes, block.classes.representative
    spread = np.eye(block.size)[representative]
    others = np.setdiff1d(np.arange(block.size), representative)
    tying = np.eye(block.size)[others] - classes.scale[others, None] * spread[classes.class_of[others]]
    k = block.equations
    rows = block.matrix[0] @ spread
    matrix = np.concatenate([tying, rows[:k], rows[k:]])
    rhs = np.concatenate([classes.shift[others], block.rhs[0]])
    lower, upper = np.full(block.size, -np.inf), np.full(block.size, np.inf)
    lower[representative], upper[representative] = block.lower[0], block.upper[0]
    return polyhedra.Polyhedron(matrix, rhs, len(others) + k, lower, upper, np.zeros(0))


def test_questions_about_entries() -> None:
    block = tied_block()
    projector = np.eye(10)
    held = over_entries(block)
    equations = np.concatenate([held.matrix[: held.equations], np.eye(10)[[9]]])
    projector -= np.linalg.pinv(equations) @ equations
    assert block.rank == np.linalg.matrix_rank(equations) == 6
    assert [block.freedom(place) for place in range(10)] == pytest.approx(np.diag(projector).tolist(), abs=1e-12)
    assert block.value(9) == 2.0
    assert block.value(0) is None
    assert block.determined(100)[0].tolist() == [9]
    assert block.determined(100)[1].tolist() == [2.0]
    assert block.determined(5)[0].tolist() == []
    assert block.fixed() == {W: 0, V: 1}
    assert block.sizes() == {W: 6, V: 4}
    assert block.mates(3)[0].tolist() == [0, 3]
    assert block.taken()[W].low == 2
    assert (
        block.describe()
        == "1 polyhedron of 2 equations, 3 inequalities and 6 bounds, solved by their active constraints"
    )
    assert block.renumbered({0: 5, 3: 4}).rules == (4, 5)
    assert block.entries.parts == block.parts


def test_a_value_follows_from_the_scale_and_shift_of_its_tie() -> None:
    block = tied_block()
    lower = block.lower.copy()
    lower[0, 2] = upper = 3.0
    other = Polyhedron(
        block.parts, block.classes, block.matrix, block.rhs, 2, lower, np.where(lower == 3.0, upper, block.upper), (0,)
    )
    assert (other.value(2), other.value(7)) == (3.0, 2.5)
    assert other.determined(100)[1].tolist() == [3.0, 2.5, 2.0]


def test_cells_without_ties_are_worked_on_as_cells() -> None:
    n = 5
    every = Classes(np.arange(10), np.ones(1), np.zeros(1), np.arange(10))
    bounds = np.full((2, n), np.inf)
    block = Polyhedron(parts(), every, np.ones((1, 1, n)), np.ones((2, 1)), 1, np.zeros((2, n)), bounds, (0,))
    law = block.law()
    assert law.shape == (2, n)
    assert block.rank == 2
    point, _ = law.set.nearest(XP, np.full((2, n), 7.0))
    assert point == pytest.approx(np.full((2, n), 0.2))


@pytest.mark.parametrize("with_metric", [False, True], ids=["euclidean", "metric"])
def test_the_nearest_tied_entries(with_metric: bool) -> None:
    block = tied_block()
    body, convex = over_entries(block), block.law().set
    assert isinstance(convex, ReducedSet)
    for seed in range(100):
        dice = np.random.default_rng(seed)
        v, metric = 3.0 * dice.standard_normal(10), 10.0 ** dice.uniform(-1, 1, 10)
        x, face = convex.nearest(XP, v, metric if with_metric else None)
        expected = nearest_by_quadprog(body, v, metric if with_metric else np.ones(10))
        assert expected is not None
        assert x == pytest.approx(expected, abs=1e-11)
        assert (x[0], x[1]) == (x[3], -x[4])
        assert x[9] == 2.0
        if not with_metric:
            assert convex.onto(XP, v, face) == pytest.approx(x, abs=1e-12)


def test_landing_and_normals_of_tied_entries() -> None:
    block = tied_block()
    body, convex = over_entries(block), block.law().set
    for seed in range(100):
        dice = np.random.default_rng(seed)
        z, face = convex.nearest(XP, 2.0 * dice.standard_normal(10))
        y, tau = dice.standard_normal(10), np.full(10, 0.7)
        w, normal, _ = convex.land(XP, z, y, tau, face, U)
        assert w == pytest.approx(nearest_by_quadprog(body, z + 0.7 * y, np.ones(10)), abs=1e-11)
        assert w + 0.7 * normal == pytest.approx(z + 0.7 * y, abs=1e-13)
        assert (w[0], w[1]) == (w[3], -w[4])
        normal, _ = convex.normal(XP, z, y, face, 64 * U)
        assert normal == pytest.approx(nearest_in_cone(body.active(z, 1e-13), y), abs=1e-11)


def test_norms_over_ties_are_those_of_all_entries_of_a_cell() -> None:
    """Two cells of two numbers each; entries of a cell lie apart, and some of them are tied."""
    class_of = np.array([0, 2, 1, 3, 2, 0, 0])
    classes = Classes(class_of, np.ones(1), np.zeros(1), np.array([0, 2, 1, 3]))
    root = np.sqrt(classes.weight).reshape(2, 2)
    box = PolyhedralSet(np.zeros((1, 0, 2)), np.zeros((2, 0)), 0, np.zeros((2, 2)), root)
    convex = ReducedSet(classes, box)
    x = np.array([1.0, 10.0, 2.0, 20.0, 30.0, 3.0, 4.0])
    cells = np.array([0, 1, 0, 1, 1, 0, 0])
    assert convex.norm(XP, x) == pytest.approx(np.sqrt(np.bincount(cells, x * x))[cells])
    tau = np.array([2.0, 5.0])[cells]
    z, face = convex.nearest(XP, np.zeros(7))
    w, y, _ = convex.land(XP, z, x, tau, face, U)
    expected = np.clip(tau * np.array([8 / 3, 20.0, 2.0, 20.0, 20.0, 8 / 3, 8 / 3]), 0.0, 1.0)
    assert w == pytest.approx(expected)
    assert w + tau * y == pytest.approx(z + tau * x)


def test_trainings_over_ties_know_each_cell_apart() -> None:
    """Cells of tied entries of different counts: one cell rests while another moves, and both end at the optimum."""
    class_of = np.array([0, 2, 1, 3, 2, 0, 0])
    classes = Classes(class_of, np.ones(1), np.zeros(1), np.array([0, 2, 1, 3]))
    rows, rhs = np.array([[[1.0, 1.0]], [[1.0, 2.0]]]), np.ones((2, 1))
    block = Polyhedron(
        (Part(Parameter("w", (7,)), np.arange(7)),), classes, rows, rhs, 0, np.zeros((2, 2)), np.full((2, 2), 9.0), (0,)
    )
    law = block.law()
    target = np.array([3.0, -2.0, 1.0, 1.0, 4.0, 2.0, 0.5])
    w, _ = law.set.nearest(XP, np.zeros(7))
    still = np.isin(class_of, (0, 1))
    state = law.start(XP, w - target, w, U)
    for k in range(400):
        pending, projected = law.learn(XP, w - target, w, state)
        # The first cell waits for a hundred steps.
        moved = w - 0.2 * np.where(still & (k < 100), 0.0, projected)
        stepped, state = law.land(XP, moved, pending, U)
        assert k >= 100 or (stepped[still] == w[still]).all()
        w = stepped
    expected, face = law.set.nearest(XP, target)
    assert w == pytest.approx(expected, abs=1e-9)
    assert state.y == pytest.approx(target - w, abs=1e-6)
    assert (state.face.rows == face.rows).all()
    assert (w[0], w[1]) == (w[5], w[4])
