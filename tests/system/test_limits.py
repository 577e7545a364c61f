"""The limits of a plan go wherever it is planned again, and every one of them has a reason."""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import pickle
from dataclasses import fields, replace

import numpy as np
import pytest

import affinet
from affinet.blocks.bordered import Bordered
from affinet.plans.plan import Plan, compiled
from affinet.plans.updating import updated
from affinet.system.limits import Limits
from affinet.system.system import System
from tests.contract.comparing import equal_plans
from tests.limits import planned

W = affinet.weights({"a": (4, 6), "b": (6,), "frozen": (6,)})
RULES = [W.a.sum(dim=1) == 1, W.a[0, 0] == W.a[1, 1], W.a.sum(dim=0) == W.b + W.frozen]
BY_FORM = Limits(one_by_one=0, fixed_from=0, most_split=0)


def by_form() -> Plan:
    return compiled(System.of(RULES, limits=BY_FORM))


def test_limits_choose_the_road() -> None:
    assert any(isinstance(block, Bordered) for block in by_form().blocks)
    assert not any(isinstance(block, Bordered) for block in affinet.plan(RULES).blocks)
    assert equal_plans(planned(RULES), affinet.plan(RULES)) == ""


@pytest.mark.parametrize(
    "again",
    [
        lambda plan: pickle.loads(pickle.dumps(plan)),
        copy.deepcopy,
        lambda plan: updated(plan, RULES),
        lambda plan: compiled(plan.system.only(range(3))),
    ],
    ids=["pickled", "copied", "updated", "planned again"],
)
def test_what_is_planned_again_takes_the_same_roads(again: object) -> None:
    plan = by_form()
    found = again(plan)  # type: ignore[operator]
    assert found.system.limits == BY_FORM
    assert equal_plans(found, plan) == ""


def test_frozen_weights_and_new_rules_keep_the_limits() -> None:
    frozen = by_form().with_constants({"frozen": np.ones(6)}, 1e-16)
    assert frozen.system.limits == BY_FORM
    assert any(isinstance(block, Bordered) for block in frozen.blocks)
    changed = updated(by_form(), [*RULES[:2], W.a.sum(dim=0) == W.b + 2 * W.frozen])
    assert any(isinstance(block, Bordered) for block in changed.blocks)


def test_limits_are_not_what_a_system_says(tmp_path: object) -> None:
    plan = by_form()
    plan.save(f"{tmp_path}/plan.safetensors")
    loaded = Plan.load(f"{tmp_path}/plan.safetensors")
    assert loaded.system.limits == Limits()
    assert equal_plans(compiled(replace(loaded.system, limits=BY_FORM)), plan) == ""


def test_every_limit_has_a_reason() -> None:
    (body,) = (node.body for node in ast.parse(inspect.getsource(Limits)).body if isinstance(node, ast.ClassDef))
    explained = [
        first.target.id
        for first, second in itertools.pairwise(body)
        if isinstance(first, ast.AnnAssign)
        and isinstance(first.target, ast.Name)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
    ]
    assert explained == [field.name for field in fields(Limits)]
