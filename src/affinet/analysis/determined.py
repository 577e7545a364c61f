"""Find weights whose every entry is determined though no rule fixes them, and count the free numbers of each weight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from affinet.blocks.block import Block
from affinet.blocks.interval import Interval
from affinet.language.calculus.terms import Parameter
from affinet.language.nodes import weights_of
from affinet.system.system import Rule, System


def determined(system: System, blocks: Iterable[Block]) -> Iterator[tuple[str, int, tuple[Rule, ...]]]:
    """Name and size of every parameter whose entries can take one value only, and the rules that determine it.

    Parameters fixed outright by a rule such as `bias == 0` are not reported. A parameter is reported only where the
    rank of its blocks is known. Time grows with the number of blocks, and with the size of small components.
    """
    counts: Counter[str] = Counter()
    rules: dict[str, set[int]] = {}
    for block in blocks:
        for parameter, count in block.fixed().items():
            counts[parameter.name] += count
            rules.setdefault(parameter.name, set()).update(block.rules)
    for parameter in system.layout.parameters:
        if parameter.size and counts[parameter.name] == parameter.size:
            touching = [k for k in sorted(rules[parameter.name]) if _reads_parameter(system.rule(k), parameter.name)]
            if not any(_fixes_entries(system.rule(k), parameter.size) for k in touching):
                yield parameter.name, parameter.size, tuple(system.rule(k) for k in touching)


def free_numbers(system: System, blocks: Iterable[Block]) -> dict[Parameter, Interval]:
    """Bounds on how many numbers of each parameter can be chosen freely while the other parameters follow.

    That is the dimension of the parameter's part of the tangent space: its entries less the independent combinations of
    equations that read this parameter only. Exact where a block reads one parameter, and for pairs, ties and components
    each of which reads one parameter. Otherwise the bounds assume that all equations of the block read only this
    parameter, or none.
    """
    free = {parameter: Interval(parameter.size, parameter.size) for parameter in system.layout.parameters}
    for block in blocks:
        for parameter, taken_count in block.taken().items():
            free[parameter] = Interval(free[parameter].low - taken_count.high, free[parameter].high - taken_count.low)
    return free


def _reads_parameter(rule: Rule, name: str) -> bool:
    return any(parameter.name == name for parameter in weights_of([rule.expression.affine]))


def _fixes_entries(rule: Rule, entries: int) -> bool:
    """Whether each equation of the rule reads a single entry, and there are at least as many equations as entries."""
    return rule.sense == "==" and rule.pairs == rule.equations and rule.equations >= entries
