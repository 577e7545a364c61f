"""Tell which rules that bound lengths are nonlinear inequalities, because their weights are in other rules, too."""

from __future__ import annotations

from collections.abc import Iterator

from affinet.language.calculus.terms import Integers, Parameter
from affinet.language.nodes import weights_of
from affinet.planning.curved.equal_components import read_columns
from affinet.planning.curved.lowering import lower
from affinet.planning.inequalities.norm_balls import entries_of, others_about, read_by
from affinet.system.rows import concatenate
from affinet.system.system import Rule, System


def joined_balls(system: System) -> tuple[int, ...]:
    """The rules that bound Euclidean lengths of weights that other rules read, or of any other affine expression.

    They are nonlinear inequalities then, of sums of squares.
    """
    joined = []
    for number, rule in enumerate(system.rules):
        if rule.norm != 2 or not rule.equations:
            continue
        entries = entries_of(rule)
        if entries is None or read_by(system, number, entries, _rules_about(system, number)) is not None:
            joined.append(number)
    return tuple(joined)


def _rules_about(system: System, number: int) -> Iterator[tuple[Rule, Integers]]:
    yield from others_about(system, number)
    yield from _nonlinear_about(system, system.rules[number].expression.terms[0].parameter)


def _nonlinear_about(system: System, parameter: Parameter) -> Iterator[tuple[Rule, Integers]]:
    """The nonlinear rules about a weight, and the columns that they read."""
    for number in system.curved_rules:
        rule = system.rule(number)
        if parameter in weights_of([rule.expression.affine]):
            lowered = lower(system, [number], concatenate([]), lambda rows: rows)
            yield rule, read_columns(lowered, system.layout.size)
