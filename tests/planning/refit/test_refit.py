"""Plan again with other right-hand sides: the bits of planning anew, the same refusals, and no factor made twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

import affinet
from affinet.blocks.fixed import Fixed
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression
from affinet.planning.refit import record
from affinet.plans.plan import Plan, compiled
from affinet.system import lapack
from affinet.system.limits import Limits
from affinet.system.system import System
from tests.contract.building import LIMITS, PATHS, numbers, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES
from tests.planning.random_rules import SHAPES, Drawn, systems

FACTORS = ("batched_qr", "cholesky", "eigh", "eigvalsh", "lstsq", "null_space", "pinv", "qr", "singular_values", "svd")
"""The routines of LAPACK that factor; `solve` with small triangles is what a right-hand side costs."""


def through(system: System, point: dict[str, np.ndarray]) -> System:
    """The same coefficients with right-hand sides that the point satisfies."""
    rules = []
    for rule in system.rules:
        linear = Expression(replace(rule.expression.affine, constant=0.0))
        value = -evaluate(linear, point)
        rules.append(replace(rule, expression=Expression(replace(rule.expression.affine, constant=value))))
    return replace(system, rules=tuple(rules))


def at_random(system: System) -> System:
    """The same coefficients with any right-hand sides."""
    draw = np.random.default_rng(3)
    rules = []
    for rule in system.rules:
        side = draw.standard_normal(rule.expression.shape)
        rules.append(replace(rule, expression=Expression(replace(rule.expression.affine, constant=side))))
    return replace(system, rules=tuple(rules))


def parts(value: object) -> Iterator[bytes]:
    """All numbers of a value, arrays with their type and shape."""
    if isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif sparse.issparse(value):
        for array in (value.data, value.indices, value.indptr):
            yield from parts(array)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from parts(part)
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        for field in fields(value):
            yield from parts(getattr(value, field.name))
    else:
        yield repr(value).encode()


def bits(value: object) -> str:
    state = sha256()
    for part in parts(value):
        state.update(part)
    return state.hexdigest()


def outcome(system: System, before: Plan | None) -> tuple[str, Plan | None]:
    """The bits of a plan's blocks, or the text of its refusal; and the plan."""
    try:
        plan = compiled(system, before)
    except affinet.AffinetError as error:
        return f"{type(error).__name__}: {error}", None
    return bits(plan.blocks), plan


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_blocks_are_those_of_planning_anew_to_the_bit(case: Case, path: str) -> None:
    """Right-hand sides that hold, larger ones that cost no factor, and random ones, most of which contradict."""
    first = plan_of(case.name, path)
    system, point = first.system, numbers(case, "right-hand sides")
    before = compiled(system, Plan(system, ()))
    assert before.record is not None
    results = [*before.record.results.values()]
    kept = bits(results)
    assert bits(before.blocks) == bits(first.blocks)
    held = through(system, point)
    larger = through(system, {name: 1.5 * values for name, values in point.items()})
    said, plan = outcome(held, before)
    assert said == outcome(held, None)[0]
    before = plan or before
    with no_factors():
        said = outcome(larger, before)[0]
    assert said == outcome(larger, None)[0]
    assert outcome(at_random(system), before)[0] == outcome(at_random(system), None)[0]
    assert bits(results) == kept, "a result that was kept was written to"


@contextmanager
def no_factors() -> Iterator[None]:
    """Within, whoever makes a factor fails."""
    with pytest.MonkeyPatch.context() as patch:
        for routine in FACTORS:
            patch.setattr(lapack, routine, _refused)
        yield


def _refused(*_: Any, **__: Any) -> Any:
    raise AssertionError("a factor was made")


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@settings(max_examples=60)
@given(drawn=systems(), path=st.sampled_from(PATHS), seed=st.integers(0, 3))
def test_drawn_rules_and_frozen_values_are_planned_as_anew(drawn: Drawn, path: str, seed: int) -> None:
    """Rules of any kind; then the same rules with one of their weights frozen, at values that change."""
    system, draw = System.of(drawn.rules, limits=Limits(**LIMITS[path])), np.random.default_rng(seed)
    if not system.layout.parameters:
        return
    points = [{name: draw.standard_normal(shape) for name, shape in SHAPES.items()} for _ in range(2)]
    frozen = str(draw.choice([parameter.name for parameter in system.layout.parameters]))
    held, moved = (through(system, point) for point in points)
    before = compiled(held, Plan(held, ()))
    for changed in (moved, at_random(system)):
        assert outcome(changed, before)[0] == outcome(changed, None)[0]
    first, second, third = (held.with_constants({frozen: point[frozen]}, 0.0) for point in (*points, points[0]))
    _, before = outcome(first, Plan(first, ()))
    for changed in (second, third):
        assert outcome(changed, before)[0] == outcome(changed, None)[0]


