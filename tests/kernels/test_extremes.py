"""Numbers near the ends of a dtype's range, and rows that nearly repeat: the figures of docs/numerics.md."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.kernels.torch import looped
from affinet.system.system import System
from tests.kernels.block_kinds import draw
from tests.kernels.bounds import of_border, of_cell
from tests.kernels.judging import miss, missed, sets_of
from tests.limits import plan_within
from tests.planning.nearly_redundant import FORMS, SYSTEMS, Rules, nearly_redundant
from tests.rounding import another_processor

W: Any = affinet.weights({"a": (40, 40), "b": (40, 40)})
RULES = {
    "sums": lambda scale: [W.a.sum(dim=1) == scale],
    "sums both ways": lambda scale: [W.a.sum(dim=1) == scale, W.a.sum(dim=0) == scale],
    "ties": lambda scale: [W.a == W.b.T],
    "dense": lambda scale: [families.linear([W.a.flatten()[::40]], draw(0).standard_normal((5, 40)), scale)],
    "scaled ties": lambda scale: [W.a.flatten()[draw(1).permutation(1600)] == 3 * W.b.flatten()],
}


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.float32, s) for s in (1e30, 1e-30, 1e-42)] + [(torch.float64, s) for s in (1e130, 1e-300, 1e-310)],
    ids=str,
)
@pytest.mark.parametrize("kind", RULES)
def test_huge_tiny_and_subnormal_weights(kind: str, dtype: torch.dtype, scale: float) -> None:
    """What is below the smallest normal number is held to the spacing of the subnormal ones."""
    plan = affinet.plan(RULES[kind](scale))
    given = {p.name: (torch.randn(p.shape, dtype=torch.float64) * scale).to(dtype) for p in plan.parameters}
    assert miss(plan, plan.projector(given).project(given), dtype, component=True) <= 4.0


@pytest.mark.parametrize("gap", [1e-3, 1e-5, 1e-7])
def test_a_row_that_nearly_repeats_another_costs_no_digit_of_float32(gap: float) -> None:
    """A pseudo-inverse kept in float32 and refined once loses them: by 1e-7 it is 0.1 away and misses by 0.04."""
    numbers = draw(0)
    A = numbers.standard_normal((5, 40))
    A[4] = A[3] + gap * numbers.standard_normal(40)
    b, x = A @ numbers.standard_normal(40), numbers.standard_normal(40)
    nearest = x - np.linalg.pinv(A, rcond=1e-14) @ (A @ x - b)
    plan = affinet.plan(families.linear([affinet.weights({"a": (40,)}).a], A, b))
    given = {"a": torch.tensor(x, dtype=torch.float32)}
    ours = plan.projector(given).project(given)["a"].double().numpy()
    assert np.abs(ours - nearest).max() < 1e-6
    assert np.abs(A @ ours - b).max() < 5e-6
    theirs = _in_float32(A, b, x)
    assert np.abs(theirs - nearest).max() > {1e-3: 1e-6, 1e-5: 1e-3, 1e-7: 1e-2}[gap]


def _in_float32(A: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """`w − A⁺(A w − b)`, twice, all in float32."""
    matrix, rhs, w = (torch.tensor(values, dtype=torch.float32) for values in (A, b, x))
    inverse = torch.linalg.pinv(matrix, rtol=1e-9)
    for _ in range(2):
        w = w - inverse @ (matrix @ w - rhs)
    found: np.ndarray = w.double().numpy()
    return found


def test_one_pass_of_a_long_move_is_refined_by_the_second() -> None:
    """From 1e4 away one pass leaves what rounding of the way there left; the second leaves rounding of the end."""
    plan = affinet.plan([W.a.sum(dim=1) == 1, W.a.sum(dim=0) == 1, W.a[0, 0] == 0.25])
    far = {"a": 1e4 * torch.randn(40, 40) + 1e6}
    once, twice = ({"a": far["a"].clone()} for _ in range(2))
    projector = plan.projector(far)
    projector.project_(once)
    projector.project_(twice, passes=2)
    own = [miss(plan, found, torch.float32) for found in (once, twice)]
    assert own[1] <= 4.0
    assert own[0] >= own[1]


@pytest.mark.parametrize("rounded", [False, True], ids=["as here", "as elsewhere"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_equations_that_almost_follow_from_others_hold(form: Rules, dtype: torch.dtype, rounded: bool) -> None:
    """Alone and where sets meet they lose no digit to their condition number, a border on top of them does.

    Here, and with factors rounded as on another processor.
    """
    for seed in range(SYSTEMS):
        matrix, point = nearly_redundant(seed)
        system = System.of(form(matrix, point, 0))
        with another_processor(seed) if rounded else nullcontext():
            plan = plan_within(system, one_by_one=0)
            given = {p.name: torch.from_numpy(draw(seed).standard_normal(p.shape)).to(dtype) for p in plan.parameters}
            off = miss(plan, plan.projector(given).project(given), dtype, component=True)
        sets = max(sets_of(block) for block in plan.blocks)
        bound = max(of_border(*matrix.shape, block, torch.finfo(dtype).eps) for block in plan.blocks)
        assert off <= sets * bound, (seed, off)


LONG: dict[str, tuple[tuple[int, int], Callable[[Any], list[affinet.Constraint]]]] = {
    "rows": ((4, 100_000), lambda a: [a.sum(dim=1) == 1]),
    "one row": ((1, 8_000), lambda a: [a.sum(dim=1) == 1]),
    "columns": ((100_000, 4), lambda a: [a.sum(dim=0) == 1]),
    "rows and columns": ((4, 100_000), lambda a: [a.sum(dim=1) == 25_000, a.sum(dim=0) == 1]),
    "a matrix": ((4, 11_008), lambda a: [a @ draw(0).standard_normal((11_008, 2)) == 1]),
}


@pytest.mark.parametrize("giant", [1e4, 1e6, 1e9])
@pytest.mark.parametrize("name", LONG)
def test_long_sums_beside_a_giant_stray_like_a_random_walk(name: str, giant: float) -> None:
    """Each of the numbers that are added to the giant is rounded to its spacing, in float64 too."""
    shape, rules = LONG[name]
    plan = affinet.plan(rules(affinet.weights({"a": shape}).a))
    start = draw(1).standard_normal(shape)
    start[0, 0] = giant
    given = {"a": torch.from_numpy(start)}
    found = plan.projector(given).project(given)
    assert missed(plan, found) <= 1.0
    if name == "rows" and looped.available():
        from affinet.kernels.loops import sums

        # Pieces are put together without loss, so that a row misses by no more than one of them would alone.
        assert miss(plan, found, torch.float64) <= of_cell(1, sums.PIECE)
