"""Find inequalities that compare all pairs of two arrays of weights, because of how their shapes broadcast."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from affinet.analysis.lookup.entry_names import cut
from affinet.system.system import Rule, System


@dataclass(frozen=True)
class AllPairs:
    """An inequality between weights whose sides are both repeated: `shapes` are those of its terms, of one rank."""

    rule: str
    shapes: tuple[tuple[int, ...], ...]
    rows: int

    def __str__(self) -> str:
        shapes = " and ".join(map(str, self.shapes))
        return (
            f'the rule "{cut(self.rule)}" compares all pairs: weights of the shapes {shapes} make {self.rows:,} '
            f"inequalities. If they are to be compared entry by entry, give both sides one shape."
        )


def all_pairs(system: System) -> Iterator[AllPairs]:
    """The inequalities each term of which is repeated along an axis that another one moves along."""
    for number in system.inequality_rules:
        rule = system.rules[number]
        shapes = tuple(dict.fromkeys(_shapes(rule)))
        if rule.norm is None and len(shapes) > 1 and rule.expression.shape not in shapes:
            yield AllPairs(rule.name, shapes, rule.equations)


def _shapes(rule: Rule) -> Iterator[tuple[int, ...]]:
    """The shape of each term, of size one along the axes that it is repeated along."""
    for term in rule.expression.terms:
        yield tuple(1 if start is None else n for n, start in zip(rule.expression.shape, term.start, strict=True))
