"""The digest of each rule is that of its content alone, so that it finds the rule in which two systems differ."""

from __future__ import annotations

import affinet
from affinet.system.stored.digest import digests_by_rule
from affinet.system.system import System


def system(total: float, weight: str = "a", power: float = 1.0) -> System:
    w = affinet.weights({"a": (4, 6), "b": (4, 6), "c": (3,)})
    return System.of(
        [(w[weight].sum() == total).named("total"), (w["c"].exp().sum() == power).named("powers"), w["c"] >= 0]
    )


def test_digests_differ_for_the_rules_that_differ() -> None:
    first = digests_by_rule(system(1.0))
    assert [*first] == [rule.name for rule in system(1.0).every]
    for other, name in ((system(2.0), "total"), (system(1.0, weight="b"), "total"), (system(1.0, power=2.0), "powers")):
        second = digests_by_rule(other)
        assert [rule for rule in first if first[rule] != second[rule]] == [name]
    assert first == digests_by_rule(system(1.0))
