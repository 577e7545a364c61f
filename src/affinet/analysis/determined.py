"""Weights that rules leave nothing of to train: every entry determined, though no rule fixes the weight outright."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from affinet.blocks.block import Block
from affinet.blocks.interval import Interval
from affinet.language.calculus.terms import Parameter
from affinet.system.system import Rule, System


def determined(system: System, blocks: Iterable[Block]) -> Iterator[tuple[str, int, tuple[Rule, ...]]]:
    """Name and size of every parameter whose entries can take one value only, and the rules that say so.

    Less those that a rule of single entries covers wholly, such as `bias == 0`: that was meant. A parameter counts
    where the rank of its blocks is known; time follows the number of blocks, and for small components their size.
    """
    counts: Counter[str] = Counter()
    rules: dict[str, set[int]] = {}
    for block in blocks:
        for parameter, count in block.fixed().items():
            counts[parameter.name] += count
            rules.setdefault(parameter.name, set()).update(block.rules)
    for parameter in system.layout.parameters:
        if parameter.size and counts[parameter.name] == parameter.size:
            touching = [k for k in sorted(rules[parameter.name]) if _touches(system.rules[k], parameter.name)]
            if not any(_fixes(system.rules[k], parameter.size) for k in touching):
                yield parameter.name, parameter.size, tuple(system.rules[k] for k in touching)


def free_numbers(system: System, blocks: Iterable[Block]) -> dict[Parameter, Interval]:
    """How many numbers of each parameter can be chosen freely, the other parameters following; within bounds.

    That is the dimension of the parameter's part of the tangent space: its entries less the independent combinations of
    equations that speak of it alone. Exact where a block speaks of one parameter, and for pairs, ties and components of
    which each is about one parameter; else between what is left if all equations are its own and if none is.
    """
    found = {parameter: Interval(parameter.size, parameter.size) for parameter in system.layout.parameters}
    for block in blocks:
        for parameter, taken in block.taken().items():
            found[parameter] = Interval(found[parameter].low - taken.high, found[parameter].high - taken.low)
    return found


def _touches(rule: Rule, name: str) -> bool:
    return any(term.parameter.name == name for term in rule.expression.terms)


def _fixes(rule: Rule, entries: int) -> bool:
    """Whether the equations of the rule are about a single entry each, and there are no fewer than entries."""
    return rule.pairs == rule.equations and rule.equations >= entries
