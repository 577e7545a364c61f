"""Plans in files: the same bits after loading, small views stay small, and a file is never half written."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import affinet
from affinet import Plan, PlanFileError, families
from affinet.language.origin import WrittenEquation
from affinet.plans.plan import compiled
from affinet.system.layout import Layout
from affinet.system.stored import planfile
from affinet.system.stored.packing import Arrays, Restored, View
from affinet.system.system import Rule, System
from affinet.system.tolerance import Tolerance
from tests.contract.comparing import equal_plans
from tests.planning.random_rules import Drawn, systems

W = affinet.weights({"a": (6, 8), "b": (8, 6), "c": (5,)})


def round_trip(plan: Plan, folder: Path) -> Plan:
    plan.save(folder / "plan.safetensors")
    return Plan.load(folder / "plan.safetensors")


def assert_same(plan: Plan, other: Plan) -> None:
    assert equal_plans(plan, other) == ""
    assert str(other) == str(plan)
    assert other.system.layout == plan.system.layout
    assert other.system.tolerance == plan.system.tolerance
    said = [[(rule.name, rule.text, str(rule.expression)) for rule in p.system.rules] for p in (plan, other)]
    assert said[0] == said[1]


def test_a_loaded_plan_is_the_plan(tmp_path: Path) -> None:
    rules = [W.a == W.b.T, (W.a.sum(1) == 1).named('rows "sum" to one\n'), W.c[0] == 2 * W.c[1] + 0.5]
    plan = affinet.plan(rules)
    assert_same(plan, round_trip(plan, tmp_path))


@pytest.mark.filterwarnings("ignore::affinet.errors.NothingToTrainWarning")  # random rules may leave nothing
@given(drawn=systems(contradictions=False))
def test_random_plans_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, drawn: Drawn) -> None:
    plan = affinet.plan(drawn.rules)
    assert_same(plan, round_trip(plan, tmp_path_factory.mktemp("plans")))


def test_the_same_plan_is_the_same_bytes(tmp_path: Path) -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 53))
    plan = affinet.plan([families.linear([W.a, W.c], matrix, 1), W.b.cumsum(0)[-1] == np.arange(6.0)])
    plan.save(tmp_path / "one")
    affinet.plan([families.linear([W.a, W.c], matrix, 1), W.b.cumsum(0)[-1] == np.arange(6.0)]).save(tmp_path / "two")
    Plan.load(tmp_path / "one").save(tmp_path / "three")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()


def test_frozen_weights_and_a_tolerance_are_kept(tmp_path: Path) -> None:
    plan = affinet.plan([W.a.sum(1) + W.b.sum(0) == 1], tolerance=1e-7)
    frozen = plan.with_constants({"b": np.random.default_rng(0).normal(size=(8, 6))}, 1e-6)
    loaded = round_trip(frozen, tmp_path)
    assert_same(frozen, loaded)
    assert loaded.system.tolerance.frozen == 1e-6
    assert np.array_equal(loaded.system.rules[0].size, frozen.system.rules[0].size)


def test_a_system_of_some_of_the_rules_keeps_its_layout(tmp_path: Path) -> None:
    plan = compiled(System.of([W.a.sum() == 1, W.c == 0]).only([0]))
    assert_same(plan, round_trip(plan, tmp_path))


@pytest.mark.parametrize(
    "rule",
    [
        lambda w: w.cumsum(0) == 0,
        lambda w: w.tril() == 0,
        lambda w: w.cumsum(1)[:, ::-1].T == 0,
    ],
    ids=["running sums", "a triangle", "running sums, turned"],
)
def test_views_of_few_numbers_stay_small(tmp_path: Path, rule: Any) -> None:
    system = System.of(rule(affinet.weights({"w": (3000, 3000)}).w))
    planfile.write_system(system, tmp_path / "plan")
    assert (tmp_path / "plan").stat().st_size < 100_000
    tracemalloc.start()
    loaded = planfile.read_system(tmp_path / "plan")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
    for term, other in zip(system.rules[0].expression.terms, loaded.rules[0].expression.terms, strict=True):
        for factor, restored in zip(term.factors, other.factors, strict=True):
            assert restored.values.strides == factor.values.strides
            assert np.array_equal(restored.values[::299, ::299], factor.values[::299, ::299])


def test_one_matrix_over_many_weights_is_stored_once(tmp_path: Path) -> None:
    w = affinet.weights({f"w{k:02}": (50,) for k in range(20)})
    plan = affinet.plan(families.linear(list(w), np.random.default_rng(0).normal(size=(30, 1000))))
    plan.save(tmp_path / "plan")
    assert (tmp_path / "plan").stat().st_size < 30 * 1000 * 8 + 20_000


def test_a_small_part_of_a_large_array_takes_only_its_own_place(tmp_path: Path) -> None:
    constant = np.random.default_rng(0).normal(size=(1000, 1000))
    w = affinet.weights({"w": (1000, 1000)}).w
    plan = affinet.plan((w - constant)[500, ::100] == 0)
    plan.save(tmp_path / "plan")
    assert (tmp_path / "plan").stat().st_size < 5_000
    assert_same(plan, Plan.load(tmp_path / "plan"))


def test_saving_replaces_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "plan.safetensors"
    affinet.plan(W.a == 0).save(path)
    before = path.read_bytes()

    def full(*arguments: object, **keys: object) -> None:
        Path(arguments[1]).write_bytes(b"half")  # type: ignore[arg-type]
        raise OSError("no space left on the device")

    monkeypatch.setattr(planfile, "save_file", full)
    with pytest.raises(PlanFileError, match=r"cannot be written: no space left on the device\. Name another place"):
        affinet.plan(W.b == 0).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match=r"no/plan cannot be written: .*Name another place"):
        affinet.plan(W.a == 0).save(tmp_path / "no" / "plan")


def test_a_place_without_a_name() -> None:
    with pytest.raises(PlanFileError, match=r"\. names no file\. Name another place"):
        affinet.plan(W.a == 0).save("")


def test_a_folder_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match="cannot be written: "):
        affinet.plan(W.a == 0).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_few_numbers_far_apart_that_repeat_take_their_own_place_only() -> None:
    apart = np.broadcast_to(np.arange(2_000_001.0)[::1_000_000], (2_000_000, 3))
    arrays = Arrays()
    arrays.put(apart)
    (row,), (view,) = arrays.packed()
    assert row.tolist() == [0.0, 1e6, 2e6]
    assert view == View(0, 0, (2_000_000, 3), (0, 1))


def test_numbers_between_those_of_a_view_may_be_anything() -> None:
    base = np.arange(12.0)
    base[3] = np.nan
    arrays = Arrays()
    views = [base[:3], base[2::-1], base[0:12:2][::-1], base[1:11].reshape(2, 5)[:, 3:].T]
    for view in views:
        arrays.put(view)
    rows, said = arrays.packed()
    restored = Restored.of(rows, [view.table() for view in said])
    for view, other in zip(views, restored.arrays, strict=True):
        assert np.array_equal(view, other)
        assert [step > 0 for step in view.strides] == [step > 0 for step in other.strides]


def test_numbers_that_no_file_holds(tmp_path: Path) -> None:
    rule = Rule(
        "a rule", "a * 1e200 == 0", (W.a * 1e200 == 0).expression, WrittenEquation()
    )  # no plan of rules as said has such numbers
    plan = Plan(System((rule,), Layout.of(term.parameter for term in rule.expression.terms), Tolerance(2.0**-52)), ())
    with pytest.raises(
        PlanFileError, match='was not written: scalar of term 0 of rule "a rule" is 1e\\+200, not between'
    ):
        plan.save(tmp_path / "plan")
    assert not list(tmp_path.iterdir())


def test_more_rules_than_a_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planfile, "LONGEST", 2**20)
    w = affinet.weights({"w": (10_000,)}).w
    plan = affinet.plan([w[k] == w[k + 1] for k in range(9_999)])
    with pytest.raises(PlanFileError, match=r"9,999 rules take \d MB to describe. A plan holds 1 MB: write many rules"):
        plan.save(tmp_path / "plan")


@given(st.text(min_size=1).filter(str.strip))
def test_any_name_comes_back(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    plan = affinet.plan((W.a == 0).named(name))
    assert round_trip(plan, tmp_path_factory.mktemp("plans")).system.rules[0].name == name


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_a_plan_has_the_mode_of_a_file_newly_made(tmp_path: Path) -> None:
    (tmp_path / "newly made").touch()
    affinet.plan(affinet.weights({"a": (4,)}).a.sum() == 6).save(tmp_path / "plan")
    assert (tmp_path / "plan").stat().st_mode == (tmp_path / "newly made").stat().st_mode
