"""Entries fixed by masks, slices and arrays of values, alone and beside other rules, against the dense oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

import affinet
from affinet import families
from affinet.blocks.entry_sets import (
    Intervals,
    Masked,
    View,
    mask_of,
    place_in,
    position_at,
    positions_of,
    set_of_mask,
    span_of,
)
from affinet.blocks.fixed import Fixed
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.kernels.torch import looped
from affinet.language.evaluation import evaluate
from affinet.planning.contradiction import Contradiction
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.limits import plan_within
from tests.oracle import Oracle
from tests.planning.random_rules import feasible, oracle_of, uses

SHAPES = {"a": (12, 10), "b": (10, 12), "s": (9, 9), "c": (30,)}
DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def planned(rules: list[affinet.Constraint], one_by_one: int = 0) -> Plan:
    system = System.of(rules)
    return plan_within(system, one_by_one=one_by_one, fixed_from=0)


@st.composite
def fixings(draw: st.DrawFn, w: affinet.Weights, point: dict[str, np.ndarray]) -> affinet.Constraint:
    """A rule that fixes entries of one weight where `point` has them: by a mask, a slice, a product with a mask."""
    name = draw(st.sampled_from(sorted(SHAPES)))
    subject, values = w[name], point[name]
    if subject.ndim == 2 and draw(st.booleans()):
        subject, values = subject.T, values.T
    numbers = np.random.default_rng(draw(st.integers(0, 99)))
    share = draw(st.sampled_from([0.02, 0.3, 0.6, 0.95]))
    scale = draw(st.sampled_from([1.0, -1.0, 2.0]))
    kind = draw(st.sampled_from(["mask", "rows", "slice", "product", "corner", "table"]))
    if kind in ("mask", "product"):
        mask = numbers.random(subject.shape) < share
        if kind == "product":
            return (scale * mask) * subject == (scale * mask) * values
        return scale * subject[mask] == scale * values[mask]
    if kind == "rows":
        mask = numbers.random(len(values)) < share
        return scale * subject[mask] == scale * values[mask]
    if kind == "table":
        chosen = numbers.permutation(len(values))[: draw(st.integers(1, len(values)))]
        return scale * subject[chosen] == scale * values[chosen]
    steps = draw(st.tuples(*(st.sampled_from([1, 2, -1, -3]) for _ in subject.shape)))
    key = tuple(slice(None, None, step) for step in steps)
    if kind == "corner":
        key = tuple(slice(draw(st.integers(0, n - 1)), None) for n in subject.shape)
    return scale * subject[key] == scale * values[key]


@st.composite
def systems(draw: st.DrawFn) -> tuple[list[affinet.Constraint], list[str]]:
    """One to three such rules, and up to three of sums, ties, symmetry and matrices; they hold at one point."""
    w = affinet.weights(SHAPES)
    numbers = np.random.default_rng(draw(st.integers(0, 9)))
    point = {name: numbers.integers(-3, 4, shape).astype(float) for name, shape in SHAPES.items()}
    point["b"] = 2 * point["a"].T + 1
    point["s"] = point["s"] + point["s"].T
    if draw(st.booleans()):
        point = {
            name: values * (numbers.random(values.shape) < 0.5) for name, values in point.items() if name in "ac"
        } | {name: point[name] for name in "bs"}
        point["b"] = 2 * point["a"].T + 1
    others = {
        "rows of a": w.a.sum(1),
        "columns of b": w.b.sum(0),
        "tie": w.b - 2 * w.a.T,
        "symmetric": w.s - w.s.T,
        "rows of s": w.s.sum(1),
        "dense": np.arange(1.0, 61.0).reshape(2, 30) @ w.c,
        "few of a": w.a[0, :3] + w.a[1, :3],
        "total": w.a.sum() + w.c.sum(),
        "scaled rows": (np.arange(10.0) - 4.5) @ w.a.T,
    }
    chosen = draw(st.lists(st.sampled_from(sorted(others)), max_size=3, unique=True))
    rules = [others[name] == evaluate(others[name], point) for name in chosen]
    rules += [draw(fixings(w, point)) for _ in range(draw(st.integers(1, 3)))]
    assume(any(rule.rows for rule in rules))
    return list(draw(st.permutations(rules))), chosen


def weights_of(plan: Plan, dtype: torch.dtype, seed: int = 0) -> dict[str, Tensor]:
    numbers = np.random.default_rng(seed)
    return {p.name: torch.tensor(numbers.standard_normal(p.shape)).to(dtype) for p in plan.parameters}


def near(truth: Oracle, found: dict[str, Tensor], wanted: dict[str, np.ndarray], dtype: torch.dtype) -> None:
    """Within 64 spacings times the condition of the equations, of the largest number that was computed with."""
    sizes = np.linalg.svd(truth.matrix, compute_uv=False)
    condition = float(sizes[0] / sizes[sizes > 1e-10 * sizes[0]][-1])
    largest = max(
        1.0, *(float(np.abs(values).max(initial=0.0)) for values in wanted.values()), float(np.abs(truth.rhs).max())
    )
    for name, values in wanted.items():
        gap = np.abs(found[name].double().numpy() - values).max(initial=0.0)
        assert gap <= 64 * torch.finfo(dtype).eps * condition * largest, name


@settings(max_examples=120)
@given(drawn=systems())
@pytest.mark.parametrize("one_by_one", [0, 30, 65_536])
def test_plans_are_the_oracles_and_blocks_share_no_entry(one_by_one: int, drawn: tuple[list[Any], list[str]]) -> None:
    rules, _ = drawn
    plan, truth = planned(rules, one_by_one), oracle_of(rules)
    assert feasible(truth)
    counts = uses(plan)
    written = np.concatenate([np.zeros(0, np.int64), *(counts[p.name] for p in truth.layout.parameters)])
    touched = (truth.matrix != 0).any(axis=0)
    assert written.max(initial=0) <= 1
    assert (written[touched] == 1).all()
    assert plan.size == touched.sum()
    assert plan.rank == truth.rank
    for block in plan.blocks:
        if isinstance(block, Fixed):
            wanted = np.linalg.lstsq(truth.matrix, truth.rhs, rcond=None)[0]
            start = truth.layout.start(block.parameter)
            values = block.values_at(np.arange(block.size))
            assert np.allclose(values, wanted[start + positions_of(block.places)], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("road", ["compiled", "eager"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@settings(max_examples=40)
@given(drawn=systems())
def test_projections_are_the_oracles(dtype: torch.dtype, road: str, drawn: tuple[list[Any], list[str]]) -> None:
    rules, _ = drawn
    with pytest.MonkeyPatch.context() as patch:
        if road == "eager":
            patch.setattr(looped, "available", lambda: False)
        plan, truth = planned(rules), oracle_of(rules)
        assume(plan.parameters)  # `0 * w == 0` is a rule about nothing
        given_ = weights_of(plan, dtype)
        before = {name: x.double().numpy() for name, x in given_.items()}
        projector = plan.projector(given_)
        near(truth, projector.project(given_), truth.project(before), dtype)
        near(truth, projector.tangent(given_), truth.tangent(before), dtype)
        gradients = {name: x.clone() for name, x in given_.items()}
        projector.project_gradients_(gradients, given_, {})
        near(truth, gradients, truth.tangent(before), dtype)
        found = plan.projector(given_).violation(given_)
        for name, gap in truth.violation(before).items():
            assert found[name] == pytest.approx(gap, rel=1e-6, abs=1e-10)


@pytest.mark.parametrize("road", ["compiled", "eager"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", ["mask", "runs", "box"])
@pytest.mark.parametrize("valued", [False, True])
def test_fixed_entries_get_their_bits_and_others_keep_theirs(
    valued: bool, kind: str, transposed: bool, dtype: torch.dtype, road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if road == "eager":
        monkeypatch.setattr(looped, "available", lambda: False)
    numbers = np.random.default_rng(3)
    shape = (260, 90)
    mask = {
        "mask": numbers.random(shape) < 0.6,
        "runs": np.repeat(np.arange(260) % 13 > 2, 90).reshape(shape),
        "box": np.logical_and.outer(np.arange(260) >= 30, np.arange(90) < 40),
    }[kind]
    values = numbers.standard_normal(shape) if valued else np.full(shape, 0.5)
    w = affinet.weights({"a": shape})
    rule = w.a[30:, :40] == values[30:, :40] if kind == "box" else w.a[mask] == values[mask]
    plan = planned([rule])
    (block,) = plan.blocks
    assert isinstance(block, Fixed)
    assert isinstance(block.places, {"mask": Masked, "runs": Intervals, "box": View}[kind])
    before = torch.tensor(numbers.standard_normal(shape)).to(dtype)
    weight = before.T.contiguous().T if transposed else before.clone()
    projector = plan.projector({"a": weight})
    projector.project_({"a": weight})
    chosen = torch.from_numpy(mask)
    assert torch.equal(weight[chosen], torch.from_numpy(values[mask]).to(dtype))
    assert torch.equal(weight[~chosen], before[~chosen])
    gradient = before.T.contiguous().T if transposed else before.clone()
    projector.project_gradients_({"a": gradient}, {"a": weight}, {})
    assert not gradient[chosen].any()
    assert torch.equal(gradient[~chosen], before[~chosen])
    projector.project_gradients_({"a": None}, {"a": weight}, {})
    projector.project_gradients_({"a": gradient}, {"a": weight}, {"a": 0.25})
    # The optimizer's own decay then adds nothing: −λw + λw.
    assert torch.equal(gradient[chosen], -0.25 * weight[chosen])
    assert torch.equal(gradient[~chosen], before[~chosen])


@settings(max_examples=60)
@given(st.lists(st.booleans(), min_size=1, max_size=700), st.integers(0, 3))
def test_sets_of_masks_are_their_positions(marks: list[bool], repeats: int) -> None:
    mask = np.repeat(np.array(marks), 4**repeats)
    if not mask.any():
        return
    for places in (set_of_mask(mask), Masked(mask, int(mask.sum()))):
        positions = np.flatnonzero(mask)
        assert positions_of(places).tolist() == positions.tolist()
        assert (mask_of(places, len(mask)) == mask).all()
        assert place_in(places, positions).tolist() == list(range(len(positions)))
        assert (place_in(places, np.arange(len(mask))) >= 0).tolist() == mask.tolist()
        for one in positions[:: max(1, len(positions) // 5)]:
            at = place_in(places, np.array([one]))
            assert position_at(places, at).tolist() == [one]
        assert span_of(places) == (positions[0], positions[-1])


def test_memory_follows_the_mask_and_not_the_entries() -> None:
    """One bit for each entry in the rule, one byte in the block; no values where all are one, one copy where not."""
    w = affinet.weights({"a": (1000, 1000)})
    mask = np.random.default_rng(0).random((1000, 1000)) < 0.5
    plan = affinet.plan([w.a[mask] == 0])
    (block,) = plan.blocks
    assert isinstance(block, Fixed)
    assert isinstance(block.places, Masked)
    assert block.stored == 0.0
    (variable,) = plan.system.rules[0].expression.terms[0].variables
    assert not isinstance(variable.source, int)
    assert block.places.mask.nbytes + variable.source.nbytes <= 1.125 * mask.size + 1
    values = np.random.default_rng(1).standard_normal((900, 1000)).astype(np.float32)
    (held,) = affinet.plan([w.a[:900] == values]).blocks
    assert isinstance(held, Fixed)
    assert isinstance(held.stored, np.ndarray)
    assert held.stored.dtype == np.float32
    rule = w.a[:900] == values
    assert isinstance(rule.expression.constant, np.ndarray)
    (shared,) = affinet.plan([rule]).blocks
    assert isinstance(shared, Fixed)
    assert np.shares_memory(shared.stored, rule.expression.constant)
    assert not np.shares_memory(shared.stored, values)
    (repeated,) = affinet.plan([families.fix(w.a[:900], value=values[0])]).blocks
    assert isinstance(repeated, Fixed)
    assert np.size(repeated.stored) == 1000


def test_what_others_read_of_a_uniform_pattern_stays_regular() -> None:
    w = affinet.weights({"a": (400, 300), "b": (300, 400)})
    summed = affinet.plan([w.a[:, :200] == 0, w.a.sum(1) == 1])
    assert [type(block) for block in summed.blocks] == [Fixed, Slices]
    assert summed.rank == 400 * 200 + 400
    tied = affinet.plan([w.a[:, :200] == 0, w.b == w.a.T])
    assert [type(block) for block in tied.blocks] == [Fixed, Fixed, Pairs]
    assert tied.rank == 2 * 400 * 200 + 400 * 100


def test_two_rules_that_fix_an_entry_apart_contradict_each_other() -> None:
    w = affinet.weights({"a": (400, 300), "b": (300, 400)})
    mask = np.random.default_rng(0).random((400, 300)) < 0.6
    with pytest.raises(affinet.InfeasibleError) as found:
        affinet.plan([w.a.sum() == 1, w.a[mask] == 0, (w.a[:, :299] == 1).named("ones")])
    assert "ones" in found.value.rules
    assert len(found.value.rules) == 2
    with pytest.raises(affinet.InfeasibleError) as through:
        affinet.plan([w.a[mask] == 0, w.b == w.a.T, (w.b[:, :399] == 2).named("twos")])
    assert len(through.value.rules) == 3
    assert affinet.plan([w.a[mask] == 0, w.a[:, :299] == 0]).rank == (mask | (np.arange(300) < 299)).sum()
    with pytest.raises(Contradiction):
        planned([w.a[mask] == 1, w.a[mask][3] == 0])


def test_a_mask_that_the_user_writes_to_later_is_the_mask_of_before() -> None:
    w = affinet.weights({"a": (40, 30)})
    mask = np.random.default_rng(0).random((40, 30)) < 0.5
    values = torch.randn(int(mask.sum()))
    rule = w.a[mask] == values
    before, kept = mask.copy(), values.clone()
    mask[:], values[:] = True, 0.0
    found = planned([rule]).projector({"a": torch.zeros(40, 30)}).project({"a": torch.zeros(40, 30)})["a"]
    assert torch.equal(found[torch.from_numpy(before)], kept)


def test_masks_are_read_as_numpy_reads_them() -> None:
    w = affinet.weights({"c": (20, 6, 5)})
    numbers = np.random.default_rng(0)
    values = {"c": numbers.standard_normal((20, 6, 5))}
    for axes in (1, 2, 3):
        mask = numbers.random((20, 6, 5)[:axes]) < 0.4
        for key in (
            (mask,),
            (mask, None),
            (None, mask, ...),
            (mask, ..., slice(None, None, -2)) if axes < 3 else (mask,),
        ):
            for given_ in (
                key,
                tuple(torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in key),
            ):
                assert np.array_equal(evaluate(w.c[given_], values), values["c"][key])
    inner = numbers.random((6, 5)) < 0.4
    assert np.array_equal(evaluate(w.c[::3, inner], values), values["c"][::3, inner])
    assert np.array_equal(evaluate(w.c[2:9][1:, inner], values), values["c"][3:9, inner])
    assert np.array_equal(evaluate(w.c.flip(0)[..., inner], values), values["c"][::-1][..., inner])
    chosen = w.c[numbers.random((20, 6, 5)) < 0.5]
    taken = evaluate(chosen, values)
    for key in (0, 7, -1, slice(3, 40, 4), slice(None, None, -1), np.array([3, 3, 1])):
        assert np.array_equal(evaluate(chosen[key], values), taken[key])
    assert np.allclose(evaluate(chosen.sum(), values), taken.sum())
    pair = w.c.flatten()[numbers.random(600) < 0.5][:25].reshape(5, 5)
    assert np.array_equal(evaluate(pair.diagonal(), values), np.diagonal(evaluate(pair, values)))
