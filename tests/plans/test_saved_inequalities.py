"""Inequalities and balls in plan files: the same bits after reading, and every field is checked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import affinet
from affinet import PlanFileError, families
from affinet.language.affine import Values
from affinet.language.evaluation import evaluate, violations
from affinet.language.origin import Family, Linear, WrittenEquation
from affinet.system.stored.description import system_of
from affinet.system.stored.planfile import read_system, write_system
from affinet.system.system import Rule, System
from tests.plans.hostile_plans import contents, tampered, write_plan
from tests.plans.test_loading import format_of

SHAPES = {"a": (4, 6), "b": (6,), "c": (4, 6)}
W = affinet.weights(SHAPES)
a, b, c = W
UPPER = np.array([1, np.inf, 0, 0.5, np.inf, 2])
RULES: dict[str, Any] = {
    "number": a >= 0,
    "no bound": b <= np.inf,
    "no lower bound": a >= -np.inf,
    "array": a <= UPPER,
    "float32": c >= -UPPER.astype(np.float32),
    "by columns": a <= np.asfortranarray(np.where(np.eye(4, 6) > 0, np.inf, 0.25)),
    "reversed": (a <= np.tile(UPPER, 2)[::-2]),
    "two rules of one array": [a <= UPPER, c <= UPPER[::-1]],
    "between": families.between(-UPPER, b, UPPER),
    "expressions": 2 * a.sum(dim=1) - c[:, 0] <= 0.25,
    "mixed": [*families.simplex(a, dim=1), a[0] == b],
    "linear": families.linear([a, b], np.random.default_rng(0).normal(size=(3, 30)), [1, np.inf, 2], sense="<="),
    "monotone": families.monotone(c, dim=0, gap=0.1),
    "ball": families.l2_ball(a - 1, 2, dim=1),
    "diamonds": families.l1_ball(c, np.arange(1.0, 7), dim=0).named("diamonds"),
    "one ball": families.l2_ball(b, np.float32(0.5)),
    "ball of stack": families.l2_ball(affinet.stack([a, c]), np.ones((2, 1)), dim=2),
    "nothing": families.l1_ball(a[:0], 1, dim=1),
}


def layout(values: np.ndarray) -> tuple[Any, ...]:
    """The bits, and the order in which they lie in memory, on which the rounding of sums depends."""
    long = values.squeeze()
    order = tuple(np.argsort([-abs(step) for step in long.strides], kind="stable"))
    return values.dtype, values.shape, values.tobytes(), order, tuple(np.sign(long.strides))


def same_bits(first: Values, second: Values) -> bool:
    return layout(np.asarray(first)) == layout(np.asarray(second))


def assert_same(rule: Rule, other: Rule) -> None:
    assert (other.name, other.text, other.sense, other.norm) == (rule.name, rule.text, rule.sense, rule.norm)
    assert (other.shape, other.constants) == (rule.shape, rule.constants)
    assert same_bits(other.expression.constant, rule.expression.constant)
    assert same_bits(other.radius, rule.radius)
    assert (other.size is None) == (rule.size is None)
    assert rule.size is None or same_bits(other.size, rule.size)  # type: ignore[arg-type]
    if isinstance(rule.origin, WrittenEquation):
        assert isinstance(other.origin, WrittenEquation)
        assert other.origin.subject == rule.origin.subject
    else:
        assert other.origin == rule.origin


def round_trip(system: System, folder: Path) -> System:
    write_system(system, folder / "plan.safetensors")
    return read_system(folder / "plan.safetensors")


@pytest.mark.parametrize("name", RULES)
def test_inequalities_come_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    system = System.of(RULES[name])
    again = round_trip(system, tmp_path)
    assert (again.equations, again.inequalities) == (system.equations, system.inequalities)
    for rule, other in zip(system.rules, again.rules, strict=True):
        assert_same(rule, other)
    write_system(again, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "plan.safetensors").read_bytes()


@given(seed=st.integers(0, 2**32 - 1))
def test_violations_come_back_bit_for_bit(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    system = System.of([RULES[name] for name in ("array", "float32", "by columns", "expressions", "diamonds", "ball")])
    random = np.random.default_rng(seed)
    weights = {name: random.standard_normal(shape) for name, shape in SHAPES.items()}
    again = round_trip(system, tmp_path_factory.mktemp("plans"))
    for rule, other in zip(system.rules, again.rules, strict=True):
        gaps = [violations(evaluate(r.expression, weights), r.sense, r.norm, r.radius) for r in (rule, other)]
        np.testing.assert_array_equal(*gaps)


def test_frozen_weights_in_bounds_come_back(tmp_path: Path) -> None:
    values = {"c": np.random.default_rng(0).standard_normal((4, 6))}
    system = System.of([a - c <= UPPER, (a + c <= UPPER).named("sum"), families.l2_ball(a - c, 1)])
    frozen = system.with_constants(values, 2.0**-52)
    sizes = np.asarray(frozen.rules[1].size)
    np.testing.assert_array_equal(sizes, np.abs(values["c"]) + np.where(np.isinf(UPPER), 0.0, UPPER))
    for rule, other in zip(frozen.rules, round_trip(frozen, tmp_path).rules, strict=True):
        assert_same(rule, other)
        assert rule.constants == ("c",)


def test_a_plan_is_of_the_fourth_format_only_where_it_has_inequalities(tmp_path: Path) -> None:
    path = tmp_path / "plan.safetensors"
    for rule, version in ((a == 0, 1), (a <= 0, 4), (families.l1_ball(b, 1), 4), ([a == 0, b >= 0], 4)):
        write_system(System.of(rule), path)
        assert format_of(path) == version


def test_origins_come_back(tmp_path: Path) -> None:
    named = affinet.weights({"monotone(x": (3,)})["monotone(x"]
    rules = [RULES["monotone"], RULES["ball"], RULES["linear"], a[0] <= 1, named <= named[0], named == 0]
    again = round_trip(System.of(rules), tmp_path)
    origins = [rule.origin for rule in again.rules]
    assert origins[:3] == [Family("monotone"), Family("l2_ball"), Linear(("a", "b"), sparse=False)]
    assert all(isinstance(origin, WrittenEquation) for origin in origins[3:])
    assert origins[3].subject == "a[0]"  # type: ignore[union-attr]


Change = Callable[[Any, list[np.ndarray]], object]


def rule(**values: Any) -> Change:
    return lambda said, rows: said["rules"][0].update(values)


def without(key: str) -> Change:
    return lambda said, rows: said["rules"][0].pop(key)


def constant(value: Any) -> Change:
    return lambda said, rows: said["rules"][0]["expression"].update(constant=value)


def entry(value: float) -> Change:
    return lambda said, rows: rows[0].__setitem__(0, value)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("number", rule(sense="=="), 'sense of rule 0 is \'==\', not "<=" or ">="'),
        ("number", rule(sense=["<="]), "sense of rule 0 is a list of 1"),
        ("number", rule(sense=None), "sense of rule 0 is None"),
        ("no bound", without("sense"), "constant of rule 0 is 'unbounded', not a number"),
        ("number", constant("none"), "constant of rule 0 is 'none', not a number"),
        ("ball", constant("unbounded"), "constant of rule 0 is 'unbounded', not a number"),
        ("array", without("sense"), "constant of rule 0 has infinite numbers where a rule has none"),
        ("array", rule(sense=">="), "constant of rule 0 has infinite numbers where a rule has none"),
        ("array", entry(np.inf), "constant of rule 0 has infinite numbers where a rule has none"),
        ("array", entry(np.nan), r"array 0 has numbers that are NaN or beyond 1e\+140"),
        ("array", entry(1e200), r"array 0 has numbers that are NaN or beyond 1e\+140"),
        ("ball", without("sense"), "rule 0 is not a ball"),
        ("ball", rule(sense=">="), "rule 0 is not a ball"),
        ("ball", without("radius"), "rule 0 is not a ball"),
        ("ball", without("norm"), "rule 0 is not a ball"),
        ("ball", rule(norm=2.0), "rule 0 is not a ball"),
        ("ball", rule(norm=3), "norm of rule 0 is 3, not between 1 and 2"),
        ("ball", rule(radius=0), "radius of rule 0 is not positive"),
        ("ball", rule(radius="unbounded"), "radius of rule 0 is 'unbounded', not a number"),
        ("diamonds", entry(-1.0), "radius of rule 0 is not positive"),
        ("diamonds", entry(np.inf), "radius of rule 0 has infinite numbers where a rule has none"),
        ("diamonds", rule(norm=True), "rule 0 is not a ball"),
        ("array", rule(size={"view": 0}), "size of rule 0 has infinite numbers where a rule has none"),
    ],
)
def test_a_field_that_no_plan_has_is_refused(name: str, change: Change, message: str, tmp_path: Path) -> None:
    description, rows = contents(System.of(RULES[name]))
    system_of(description, rows)
    change(description, rows)
    with pytest.raises(PlanFileError, match=message):
        read_system(write_plan(tmp_path / "plan.safetensors", description, rows, version=4))


@settings(max_examples=300)
@given(data=st.data())
def test_tampered_inequalities_are_refused_or_read(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = data.draw(st.sampled_from(sorted(RULES)))
    description, rows = data.draw(tampered(System.of(RULES[name])))
    path = write_plan(tmp_path_factory.mktemp("plans") / "plan.safetensors", description, rows, version=4)
    with contextlib.suppress(PlanFileError):
        for read in read_system(path).rules:
            assert read.sense in ("==", "<=", ">=")
            assert not np.isnan(read.expression.constant).any()
            harmless = {"==": np.nan, "<=": -np.inf, ">=": np.inf}[read.sense]
            infinite = np.isinf(read.expression.constant)
            assert np.all(np.asarray(read.expression.constant)[infinite] == harmless)
            assert read.norm is None or (np.all(np.asarray(read.radius) > 0) or 0 in read.shape)
