"""The projector for NumPy arrays: memory, dtypes and memory orders, what it refuses, violations of large rules."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.errors import AttachError, ConvergenceWarning, UnsupportedWeightError
from affinet.kernels.arrays.array_gaps import ArrayGaps
from affinet.system.system import System
from tests.kernels.bounds import of_cell
from tests.limits import planned
from tests.oracle import oracle

W: Any = affinet.weights({"a": (5, 6), "b": (6, 5)})
RULES = [W.a.sum(dim=1) == 1, W.a == W.b.T]


def given(dtype: Any = np.float64) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {"a": draw.standard_normal((5, 6)).astype(dtype), "b": draw.standard_normal((6, 5)).astype(dtype)}


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_a_large_matrix_take_one_copy(dim: int, dtype: Any) -> None:
    n = 2_000
    w = np.random.default_rng(0).standard_normal((n, n)).astype(dtype)
    plan = affinet.plan(affinet.weights({"w": (n, n)})["w"].sum(dim=dim) == 1)
    projector = plan.projector({"w": w})
    tracemalloc.start()
    try:
        projected = projector.project({"w": w})["w"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # The copy that is returned, and numbers of a row: sums, gaps, buffers of NumPy.
    assert peak <= w.nbytes + 64 * n * w.itemsize + 2**20
    exact = projected.astype(np.longdouble).sum(axis=dim)
    size = np.abs(projected).sum(axis=dim) + 1 + np.sqrt(n) * np.linalg.norm(projected, axis=dim)
    within = of_cell(1, n) * float(np.finfo(dtype).eps) * size
    assert (np.abs(exact - 1) <= within).all()
    assert max(projector.violation({"w": projected}).values()) <= within.max()
    moved = w - projected  # the same for all entries of a sum
    assert np.ptp(moved, axis=dim).max() <= 4 * np.finfo(dtype).eps * np.abs(w).max()


@pytest.mark.parametrize("lay", [np.ascontiguousarray, np.asfortranarray, lambda x: np.flip(np.flip(x).copy())])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8"])
def test_any_memory_order_and_byte_order(lay: Callable[[np.ndarray], np.ndarray], dtype: str) -> None:
    plan = affinet.plan(RULES)
    weights = {name: lay(array).astype(dtype) for name, array in given().items()}
    weights = {name: lay(array) for name, array in weights.items()}
    projected = plan.projector(weights).project(weights)
    native = {name: np.array(array, np.dtype(dtype).newbyteorder("="), order="C") for name, array in weights.items()}
    for name, array in plan.projector(native).project(native).items():
        np.testing.assert_array_equal(projected[name], array)


def test_half_precision_computes_in_single() -> None:
    weights = given(np.float16)
    plan = affinet.plan(RULES)
    projected = plan.projector(weights).project(weights)
    wide = {name: array.astype(np.float32) for name, array in weights.items()}
    for name, array in plan.projector(wide).project(wide).items():
        assert projected[name].dtype == np.float16
        # Two roundings to float16 of numbers of size up to one and more, the first of which the second pass corrects.
        np.testing.assert_allclose(projected[name], array, rtol=0, atol=2 * 2**-11 * np.abs(array).max())
    assert np.array_equal(projected["a"], projected["b"].T)


def test_a_zero_dimensional_array_and_a_number_of_numpy() -> None:
    w: Any = affinet.weights({"a": (), "b": ()})
    plan = affinet.plan(w.a == w.b)
    weights = {"a": np.float64(1), "b": np.array(3.0)}
    projected = plan.projector(weights).project(weights)
    assert (float(projected["a"]), float(projected["b"])) == (2.0, 2.0)


def test_names_in_no_rule_are_passed_over() -> None:
    plan, other = affinet.plan(RULES), object()
    found = plan.projector(given()).project({**given(), "other": other})  # type: ignore[dict-item]
    assert found["other"] is other


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (np.zeros((5, 6)), "give a mapping of names to arrays, .* not ndarray"),
        ({"a": np.zeros((5, 6))}, "the rules are about 'b' and there is no such array; there are: a"),
        ({"a": np.zeros((5, 6)), "b": [1.0]}, "'b' is list, and must be a numpy.ndarray without a mask"),
        ({"a": np.zeros((5, 6)), "b": np.ma.zeros((6, 5))}, "'b' is MaskedArray, and must be a numpy.ndarray"),
        ({"a": np.zeros((5, 6)), "b": np.zeros((5, 6))}, r"'b' of shape \(6, 5\), and it has shape \(5, 6\)"),
    ],
)
@pytest.mark.parametrize("verb", ["project", "tangent", "violation", "multipliers", "stationarity"])
def test_arrays_that_are_not_those_of_the_rules_are_refused(verb: str, arrays: Any, message: str) -> None:
    with pytest.raises(AttachError, match=message):
        getattr(affinet.plan(RULES).projector(given()), verb)(arrays)


@pytest.mark.parametrize("dtype", [int, complex, np.longdouble, bool])
def test_other_dtypes_are_refused(dtype: Any) -> None:
    with pytest.raises(UnsupportedWeightError, match=r"Rules need float16, float32 or float64"):
        affinet.plan(RULES).projector(given(dtype))


def test_what_is_not_finite_is_fixed_and_measured_without_a_warning() -> None:
    w: Any = affinet.weights({"a": (3, 4), "b": (2,)})
    plan = affinet.plan([w.a[0] == 2, w.b[0] == w.b[1]])
    weights = {"a": np.full((3, 4), np.nan), "b": np.array([np.inf, 1.0])}
    projector = plan.projector(weights)
    assert (projector.project(weights)["a"][0] == 2).all()
    assert np.isnan(next(iter(projector.violation(weights).values())))
    half = {"a": np.full((3, 4), np.nan, np.float16), "b": np.ones(2, np.float16)}
    assert affinet.plan(w.a[0] == 1e6).projector(half).project(half)["a"][0, 0] == np.inf


LARGE: dict[str, Callable[[Any], Any]] = {
    "rows": lambda w: w.a.sum(dim=1) == 1,
    "columns in reverse": lambda w: w.a[::-1, ::-2].sum(dim=0) == np.arange(200.0),
    "transposed": lambda w: 2 * w.a == w.b.T + 3,
    "a matrix on both sides": lambda w: np.ones((2, 400)) @ w.a @ np.arange(1.0, 401).reshape(400, 1) == 1,
    "a table": lambda w: w.a[np.arange(400)[::-1]] - w.b == 0.5,
    "differences": lambda w: w.a.diff(dim=0) == w.b[1:],
    "fixed": lambda w: w.a == np.arange(160_000.0).reshape(400, 400),
    "one sum": lambda w: w.a.sum() + w.b.trace() == 3,
}


@pytest.mark.parametrize("rule", LARGE.values(), ids=LARGE)
def test_large_rules_are_measured_from_their_terms(rule: Callable[[Any], Any]) -> None:
    w: Any = affinet.weights({"a": (400, 400), "b": (400, 400)})
    system = System.of([rule(w)])
    assert system.rules[0].nonzeros > system.limits.one_by_one
    draw = np.random.default_rng(0)
    weights = {p.name: draw.standard_normal(p.size) for p in system.layout.parameters}
    flat = np.concatenate(list(weights.values()))
    rows = system.rows([0])
    gaps = np.abs(rows.matrix(len(flat)) @ flat - rows.rhs)
    tracemalloc.start()
    try:
        (found,) = ArrayGaps(system)(weights).values()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    size = float(abs(rows.matrix(len(flat))).dot(np.abs(flat)).max() + np.abs(rows.rhs).max())
    assert found == pytest.approx(gaps.max(), rel=0, abs=np.finfo(float).eps * np.sqrt(len(flat)) * size)
    # The value, what one term adds to it, pieces of it; a table and the places it leads to, 8 bytes an entry each.
    assert peak <= 6 * 8 * 160_000 + 2**22


def test_conjugate_gradients_that_stop_early_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    matrix = np.zeros((60, 90))
    for row in matrix:
        row[draw.choice(90, 4, replace=False)] = draw.uniform(0.5, 2, 4)
    rule = families.linear([affinet.weights({"a": (90,)})["a"]], matrix, 1)
    plan = planned(rule, dense_rows=10, largest_fill=0)
    weights = {"a": np.ones(90)}
    projected = plan.projector(weights).project(weights)
    wanted = oracle(plan.system).project(weights)["a"]
    condition = np.linalg.cond(matrix)
    assert np.abs(projected["a"] - wanted).max() <= np.finfo(float).eps * 90 * condition**2
    monkeypatch.setattr("affinet.blocks.sparse.MOST_ITERATIONS", 3)
    with pytest.warns(ConvergenceWarning, match="stopped after 3 iterations"):
        plan.projector(weights).project(weights)


def test_arrays_are_projected_without_torch() -> None:
    code = (
        "import sys, numpy as np, affinet\n"
        "w = affinet.weights({'w': (3, 4)})['w']\n"
        "p = affinet.plan([w.sum(dim=1) == 1, w[0, 0] == w[1, 1]]).projector({'w': np.zeros((3, 4))})\n"
        "p.stationarity(p.project({'w': np.zeros((3, 4))}))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
