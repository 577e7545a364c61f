"""Rules that say several things one after the other are read section by section."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet import concat, families, stack
from affinet.blocks.commuting import Commuting
from affinet.blocks.slices import Slices
from affinet.blocks.ties import Ties
from affinet.language.evaluation import evaluate
from affinet.planning.reading.sections import sections
from affinet.system.system import System

W = affinet.weights({"a": (40, 50), "b": (40, 50)})


@pytest.mark.parametrize(
    ("rule", "count"),
    [
        (concat([W.a.sum(-1), W.a.sum(-2)], dim=-1) == 1, 2),
        (concat([W.a, 2 * W.b, W.a[:3]], dim=0) == 0, 3),
        (stack([W.a.sum(0), W.b.sum(0)], dim=1) == 0, 2),
        (W.a.sum(1) == 1, 1),
        (W.a - W.b == 0, 1),
        (W.a[1:] == W.a[:-1], 1),
    ],
)
def test_sections_one_after_the_other_are_the_rule(rule: affinet.Constraint, count: int) -> None:
    parts = sections(rule.expression)
    assert len(parts) == count
    values = {name: np.random.default_rng(0).standard_normal((40, 50)) for name in "ab"}
    whole = evaluate(rule.expression, values)
    axis = next((k for k, n in enumerate(whole.shape) if sum(p.shape[k] for p in parts) == n), 0)
    np.testing.assert_array_equal(np.concatenate([evaluate(part, values) for part in parts], axis=axis), whole)


def test_row_and_column_sums_in_one_rule_are_one_product() -> None:
    w = affinet.weights({"a": (2048, 2048)})
    plan = affinet.plan(families.doubly_centred(w.a))
    (block,) = plan.blocks
    assert isinstance(block, Commuting)
    assert plan.rank == 4095
    assert block.rules == (0,)


def test_what_has_an_irregular_section_is_read_one_equation_at_a_time() -> None:
    w = affinet.weights({"a": (300, 300)})
    pattern = np.random.default_rng(0).integers(0, 300, 600)
    rule = concat([w.a.sum(-1), w.a.flatten()[pattern] - w.a.flatten()[pattern[::-1]]], dim=-1) == 0
    plan = affinet.plan([rule])
    assert System.of([rule]).equations == 900
    assert not any(isinstance(block, Slices) and block.size == 90_000 for block in plan.blocks)


def test_a_rolled_matrix_is_tied_and_not_read_in_sections() -> None:
    w = affinet.weights({"a": (300, 300)})
    (block,) = affinet.plan(families.circulant(w.a)).blocks
    assert isinstance(block, Ties)
    assert block.classes.count == 300


def test_two_sections_are_read_without_a_number_for_each_entry() -> None:
    w = affinet.weights({"a": (100_000, 100_000)})
    (block,) = affinet.plan(concat([w.a.sum(1), w.a.sum(0)]) == 1).blocks
    assert isinstance(block, Commuting)
    assert block.size == 10**10
