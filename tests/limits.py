"""Plans that take the road a test is about: made with other limits, and by nothing but what the library offers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import affinet
from affinet.blocks.kinds import AnyBlock
from affinet.planning.compilation import compile_blocks
from affinet.plans.plan import Plan, compiled, with_warnings
from affinet.system.limits import Limits
from affinet.system.system import System


def planned(rules: Iterable[affinet.Constraint] | affinet.Constraint, **limits: int) -> Plan:
    """As `affinet.plan`, within these limits."""
    return with_warnings(compiled(System.of(rules, limits=Limits(**limits))))


def plan_within(system: System, **limits: int) -> Plan:
    """The plan of a system within these limits."""
    limited = replace(system, limits=Limits(**limits))
    return Plan(limited, compile_blocks(limited))


def blocks_within(system: System, **limits: int) -> tuple[AnyBlock, ...]:
    """The blocks of a system within these limits."""
    return plan_within(system, **limits).blocks


def limit_every_plan(patch: Any, **limits: int) -> None:
    """Let all that is planned go by these limits: for tests of commands, which take rules from files alone."""
    patch.setattr("affinet.system.system.Limits", lambda: Limits(**limits))


def measured_within(plan: Plan, **limits: int) -> Plan:
    """The plan with its blocks, which measures rules within these limits."""
    return Plan(replace(plan.system, limits=Limits(**limits)), plan.blocks)
