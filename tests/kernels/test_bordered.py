"""A few equations on top of regular blocks: as exact in the dtype of the weights, ties to the bit, noise silenced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import affinet
from affinet import families
from affinet.blocks.bordered import Bordered
from affinet.blocks.dense import Dense
from affinet.errors import AttachError, InfeasibleError
from affinet.planning.contradiction import Contradiction
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.contract.bordered_cases import BORDERED
from tests.contract.building import oracle_of, plain, plan_of, tensors_of
from tests.contract.case import Case
from tests.kernels.judging import apart, condition_of, moved_again
from tests.limits import plan_within, planned
from tests.oracle import oracle
from tests.planning.random_rules import feasible

W: Any = affinet.weights({"a": (5, 6), "s": (6, 6), "b": (5, 6), "z": (6, 5), "c": (4,)})
DRAW = np.random.default_rng(0)
MATRIX = DRAW.standard_normal((2, 6))
BASES: dict[str, list[Any]] = {
    "rows": [W.a.sum(1) == 1],
    "a matrix": [W.a @ MATRIX.T == 1],
    "rows and columns": [W.a.sum(1) == 6, W.a.sum(0) == 5],
    "symmetric": [families.symmetric(W.s)],
    "shifted": [W.s == 1 - W.s.T],
    "skew": [families.skew(W.s)],
    "symmetric with rows": [families.symmetric(W.s), W.s.sum(1) == 1],
    "scaled pairs": [W.b == -2 * W.z.T + 1],
    "opposite pairs": [W.b == -W.z.T],
    "dense": [DRAW.standard_normal((3, 30)) @ W.b.flatten() == 1],
}


SIZES = {"a": 30, "b": 30, "c": 4, "s": 36, "z": 30}


def spread(base: Any, values: np.ndarray) -> np.ndarray:
    """Numbers over the entries of the weights that an oracle speaks of, among those of all weights."""
    pieces = dict(zip([p.name for p in base.layout.parameters], np.split(values, base.layout.starts[1:]), strict=True))
    return np.concatenate([pieces.get(name, np.zeros(size)) for name, size in SIZES.items()])


def compiled(rules: list[Any]) -> Plan:
    system = System.of(rules)
    return plan_within(system, one_by_one=0)


@st.composite
def extra_rows(draw: st.DrawFn) -> list[np.ndarray]:
    """Dense, sparse and single equations over all weights, combinations of these, at scales far apart."""
    numbers = np.random.default_rng(draw(st.integers(0, 10_000)))
    size = sum(SIZES.values())
    rows: list[np.ndarray] = []
    for kind in draw(st.lists(st.sampled_from(["dense", "few", "one", "tie", "combination"]), min_size=1, max_size=5)):
        row = np.zeros(size)
        count = {"dense": size, "few": 6, "one": 1, "tie": 2, "combination": 0}[kind]
        row[numbers.permutation(size)[:count]] = 1.0 if kind == "tie" else numbers.standard_normal(count)
        if kind == "combination":
            row = sum((numbers.standard_normal() * other for other in rows), row)
        rows.append(row * 10.0 ** draw(st.sampled_from([0, 0, 0, -8, 8])))
    return [row for row in rows if row.any()]


@settings(max_examples=150)
@given(
    names=st.lists(st.sampled_from(sorted(BASES)), min_size=1, max_size=3, unique=True),
    rows=extra_rows(),
    follow=st.booleans(),
    wrong=st.booleans(),
)
def test_random_equations_on_random_bases_are_the_oracle(
    names: list[str], rows: list[np.ndarray], follow: bool, wrong: bool
) -> None:
    """Rows that follow from others are redundant; with a wrong total they contradict."""
    bases = [rule for name in names for rule in BASES[name]]
    base = oracle(System.of(bases))
    if not rows or not feasible(base):
        return
    point, matrix = spread(base, base.inverse @ base.rhs), np.array(rows)
    # What the bases make zero is zero: a total of 1e-17 over such entries alone would contradict them.
    point[np.abs(point) < 1e-12] = 0.0
    totals = matrix @ point
    if follow:
        mixed = spread(base, np.random.default_rng(0).standard_normal(len(base.matrix)) @ base.matrix)
        mixed += 0.5 * matrix[0] / np.abs(matrix[0]).max()
        matrix, totals = np.vstack([matrix, mixed]), np.append(totals, mixed @ point + (1.0 if wrong else 0.0))
    system = [*bases, families.linear([W[name] for name in SIZES], matrix, totals)]
    truth = oracle(System.of(system))
    if not feasible(truth):
        with pytest.raises(Contradiction):
            compiled(system)
        return
    plan = compiled(system)
    assert plan.rank == truth.rank
    assert_nearest(plan, truth, 1e-8 if follow else 1e-9)


def assert_nearest(plan: Plan, truth: Any, tolerance: float) -> None:
    given_ = {
        p.name: torch.randn(p.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        for p in plan.parameters
    }
    arrays, projector = plain(given_), plan.projector(given_)
    for found, wanted in (
        (projector.project(given_), truth.project(arrays)),
        (projector.tangent(given_), truth.tangent(arrays)),
    ):
        for name, values in wanted.items():
            np.testing.assert_allclose(
                found[name].numpy(), values, rtol=0, atol=tolerance * max(1, np.abs(values).max())
            )


@pytest.mark.parametrize("case", BORDERED, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_large_ones_are_projected_in_the_dtype_of_the_weights(
    case: Case, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affinet.kernels.torch.bordered_kernel.FEW", 0)
    monkeypatch.setattr("affinet.kernels.torch.bordered_kernel.FULL_NUMBERS", 0)
    given_ = tensors_of(case, "far", dtype)
    plan, truth, before = plan_of(case.name, "terms"), oracle_of(case.name), plain(given_)
    projector = plan.projector(given_)
    condition = condition_of(truth)
    found, along = projector.project(given_), projector.tangent(given_)
    assert apart(plan, found, truth.project(before), given_, condition=condition) <= 1.0
    assert apart(plan, along, truth.tangent(before), given_, condition=condition) <= 1.0
    assert moved_again(plan, found, projector.project(found), condition) <= 1.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("few", [0, 65_536])
def test_ties_and_given_values_are_exact_through_the_mirror_of_a_base(
    dtype: torch.dtype, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affinet.kernels.torch.bordered_kernel.FEW", few)
    rules = [families.symmetric(W.s), W.s.sum(1) == 1, W.s[0, 1] == 0.3, W.s[2, 3] == -W.s[4, 5], W.s[1, 1] == W.c[0]]
    plan = compiled(rules)
    assert [type(block) for block in plan.blocks] == [Bordered]
    given_ = {
        n: torch.randn(s, generator=torch.Generator().manual_seed(2)).to(dtype) for n, s in (("s", (6, 6)), ("c", (4,)))
    }
    found = plan.projector(given_).project(given_)
    s, c = found["s"], found["c"]
    assert torch.equal(s, s.T)
    assert s[0, 1] == torch.tensor(0.3, dtype=dtype) == s[1, 0]
    assert s[2, 3] == -s[4, 5]
    assert s[1, 1] == c[0]
    assert torch.equal(c[1:], given_["c"][1:])


def test_opposite_pairs_and_copies_in_slices_carry_ties_on() -> None:
    rules = [
        W.b == -W.z.T,
        W.a[:, 0] == W.a[:, 1],
        W.a.sum(1) == 1,
        (DRAW.standard_normal((5, 6)) * (W.a + W.b)).sum() == 1,
        W.a[0, 0] == W.a[3, 1],
        W.a[0, 1] == -W.b[2, 2],
        W.a[4, 0] == 0.3,
    ]
    (block,) = compiled(rules).blocks
    assert isinstance(block, Bordered)
    given_ = {
        n: torch.randn(s, generator=torch.Generator().manual_seed(2))
        for n, s in (("a", (5, 6)), ("b", (5, 6)), ("z", (6, 5)))
    }
    found = compiled(rules).projector(given_).project(given_)
    a, b, z = found["a"], found["b"], found["z"]
    assert a[0, 0] == a[0, 1] == a[3, 0] == a[3, 1] == -b[2, 2] == z[2, 2]
    assert a[4, 0] == a[4, 1] == torch.tensor(0.3)


@pytest.mark.parametrize("name", ["rows and columns", "symmetric with rows", "opposite pairs", "dense"])
@pytest.mark.parametrize("few", [0, 65_536])
def test_what_is_left_of_a_normal_gradient_is_silenced(name: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.kernels.torch.bordered_kernel.FEW", few)
    names = {"rows and columns": "a", "symmetric with rows": "s"}.get(name, "b")
    subject = W[names]
    rules = [*BASES[name], (DRAW.standard_normal(subject.shape) * subject).sum() == 1, subject[1, 2] == subject[3, 1]]
    truth, plan = oracle(System.of(rules)), compiled(rules)
    assert any(isinstance(block, Bordered) for block in plan.blocks)
    normal = truth.matrix.T @ np.random.default_rng(3).standard_normal(len(truth.matrix))
    pieces = np.split(normal, truth.layout.starts[1:])
    gradients = {
        p.name: torch.tensor(piece.reshape(p.shape), dtype=torch.float32)
        for p, piece in zip(truth.layout.parameters, pieces, strict=True)
    }
    weights = {name: torch.zeros_like(gradient) for name, gradient in gradients.items()}
    plan.projector(weights).project_gradients_(gradients, weights, {})
    assert all(not gradient.any() for gradient in gradients.values())
    free = {name: torch.randn_like(gradient) for name, gradient in gradients.items()}
    wanted = truth.tangent(plain(free))
    plan.projector(weights).project_gradients_(free, weights, {})
    for name, values in wanted.items():
        np.testing.assert_allclose(free[name].numpy(), values, atol=1e-5)


def test_a_missing_gradient_counts_as_zero() -> None:
    rules = [
        W.a.sum(1) == 6,
        W.a.sum(0) == 5,
        families.symmetric(W.s),
        W.a[0, 0] == W.s[1, 2],
        W.a.sum() + W.s.sum() + W.c[0] == 3,
    ]
    plan, truth = compiled(rules), oracle(System.of(rules))
    assert [type(block) for block in plan.blocks] == [Bordered]
    weights = {p.name: torch.zeros(p.shape, dtype=torch.float64) for p in plan.parameters}
    some = torch.randn(6, 6, dtype=torch.float64)
    for missing in (("a", "c"), ("c",)):
        gradients = {name: None if name in missing else some[: len(w)].clone() for name, w in weights.items()}
        arrays = {
            name: np.zeros(w.shape) if gradients[name] is None else some[: len(w)].numpy()
            for name, w in weights.items()
        }
        wanted = truth.tangent(arrays)
        plan.projector(weights).project_gradients_(gradients, weights, {})
        assert all(gradients[name] is None for name in missing)
        for name, gradient in gradients.items():
            if gradient is not None:
                np.testing.assert_allclose(gradient.numpy(), wanted[name], atol=1e-12)


def test_many_equations_on_top_have_no_metric() -> None:
    model = torch.nn.Linear(400, 200, bias=False)
    w = affinet.weights(model).weight
    rules = [
        w.sum(1) == 1,
        np.random.default_rng(0).standard_normal((65, 2, 400)).sum(1) @ w[0] == 0,
        w[:, :70].sum(0) == 0,
    ]
    assert any(isinstance(block, Bordered) for block in affinet.plan(rules).blocks)
    with pytest.raises(AttachError, match="equations on top of regular ones would be projected one by one"):
        affinet.project(model, torch.optim.Adam(model.parameters()), rules, metric="optimizer")


def test_products_below_have_no_metric() -> None:
    model = torch.nn.Linear(400, 200, bias=False)
    w = affinet.weights(model).weight
    rules = [w.sum(1) == 2, w.sum(0) == 1, w[0, 0] == 0.5]
    assert [type(block) for block in affinet.plan(rules).blocks] == [Bordered]
    with pytest.raises(AttachError, match="does not commute in the optimizer's metric"):
        affinet.project(model, torch.optim.Adam(model.parameters()), rules, metric="optimizer")


@pytest.mark.parametrize("box", [W.s[1:5, 2:], W.s[::2, 1::2], W.s[::-2, ::-3], W.s[[0, 3, 1]][:, [5, 2, 4, 0]]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_boxes_are_worked_on_where_they_lie(
    box: affinet.Expression, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affinet.kernels.torch.bordered_kernel.FEW", 0)
    rules = [box.sum(1) == box.shape[1], box.sum(0) == box.shape[0], box[0, 0] == 0.5, box[0, 1] == box[1, 0]]
    plan, truth = compiled(rules), oracle(System.of(rules))
    weights = {"s": torch.randn(6, 6, generator=torch.Generator().manual_seed(4), dtype=dtype)}
    gradients, before = {"s": weights["s"].flip(0).contiguous()}, weights["s"].clone()
    wanted, slope = truth.project(plain(weights)), truth.tangent(plain(gradients))
    steep = {"s": gradients["s"].clone()}
    kept, projector = torch.tensor((truth.matrix == 0).all(axis=0).reshape(6, 6)), plan.projector(weights)
    projector.project_(weights, passes=2)
    projector.project_gradients_(gradients, weights, {})
    condition = condition_of(truth)
    assert apart(plan, weights, wanted, {"s": before}, condition=condition) <= 1.0
    assert apart(plan, gradients, slope, steep, condition=condition, quiet=True) <= 1.0
    assert torch.equal(weights["s"][kept], before[kept])


def test_contradictions_on_top_name_an_irreducible_set() -> None:
    with pytest.raises(InfeasibleError, match="cannot hold") as found:
        planned(
            [
                (W.a.sum(1) == 6).named("rows"),
                (W.a.sum(0) == 5).named("columns"),
                (W.a[0, 0] == 1).named("entry"),
                ((np.arange(1.0, 6)[:, None] * W.a).sum() == 91).named("weighted"),
            ],
            one_by_one=0,
        )
    assert found.value.rules == ("rows", "weighted")


def test_a_dense_base_over_a_part_of_a_weight_is_read_as_that_part() -> None:
    """With compiled loops a dense block of one weight may read all of it; under a border places count its entries."""
    x: Any = affinet.weights({"x": (3, 3)}).x
    point = np.arange(9.0).reshape(3, 3) ** 2
    mixed = (x.diff(1) @ np.array([[1.0, 1.0], [1.0, 0.0]]))[0, 1] == point[0, 1] - point[0, 0]
    scaled = np.array([[1.0, 0.0, 0.0], [1.0, -1.0, 1.0], [2.0, 2.0, -1.0]])
    plan = compiled([mixed, scaled * (x.roll(1, 0) - x) == scaled * (np.roll(point, 1, 0) - point)])
    (block,) = (block for block in plan.blocks if isinstance(block, Bordered))
    assert [type(base) for base in block.bases] == [Dense]
    truth, start = oracle(plan.system), torch.from_numpy(DRAW.standard_normal((3, 3)))
    found = plan.projector({"x": start}).project({"x": start})["x"]
    # Nine entries of size at most 64, conditioned below 10: hundreds of roundings of them are 1e-11.
    assert np.abs(found.numpy() - truth.project({"x": start.numpy()})["x"]).max() <= 1e-11
