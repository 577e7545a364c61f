"""Plan new rules by keeping the blocks of those that are as they were: only weights whose rules changed are planned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from affinet.blocks.kinds import AnyBlock
from affinet.language.constraint import Constraint
from affinet.planning.compilation import compile_blocks
from affinet.planning.contradiction import Contradiction
from affinet.planning.refit.blocks import unchanged
from affinet.planning.refit.record import Record, recorded, same
from affinet.plans.plan import Plan, compiled, with_warnings
from affinet.system.system import Rule, System
from affinet.system.tolerance import DOUBLE_EPSILON


def updated(plan: Plan, rules: Iterable[Constraint] | Constraint) -> Plan:
    """The plan of `rules`, with the very blocks of `plan` where the rules about a set of weights are the same.

    Law: it holds what `affinet.plan(rules, tolerance=…)` holds, with the tolerance of `plan` where that was given, and
    is planned with the limits of `plan`.
    Weights that rules connect, directly or through others, are planned together: where all of their rules say what they
    said, whatever these are called and wherever they stand in the list, their blocks are the old objects, so that
    kernels made for these serve on; blocks whose rules have other numbers now are copies that share all arrays. A rule
    is the same where it is the same object or is equal in every number. Rules that were changed before and now differ
    from then in their right-hand sides alone take what coefficients decided from the record of that planning. Raises
    and warns as `affinet.plan` does.
    """
    system = _system(plan, rules)
    return with_warnings(_kept(plan, system) or compiled(system))


def _system(plan: Plan, rules: Iterable[Constraint] | Constraint) -> System:
    found = System.of(rules, limits=plan.system.limits)
    said, given = (rule.expression.epsilon for rule in plan.system.rules), plan.system.tolerance.epsilon
    if given == max([DOUBLE_EPSILON, *said]):
        return found
    return replace(found, tolerance=replace(found.tolerance, epsilon=given))


def _kept(plan: Plan, system: System) -> Plan | None:
    """The plan made of old blocks and of those of the changed rules; None where all has to be planned anew."""
    if system.tolerance != plan.system.tolerance:
        return None
    earlier = _same_rules(plan.system, system)
    system = replace(system, rules=tuple(_as_before(plan.system, system, earlier)))
    blocks: list[AnyBlock] = []
    changed: list[int] = []
    old_groups = {frozenset(rules) for rules in _groups(plan.system).values()}
    for rules in _groups(system).values():
        before = frozenset(earlier[rule] for rule in rules if rule in earlier)
        if len(before) == len(rules) and before in old_groups:
            numbers = {earlier[rule]: rule for rule in rules}
            blocks += [renumbered(block, numbers) for block in plan.blocks if set(block.rules) <= before]
        else:
            changed += rules
    changed.sort()
    try:
        with np.errstate(over="raise", divide="raise", invalid="raise"), recorded(plan.record or Record()) as record:
            fresh = compile_blocks(system.only(changed)) if changed else ()
    except (Contradiction, FloatingPointError):
        return None  # planning all of them says which
    numbered = (renumbered(block, dict(enumerate(changed))) for block in fresh)
    return Plan(system, (*blocks, *unchanged(numbered, plan.blocks)), record if changed else plan.record)


def _as_before(old: System, new: System, earlier: Mapping[int, int]) -> Iterator[Rule]:
    """The new rules; those given again under their names are the old objects, so that they are not read again."""
    for number, rule in enumerate(new.rules):
        known = old.rules[earlier[number]] if number in earlier else rule
        again = known.expression is rule.expression and (known.name, known.origin) == (rule.name, rule.origin)
        yield known if again else rule


def renumbered(block: AnyBlock, numbers: Mapping[int, int]) -> AnyBlock:
    """The block with its rules called by other numbers; the same object where these are the numbers that they have."""
    return block if all(numbers[rule] == rule for rule in block.rules) else block.renumbered(numbers)


def _groups(system: System) -> dict[int, list[int]]:
    """Rules by the first of all that speak of the same weights, directly or through others."""
    leader: dict[str, int] = {}
    root = list(range(len(system.rules)))

    def find(rule: int) -> int:
        while root[rule] != rule:
            rule = root[rule]
        return rule

    for number, rule in enumerate(system.rules):
        for term in rule.expression.terms:
            first, own = sorted((find(leader.setdefault(term.parameter.name, number)), find(number)))
            root[own] = first
    groups: dict[int, list[int]] = {}
    for number in range(len(system.rules)):
        groups.setdefault(find(number), []).append(number)
    return groups


def _same_rules(old: System, new: System) -> dict[int, int]:
    """Number of a new rule → number of an old one that says the same, each old one once."""
    by_object = {id(rule.expression): number for number, rule in enumerate(old.rules)}
    found, taken = dict[int, int](), set[int]()
    for number, rule in enumerate(new.rules):
        before = by_object.get(id(rule.expression))
        if before is None and number < len(old.rules) and _says_the_same(rule, old.rules[number]):
            before = number
        if before is not None and before not in taken:
            found[number] = before
            taken.add(before)
    return found


def _says_the_same(one: Rule, other: Rule) -> bool:
    first, second = one.expression.affine, other.expression.affine
    parts = ("shape", "terms", "constant", "epsilon")
    return one.size is other.size and all(same(getattr(first, part), getattr(second, part)) for part in parts)


__all__ = ["renumbered", "updated"]
