"""Compiled loops over rows with inequalities: what the sets of blocks do in NumPy, on any number of threads."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest
from scipy.optimize import isotonic_regression

pytest.importorskip("numba")

from affinet.blocks.cut_boxes import CutBoxes
from affinet.blocks.namespace import NumPy
from affinet.blocks.normal_map import AVERAGING, REACH
from affinet.blocks.pooled_cells import PooledCells
from affinet.kernels.loops import chain_rows, cut_landings, cut_rows, level_rows

XP = NumPy()
ROWS, WIDTH = 12, 37
FLOOR = 1e-1
"""A floor of noise that silences some entries."""
KINDS = ("simplex", "capped", "signs", "rows of their own")
GAPS = ("level", "gaps")
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
"""Of infinite bounds. Whoever runs the laws on NumPy arrays silences them too."""


def cut_boxes(kind: str, equation: bool) -> CutBoxes:
    draw = np.random.default_rng(KINDS.index(kind))
    shape, rows = (ROWS, WIDTH), ROWS if kind == "rows of their own" else 1
    row, lower, upper = np.ones((1, WIDTH)), np.zeros((1, WIDTH)), np.full((1, WIDTH), inf)
    if kind != "simplex":
        upper = 0.05 + 0.2 * draw.random((rows, WIDTH))
    if kind in ("signs", "rows of their own"):
        row = draw.normal(size=(rows, WIDTH))
        lower = -0.1 - 0.1 * draw.random((rows, WIDTH))
    middle = np.broadcast_to(np.where(np.isfinite(upper), (lower + upper) / 2, 1.0 / WIDTH), shape)
    return CutBoxes(shape, row, np.sum(row * middle, 1, keepdims=True), equation, lower, upper)


def rule_of(convex: CutBoxes) -> tuple[Any, Any, tuple[np.ndarray, np.ndarray]]:
    """The arguments of the loops."""
    a = None if (convex.row == 1.0).all() else convex.row
    high = None if (convex.upper == inf).all() else convex.upper
    return a, high, (convex.rhs[:, 0], convex.lower)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("equation", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_cut_rows_are_projected_as_arrays_are(kind: str, equation: bool, dtype: str, threads: int) -> None:
    draw, convex = np.random.default_rng(1), cut_boxes(kind, equation)
    a, high, cell = rule_of(convex)
    v = (0.3 * draw.normal(size=convex.shape)).astype(dtype)
    for metric in (None, 10.0 ** draw.uniform(-1, 1, convex.shape)):
        wanted, _ = convex.nearest(XP, v.astype(float), metric)
        scratch, multipliers = np.empty((threads, cut_rows.SCRATCH, WIDTH)), np.empty(ROWS)
        x = v.copy()
        cut_rows.nearest_rows(x, metric, a, high, cell, equation, multipliers, False, -1.0, scratch, threads)
        spread = np.abs(convex.row).max() / np.abs(convex.row).min()
        rounding = np.finfo(dtype).eps * np.abs(wanted).max() + 2**-52 * 8 * (WIDTH + 4) * spread**2
        np.testing.assert_allclose(x, wanted, rtol=0, atol=rounding)
        again = v.copy()  # from the multipliers that were found, and from others
        for start in (multipliers.copy(), 3.0 * multipliers + 0.1):
            again[:] = v
            cut_rows.nearest_rows(again, metric, a, high, cell, equation, start, True, -1.0, scratch, threads)
            np.testing.assert_allclose(again, wanted, rtol=0, atol=rounding)


@pytest.mark.parametrize("size", [1e-1, 1e-4, 1e-12])
@pytest.mark.parametrize("equation", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_cut_rows_land_as_arrays_do(kind: str, equation: bool, size: float) -> None:
    draw, convex = np.random.default_rng(2), cut_boxes(kind, equation)
    a, high, cell = rule_of(convex)
    before, face = convex.nearest(XP, 0.3 * draw.normal(size=convex.shape))
    y = convex.normal(XP, before, draw.normal(size=convex.shape), face, 2.0**-53)[0]
    y += 0.1 * draw.normal(size=convex.shape)
    stepped = before + size * draw.normal(size=convex.shape)
    stepped[3], stepped[5, 7] = before[3], np.nan
    force = 0.5 + draw.random((ROWS, 1))
    outcomes = []
    for threads in (1, 3):
        state = before.copy(), y.copy(), force[:, 0].copy()
        flat = face.lower.copy(), face.upper.copy(), face.row[:, 0].copy()
        scratch = np.empty((threads, cut_landings.SCRATCH, WIDTH))
        cut_landings.landed_rows(stepped, state, flat, a, high, cell, equation, REACH, 2.0**-53, scratch, threads)
        outcomes.append((*state, *flat))
    for alone, shared in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(alone, shared)
    w, normal, left, lower, upper, row = outcomes[0]
    moved = np.delete(np.arange(ROWS), [3, 5])
    assert (np.flatnonzero(left < 0.0) == [3, 5]).all()
    assert (left[[3, 5]] == [-1.0, -2.0]).all()
    np.testing.assert_array_equal(w[[3, 5]], stepped[[3, 5]])
    np.testing.assert_array_equal(normal[[3, 5]], y[[3, 5]])
    tau = REACH * convex.norm(XP, stepped - before) / force
    wanted = convex.land(XP, convex.onto(XP, stepped, face), y, tau, face, 2.0**-53)
    spread = np.abs(convex.row).max() / np.abs(convex.row).min()
    rounding = 2**-52 * 16 * (WIDTH + 4) * spread**2 * (np.abs(wanted[1][moved]).max() + 1.0)
    # An inequality that is not active has room, whose rounding is divided by tau.
    rounding_of_y = rounding if equation else rounding + 2**-52 * WIDTH * spread / tau[moved].min()
    np.testing.assert_allclose(w[moved], wanted[0][moved], rtol=0, atol=rounding)
    np.testing.assert_allclose(normal[moved], wanted[1][moved], rtol=0, atol=rounding_of_y)
    for marks, others in zip((lower, upper, row[:, None]), wanted[2], strict=True):
        np.testing.assert_array_equal(marks[moved], others[moved])


def chains(kind: str) -> PooledCells:
    draw = np.random.default_rng(GAPS.index(kind))
    gap = np.zeros((1, WIDTH - 1)) if kind == "level" else 0.05 * draw.random((1, WIDTH - 1))
    return PooledCells((ROWS, WIDTH), gap, np.full((ROWS, 1), -0.5), np.full((1, 1), 0.4 + gap.sum()))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", GAPS)
def test_chains_are_projected_as_arrays_are(kind: str, dtype: str, threads: int) -> None:
    draw, convex = np.random.default_rng(1), chains(kind)
    gap, bounds = None if kind == "level" else convex.gap, (convex.lower[:, 0], convex.upper[:, 0])
    v = draw.normal(size=convex.shape).astype(dtype)
    for metric in (None, 10.0 ** draw.uniform(-1, 1, convex.shape)):
        wanted, _ = convex.nearest(XP, v.astype(float), metric)
        x, scratch = v.copy(), np.empty((threads, chain_rows.SCRATCH, WIDTH))
        starts = np.empty((threads, WIDTH + 1), np.int64)
        chain_rows.nearest_chains(x, metric, gap, bounds, scratch, starts, threads)
        size = np.abs(v).max() + convex.gap.sum()
        np.testing.assert_allclose(x, wanted, rtol=0, atol=np.finfo(dtype).eps * size + 2**-52 * 8 * WIDTH * size)
        assert kind == "gaps" or (np.diff(x) >= 0.0).all()


def level_cases(width: int) -> dict[str, np.ndarray]:
    """Rows of every pattern of pools; their number is not a multiple of the rows that are computed at a time."""
    draw = np.random.default_rng(width)
    random = draw.normal(size=(2 * level_rows.LANES + 3, width))
    rising = np.arange(width) + 3.0 * random
    mixed = np.where(np.arange(len(random))[:, None] % 2 == 0, np.sort(random), random)
    return {
        "random": random,
        "signs": np.sign(random),
        "rising": rising,
        "whole numbers": np.round(rising),
        "falling": -np.sort(-random),
        "ascending": np.sort(random),
        "some ascending": mixed,
        "tiny and large": random * 10.0 ** draw.uniform(-30, 30, random.shape),
    }


@pytest.mark.parametrize("bounds", [(-inf, inf), (-0.5, 0.4)])
@pytest.mark.parametrize("width", [2, 3, level_rows.SPAN, level_rows.SPAN + 1, 200])
def test_level_rows_are_isotonic_regressions(width: int, bounds: tuple[float, float]) -> None:
    low, high = bounds
    for case, rows in level_cases(width).items():
        v = rows.astype(np.float32)
        wanted = np.clip([isotonic_regression(row).x for row in v.astype(float)], low, high)
        outcomes = []
        for threads in (1, 3):
            x, pools = v.copy(), np.empty((threads, level_rows.LANES, width + 2, level_rows.WORDS))
            level_rows.nearest_levels(x, (np.array([low]), np.array([high])), pools, threads)
            outcomes.append(x)
        np.testing.assert_array_equal(*outcomes, err_msg=case)
        # Sums of up to `width` numbers in float64, and one rounding to float32.
        size = np.abs(v).max(axis=1, keepdims=True).astype(float)
        rounding = (2.0**-24 + 2.0**-52 * 4 * width) * size + np.finfo(np.float32).smallest_subnormal
        assert (np.abs(outcomes[0] - wanted) <= rounding).all(), case
        assert (np.diff(outcomes[0]) >= 0.0).all(), case
        again = outcomes[0].copy()
        level_rows.nearest_levels(again, (np.array([low]), np.array([high])), pools, 3)
        np.testing.assert_array_equal(again, outcomes[0], err_msg=case)


def test_ascending_rows_keep_their_bits() -> None:
    """Signs of zeros, numbers that cancel in sums, and ends of a row below which a part descends."""
    row = np.array([-3e38, -1.0, -1e-45, -0.0, 0.0, -0.0, 1e-30, 2e-30, 1.0, 3e38], np.float32)
    for v in (row, np.append(row, [2.0, 1.0]).astype(np.float32)):
        x = np.repeat(v[None], level_rows.LANES + 1, axis=0)
        pools = np.empty((1, level_rows.LANES, len(v) + 2, level_rows.WORDS))
        level_rows.nearest_levels(x, (np.array([-inf]), np.array([inf])), pools, 1)
        count = len(row) - 1 if len(v) > len(row) else len(row)
        assert {part[:count].tobytes() for part in x} == {v[:count].tobytes()}


@pytest.mark.parametrize("size", [1e-1, 1e-4, 1e-12])
@pytest.mark.parametrize("kind", GAPS)
def test_chains_land_as_arrays_do(kind: str, size: float) -> None:
    draw, convex = np.random.default_rng(2), chains(kind)
    gap, bounds = None if kind == "level" else convex.gap, (convex.lower[:, 0], convex.upper[:, 0])
    before, face = convex.nearest(XP, draw.normal(size=convex.shape))
    y = convex.normal(XP, before, draw.normal(size=convex.shape), face, 2.0**-53)[0]
    y += 0.1 * draw.normal(size=convex.shape)
    stepped = before + size * draw.normal(size=convex.shape)
    stepped[3], stepped[5, 7] = before[3], np.nan
    force = 0.5 + draw.random((ROWS, 1))
    outcomes = []
    for threads in (1, 3):
        state = before.copy(), y.copy(), force[:, 0].copy()
        flat = face.links.copy(), face.first[:, 0].copy(), face.last[:, 0].copy()
        scratch, starts = np.empty((threads, chain_rows.SCRATCH, WIDTH)), np.empty((threads, WIDTH + 1), np.int64)
        chain_rows.landed_chains(stepped, state, flat, gap, bounds, REACH, 2.0**-53, scratch, starts, threads)
        outcomes.append((*state, *flat))
    for alone, shared in zip(*outcomes, strict=True):
        np.testing.assert_array_equal(alone, shared)
    w, normal, left, links, first, last = outcomes[0]
    moved = np.delete(np.arange(ROWS), [3, 5])
    assert (np.flatnonzero(left < 0.0) == [3, 5]).all()
    tau = REACH * convex.norm(XP, stepped - before) / force
    wanted = convex.land(XP, convex.onto(XP, stepped, face), y, tau, face, 2.0**-53)
    rounding = 2**-52 * 16 * WIDTH * (np.abs(wanted[1][moved]).max() + 1.0 + convex.gap.sum())
    np.testing.assert_allclose(w[moved], wanted[0][moved], rtol=0, atol=rounding)
    np.testing.assert_allclose(normal[moved], wanted[1][moved], rtol=0, atol=rounding + 2**-50 / tau[moved].min())
    for marks, others in zip((links, first[:, None], last[:, None]), wanted[2], strict=True):
        np.testing.assert_array_equal(marks[moved], others[moved])
    assert kind == "gaps" or (np.diff(w[moved]) >= 0.0).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", [*KINDS, *GAPS])
def test_what_rows_learn_is_what_arrays_learn(kind: str, dtype: str, threads: int) -> None:
    draw = np.random.default_rng(3)
    convex: Any = chains(kind) if kind in GAPS else cut_boxes(kind, equation=True)
    _, face = convex.nearest(XP, 0.3 * draw.normal(size=convex.shape))
    g, y = draw.normal(size=(2, *convex.shape)).astype(dtype)
    g[4, 2] = np.inf
    pending, projected, force = np.empty_like(y), g.copy(), np.empty(ROWS)
    if kind in GAPS:
        flat = face.links, face.first[:, 0].copy(), face.last[:, 0].copy()
        chain_rows.learned_chains(projected, y, flat, AVERAGING, FLOOR, (pending, force), threads)
    else:
        flat = face.lower, face.upper, face.row[:, 0].copy()
        a, high, _ = rule_of(convex)
        cut_rows.learned_rows(projected, y, flat, a, high, True, AVERAGING, FLOOR, (pending, force), threads)
    wide = g.astype(float)
    along = convex.tangent_part(XP, wide, face)
    average = y + AVERAGING * (along - wide - y)
    finite = np.delete(np.arange(ROWS), 4)
    rounding = 4 * np.finfo(dtype).eps * np.abs(wide[finite]).max() + 2**-52 * 4 * WIDTH
    noise = FLOOR * (np.abs(wide) + np.linalg.norm(wide, axis=1, keepdims=True) * WIDTH**-0.5)
    quiet = np.where(np.abs(along) <= noise, 0.0, along)
    assert ((quiet == 0.0) & (along != 0.0))[finite].any()
    np.testing.assert_allclose(projected[finite], quiet[finite], rtol=0, atol=rounding)
    np.testing.assert_allclose(pending[finite], average[finite], rtol=0, atol=rounding)
    np.testing.assert_array_equal(pending[4], y[4])
    norms = np.maximum(np.linalg.norm(wide, axis=1), np.linalg.norm(average, axis=1))
    norms[4] = np.linalg.norm(y[4].astype(float))
    np.testing.assert_allclose(force, norms, rtol=1e-6)
