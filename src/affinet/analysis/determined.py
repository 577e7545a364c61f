"""Weights that rules leave nothing of to train: every entry determined, though no rule fixes the weight outright."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np

from affinet.blocks.bordered import Bordered
from affinet.blocks.dense import Dense
from affinet.blocks.interval import Interval
from affinet.blocks.joined import Joined
from affinet.blocks.kinds import Block
from affinet.blocks.pairs import Pairs
from affinet.blocks.places import Part
from affinet.blocks.ties import Ties
from affinet.language.calculus.terms import Integers, Parameter
from affinet.planning.factors import lapack
from affinet.system.distinct import distinct
from affinet.system.system import Rule, System

MOST_NUMBERS = 2**20
"""Numbers of components of several weights that are factored to tell how many of each weight are free."""


def determined(system: System, blocks: Iterable[Block]) -> Iterator[tuple[str, int, tuple[Rule, ...]]]:
    """Name and size of every parameter whose entries can take one value only, and the rules that say so.

    Less those that a rule of single entries covers wholly, such as `bias == 0`: that was meant. A parameter counts
    where the rank of its blocks is known; time follows the number of blocks, and for small components their size.
    """
    counts: Counter[str] = Counter()
    rules: dict[str, set[int]] = {}
    for block in blocks:
        for name, count in _counts(block):
            counts[name] += count
            rules.setdefault(name, set()).update(block.rules)
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
    by_name = {parameter.name: parameter for parameter in found}
    for block in blocks:
        for name, taken in _taken(block).items():
            parameter = by_name[name]
            found[parameter] = Interval(found[parameter].low - taken.high, found[parameter].high - taken.low)
    return found


def _taken(block: Block) -> dict[str, Interval]:
    """How many numbers of each parameter a block takes away, whatever the other parameters are."""
    sizes: Counter[str] = Counter()
    for name, count in _entries(block):
        sizes[name] += count
    rank = block.rank if isinstance(block.rank, Interval) else Interval(block.rank, block.rank)
    if len(sizes) == 1:
        return {next(iter(sizes)): rank}
    match block:
        case Pairs():
            return {name: Interval(0, 0) for name in sizes}
        case Ties():
            return {name: Interval(taken, taken) for name, taken in _tied(block.parts, block.classes.class_of).items()}
        case Dense():
            return _in_components(block)
        case Joined():
            return _side_by_side(block)
        case Bordered() if block.extra:
            least: Counter[str] = Counter()
            most: Counter[str] = Counter()
            for base in block.bases:
                for name, taken in _taken(base).items():
                    least[name] += taken.low
                    most[name] += taken.high
            more = block.factor.shape[1]
            return {name: Interval(min(least[name], n), min(most[name] + more, n)) for name, n in sizes.items()}
        case _:
            return {name: Interval(0, min(rank.high, count)) for name, count in sizes.items()}


def _tied(parts: Iterable[Part], class_of: Integers) -> dict[str, int]:
    """Entries of each parameter less the classes that it has entries in."""
    found, first = Counter[str](), 0
    for part in parts:
        found[part.parameter.name] += part.size - len(distinct(class_of[first : first + part.size]))
        first += part.size
    return dict(found)


def _in_components(block: Dense) -> dict[str, Interval]:
    """Components of one parameter take their rank; of several, the rank less that over the classes of the others."""
    tied = _tied(block.parts, block.classes.class_of)
    numbers = np.repeat(np.arange(len(block.parts)), [part.size for part in block.parts])
    found = {}
    for number, part in enumerate(block.parts):
        own = np.zeros(block.classes.count, bool)
        own[block.classes.class_of[numbers == number]] = True
        inside = own[block.members]
        some = inside.any(axis=1)
        most = int(block.ranks[some].sum())
        if int(some.sum()) * block.basis[0].size > MOST_NUMBERS:
            found[part.parameter.name] = Interval(tied[part.parameter.name], tied[part.parameter.name] + most)
            continue
        others = np.where(inside[some][:, None, :], 0.0, block.basis[some])
        sizes = lapack.singular_values(others)
        taken = most - int((sizes > 1e-9).sum())
        found[part.parameter.name] = Interval(*(tied[part.parameter.name] + taken,) * 2)
    return found


def _side_by_side(block: Joined) -> dict[str, Interval]:
    """The rank less that of the equations over the columns of the other members.

    Of r equations about every cell and s about every column it is `cells · r + columns · s − r · s`.
    """
    own = np.repeat([view.parameter.name for view in block.members], np.diff(block.columns))
    within, across = block.within.basis, len(block.across.basis) if block.across is not None else 0
    found = {}
    for name in dict.fromkeys(own.tolist()):
        alone = len(within) - int((lapack.singular_values(within[:, own != name]) > 1e-9).sum())
        taken = (block.cells - across) * alone + across * int((own == name).sum())
        found[name] = Interval(taken, taken)
    return found


def _counts(block: Block) -> list[tuple[str, int]]:
    """How many entries of each parameter the block determines."""
    if not isinstance(block, Dense):
        return _entries(block) if block.rank == block.size else []
    full = block.ranks == block.members.shape[1]
    known = np.zeros(block.classes.count, bool)
    known[block.members[full].ravel()] = True
    return _inside(block.parts, known[block.classes.class_of]) if full.any() else []


def _entries(block: Block) -> list[tuple[str, int]]:
    """How many entries of each parameter the equations of the block are about."""
    if isinstance(block, Bordered):
        loose = [(part.parameter.name, part.size) for part in block.loose]
        return [*(pair for base in block.bases for pair in _entries(base)), *loose]
    sizes = block.entries.sizes
    if len(sizes) == 1:
        return [(sizes[0][0].name, block.size)]
    return [(parameter.name, size) for parameter, size in sizes]


def _inside(parts: Iterable[Part], known: np.ndarray) -> list[tuple[str, int]]:
    found, first = [], 0
    for part in parts:
        found.append((part.parameter.name, int(known[first : first + part.size].sum())))
        first += part.size
    return found


def _touches(rule: Rule, name: str) -> bool:
    return any(term.parameter.name == name for term in rule.expression.terms)


def _fixes(rule: Rule, entries: int) -> bool:
    """Whether the equations of the rule are about a single entry each, and there are no fewer than entries."""
    return rule.pairs == rule.equations and rule.equations >= entries
