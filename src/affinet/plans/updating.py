"""Plan new rules by reusing the blocks of unchanged rules: only weights whose rules changed are planned."""

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
    """The plan of `rules`, with the same block objects as `plan` where the rules about a set of weights are the same.

    Law: it equals `affinet.plan(rules, tolerance=…)`, with the tolerance of `plan` if that was given, and is planned
    with the limits of `plan`.
    Weights that rules connect, directly or through others, are planned together. If all of their rules are unchanged,
    whatever their names and order, their blocks are the old objects, so that kernels made for these can be reused;
    blocks whose rules have new numbers are copies that share all arrays. A rule is unchanged if it is the same object
    or equal in every number. Rules that were updated before and differ from that update only in their right-hand sides
    reuse the record of that planning. Raises and warns as `affinet.plan` does.
    """
    system = _new_system(plan, rules)
    return with_warnings(_reuse_blocks(plan, system) or compiled(system))


def _new_system(plan: Plan, rules: Iterable[Constraint] | Constraint) -> System:
    system = System.of(rules, limits=plan.system.limits)
    epsilons, epsilon = (rule.expression.epsilon for rule in plan.system.every), plan.system.tolerance.epsilon
    if epsilon == max([DOUBLE_EPSILON, *epsilons]):
        return system
    return replace(system, tolerance=replace(system.tolerance, epsilon=epsilon))


def _reuse_blocks(plan: Plan, system: System) -> Plan | None:
    """The plan made of old blocks and new blocks of the changed rules; None where all rules have to be planned anew."""
    if system.tolerance != plan.system.tolerance or system.curved or plan.system.curved:
        return None
    earlier = _match_rules(plan.system, system)
    system = replace(system, rules=tuple(_reuse_rules(plan.system, system, earlier)))
    blocks: list[AnyBlock] = []
    changed: list[int] = []
    old_groups = {frozenset(rules) for rules in _group_by_weights(plan.system).values()}
    for rules in _group_by_weights(system).values():
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
        return None  # planning all rules names the contradictory ones
    numbered = (renumbered(block, dict(enumerate(changed))) for block in fresh)
    return Plan(system, (*blocks, *unchanged(numbered, plan.blocks)), record if changed else plan.record)


def _reuse_rules(old: System, new: System, earlier: Mapping[int, int]) -> Iterator[Rule]:
    """The new rules; those repeated under their old names are the old objects, so that they are not read again."""
    for number, rule in enumerate(new.rules):
        known = old.rules[earlier[number]] if number in earlier else rule
        shown = (known.name, known.origin) == (rule.name, rule.origin)
        yield known if shown and known.expression is rule.expression and _compare_alike(rule, known) else rule


def renumbered(block: AnyBlock, numbers: Mapping[int, int]) -> AnyBlock:
    """The block with its rules renumbered; the same object if no number changes."""
    return block if all(numbers[rule] == rule for rule in block.rules) else block.renumbered(numbers)


def _group_by_weights(system: System) -> dict[int, list[int]]:
    """Groups of rules that share weights, directly or through others, by the first rule of each."""
    leader: dict[str, int] = {}
    root = list(range(len(system.rules)))

    def find(rule: int) -> int:
        while root[rule] != rule:
            rule = root[rule]
        return rule

    for number, rule in enumerate(system.rules):
        for term in rule.expression.terms:
            first, second = sorted((find(leader.setdefault(term.parameter.name, number)), find(number)))
            root[second] = first
    groups: dict[int, list[int]] = {}
    for number in range(len(system.rules)):
        groups.setdefault(find(number), []).append(number)
    return groups


def _match_rules(old: System, new: System) -> dict[int, int]:
    """Number of a new rule → number of an equal old rule; each old rule appears at most once."""
    by_object = {id(rule.expression): number for number, rule in enumerate(old.rules)}
    earlier, matched = dict[int, int](), set[int]()
    for number, rule in enumerate(new.rules):
        before = by_object.get(id(rule.expression))
        if before is not None and not _compare_alike(rule, old.rules[before]):
            before = None
        if before is None and number < len(old.rules) and _are_equal(rule, old.rules[number]):
            before = number
        if before is not None and before not in matched:
            earlier[number] = before
            matched.add(before)
    return earlier


def _are_equal(rule: Rule, other: Rule) -> bool:
    first, second = rule.expression.affine, other.expression.affine
    parts = ("shape", "terms", "constant", "epsilon")
    if rule.size is not other.size or not _compare_alike(rule, other):
        return False
    return all(same(getattr(first, part), getattr(second, part)) for part in parts)


def _compare_alike(rule: Rule, other: Rule) -> bool:
    """Whether two rules with equal expressions state the same about them: that they are 0, at most 0, or in a ball."""
    return (rule.sense, rule.norm) == (other.sense, other.norm) and same(rule.radius, other.radius)


__all__ = ["renumbered", "updated"]