def random_equations() -> list[affinet.Constraint]:
    """Many small components."""
    draw = np.random.default_rng(0)
    w = affinet.weights({"w": (20_000,), "f": (500,)})
    return [(draw.standard_normal((500, 4)) * w.w[draw.integers(0, 20_000, (500, 4))]).sum(dim=1) == w.f]


def one_component() -> list[affinet.Constraint]:
    """One component that is too large for a dense factor, some of its equations redundant."""
    draw = np.random.default_rng(1)
    w = affinet.weights({"w": (1_000,), "f": (700,)})
    matrix = sparse.random_array((650, 1_000), density=0.004, rng=draw, data_sampler=draw.standard_normal).tocsr()
    extra = sparse.random_array((50, 650), density=0.01, rng=draw, data_sampler=draw.standard_normal).tocsr()
    return [sparse.vstack([matrix, extra @ matrix]) @ w.w == w.f]


def dense_matrix() -> list[affinet.Constraint]:
    """A full matrix over all entries, read as a whole."""
    draw = np.random.default_rng(2)
    w = affinet.weights({"w": (900,), "f": (120,)})
    return [draw.standard_normal((120, 900)) @ w.w == w.f]


def chains() -> list[affinet.Constraint]:
    """Ties with shifts and ratios, some of them round a cycle."""
    draw = np.random.default_rng(4)
    w = affinet.weights({"w": (300,), "f": (280,)})
    i = draw.integers(0, 299, 280)
    return [w.w[i] - 0.5 * w.w[i + 1] == w.f]


SYSTEMS = {made.__name__: made for made in (random_equations, one_component, dense_matrix, chains)}


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_changed_value_costs_no_factor(name: str) -> None:
    plan = affinet.plan(SYSTEMS[name]())
    draw = np.random.default_rng(5)

    def sides() -> dict[str, np.ndarray]:
        (rule,) = plan.system.rules
        linear = Expression(replace(rule.expression.affine, constant=0.0))
        point = {"w": draw.standard_normal(plan.parameters[1].shape), "f": np.zeros(plan.parameters[0].shape)}
        return {"f": evaluate(linear, point)}

    before = plan.with_constants(sides(), 0.0)
    changed = sides()
    anew = plan.with_constants(changed, 0.0)
    with no_factors():
        again = plan.with_constants(changed, 0.0, before)
    assert bits(again.blocks) == bits(anew.blocks)


def test_a_record_keeps_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MOST_KEPT", 60_000)
    system = affinet.plan(chains()).system
    first, second = through(system, at_zero(system)), at_random(system)
    before = compiled(first, Plan(first, ()))
    assert before.record is not None
    asked = [one for some in before.record.results.values() for one in some]
    assert any(one is None for one in asked)
    assert any(one is not None for one in asked)
    assert outcome(second, before)[0] == outcome(second, None)[0]


def at_zero(system: System) -> dict[str, np.ndarray]:
    return {parameter.name: np.zeros(parameter.shape) for parameter in system.layout.parameters}


def test_a_frozen_value_that_contradicts_is_refused_in_the_same_words() -> None:
    w = affinet.weights({"w": (3,), "f": (2,)})
    plan = affinet.plan([(w.w[0] == w.f[0]).named("first"), (w.w[0] == w.f[1]).named("second")])
    before = plan.with_constants({"f": np.ones(2)}, 0.0)
    with pytest.raises(affinet.InfeasibleError, match=r'(?s)"first".*"second"') as again:
        plan.with_constants({"f": np.array([1.0, 2.0])}, 0.0, before)
    with pytest.raises(affinet.InfeasibleError) as anew:
        plan.with_constants({"f": np.array([1.0, 2.0])}, 0.0)
    assert str(again.value) == str(anew.value)
    after = plan.with_constants({"f": np.full(2, 7.0)}, 0.0, before)
    (block,) = after.blocks
    assert isinstance(block, Fixed)
    assert block.stored == 7.0


def test_a_block_that_no_value_touches_is_the_same_object() -> None:
    w = affinet.weights({"a": (8, 8), "b": (8,), "f": (8,)})
    plan = affinet.plan([w.a.sum(1) == 1, w.a.sum(0) == 1, w.b[:4] + w.b[4:] == w.f[:4], w.b[0] == w.b[1] + w.f[4]])
    before = plan.with_constants({"f": np.zeros(8)}, 0.0)
    after = plan.with_constants({"f": np.arange(8.0)}, 0.0, before)
    same = [block for block in after.blocks if any(block is other for other in before.blocks)]
    assert {part.name for block in same for part, *_ in block.entries.spans} == {"a"}
    assert len(after.blocks) == len(same) + 1


def test_other_coefficients_are_planned_as_they_are() -> None:
    """A record of other rules is no harm: what differs is worked out anew."""
    w = affinet.weights({"w": (50,)})
    draw = np.random.default_rng(6)
    first, second = (affinet.plan(draw.standard_normal((7, 50)) @ w.w == 1).system for _ in range(2))
    before = compiled(first, Plan(first, ()))
    assert bits(compiled(second, before).blocks) == bits(compiled(second).blocks)
