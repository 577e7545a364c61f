"""Rules written in a loop become one batch; what does not repeat, or would share entries, stays as it is."""

from __future__ import annotations

import numpy as np

import affinet
from affinet import families
from affinet.blocks.offsets import Nest, Table
from affinet.blocks.regular import RowBatch
from affinet.planning.reading.lifting import MOST_REPEATS, lift
from affinet.system.rows import Rows
from affinet.system.system import System

W = affinet.weights({"a": (6, 5), "b": (4,), "c": (6, 5)})


def lifted(*rules: object) -> tuple[list[RowBatch], Rows, System]:
    system = System.of(rules)
    batches, rest = lift(system.rows(range(len(system.rules))), system.layout)
    return batches, rest, system


def dense(batches: list[RowBatch], rest: Rows, system: System) -> np.ndarray:
    """All equations with their right-hand sides and rules, sorted."""
    parts = [batch.rows(system.layout) for batch in batches] + [rest]
    width = system.layout.size
    rows = [np.column_stack([p.matrix(width).toarray(), p.rhs, p.rule]) for p in parts if p.count]
    whole = np.concatenate(rows)
    return whole[np.lexsort(whole.T)]


def test_row_sums_written_in_a_loop_are_one_batch() -> None:
    (batch,), rest, _ = lifted([W.a[i].sum() == i for i in range(6)])
    assert rest.count == 0
    assert (batch.outer, batch.inner) == (Nest(((6, 5),)), Nest(((5, 1),)))
    assert batch.rhs.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.rules == (0, 1, 2, 3, 4, 5)


def test_the_order_of_the_rules_does_not_matter() -> None:
    order = [3, 0, 5, 1, 4, 2]
    (batch,), rest, _ = lifted([W.a[i].sum() == i for i in order])
    assert rest.count == 0
    assert batch.outer == Nest(((6, 5),))
    assert batch.rhs.ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.owner.ravel().tolist() == [1, 3, 5, 0, 4, 2]


def test_irregular_places_become_a_table() -> None:
    (batch,), rest, _ = lifted([W.a[i].sum() == 1 for i in (0, 1, 4)])
    assert rest.count == 0
    assert batch.outer == Table(np.array([0, 5, 20]))


def test_a_rule_said_twice_goes_to_two_batches() -> None:
    rules = [W.a[i].sum() == 1 for i in range(6)]
    batches, rest, system = lifted(rules, rules)
    assert [batch.cells for batch in batches] == [6, 6]
    assert rest.count == 0
    assert {rule for batch in batches for rule in batch.rules} == set(range(12))
    np.testing.assert_array_equal(dense(batches, rest, system), dense([], system.rows(range(12)), system))


def test_a_rule_said_very_often_is_left_alone() -> None:
    often = [W.a[i].sum() == 1 for i in range(6) for _ in range(MOST_REPEATS + 1)]
    batches, rest, _ = lifted(often)
    assert batches == []
    assert rest.count == 6 * (MOST_REPEATS + 1)


def test_patterns_of_their_own_are_batches_of_their_own() -> None:
    batches, rest, system = lifted(W.a[:3].sum(dim=1) == 1, (2 * W.a[3:]).sum(dim=1) == 1, W.c[:, 1:4].sum(dim=1) == 0)
    assert sorted((b.parameter.name, b.offset, b.cells, b.matrix.tolist()) for b in batches) == [
        ("a", 0, 3, [[1.0] * 5]),
        ("a", 15, 3, [[2.0] * 5]),
        ("c", 1, 6, [[1.0] * 3]),
    ]
    np.testing.assert_array_equal(dense(batches, rest, system), dense([], system.rows(range(3)), system))


def test_what_is_not_lifted() -> None:
    for name, rules in {
        "ties": [W.a[i, 0] == W.a[i, 1] for i in range(6)],
        "single entries": [W.a[i, 0] == 1 for i in range(6)],
        "one row alone": [W.a[0].sum() == 1],
        "different coefficients": [(W.a[i] * (np.arange(5) + i + 1)).sum() == 1 for i in range(6)],
        "rows that share entries": [W.a[0, i : i + 3].sum() == 1 for i in range(3)],
        "two weights": [W.a[i, 0] + W.a[i, 1] == W.b[0] for i in range(6)],
    }.items():
        batches, rest, _ = lifted(rules)
        assert batches == [], name
        assert rest.count == len(rules), name


def test_one_pattern_at_different_weights_is_not_one_batch() -> None:
    batches, rest, system = lifted(W.a.sum(dim=1) == 1, W.c.sum(dim=1) == 1)
    np.testing.assert_array_equal(dense(batches, rest, system), dense([], system.rows(range(2)), system))
    assert all(batch.span[1] < batch.parameter.size for batch in batches)


def test_the_rest_keeps_its_order() -> None:
    _, rest, _ = lifted(W.b[0] == 1, W.a.sum(dim=1) == 1, W.b[1] == W.b[2], W.b[3] == 2)
    assert rest.rule.tolist() == [0, 2, 3]


def test_the_same_rows_of_several_parameters_are_a_batch_each() -> None:
    rules = [W[name].sum(dim=1)[i] == 0 for name in "ac" for i in range(6)]
    batches, rest, system = lifted(*rules)
    assert rest.count == 0
    assert [(batch.parameter.name, batch.outer.size) for batch in batches] == [("a", 6), ("c", 6)]
    np.testing.assert_allclose(dense(batches, rest, system), dense([], system.rows(range(12)), system))


def test_rows_and_columns_of_many_small_matrices_are_products() -> None:
    """As one dense batch, three matrices of 256 × 256 took 27 seconds, and a small language model 32 GiB."""
    w = affinet.weights({f"m{k}": (20, 30) for k in range(12)})
    plan = affinet.plan([rule for m in w for rule in (m.sum(dim=1) == 0, m.sum(dim=0) == 0)])
    assert {type(block).__name__ for block in plan.blocks} == {"Commuting"}
    assert plan.rank == 12 * 49


def random_neighbours(count: int) -> np.ndarray:
    """Disjoint triples of entries that lie near each other, at hundreds of different distances."""
    draw, free, triples = np.random.default_rng(0), np.ones(4 * count + 60, bool), []
    for first in range(4 * count):
        second, third = first + draw.permutation(59)[:2] + 1
        if len(triples) < count and free[first] and free[second] and free[third]:
            free[[first, second, third]] = False
            triples.append((first, second, third))
    return np.array(triples)


def test_many_patterns_at_places_of_their_own_are_one_block() -> None:
    """As batches, 3,343 of them took 27 seconds and made 926 blocks."""
    triples = random_neighbours(600)
    w = affinet.weights({"w": (int(triples.max()) + 1,)}).w
    plan = affinet.plan(w[triples].sum(dim=1) == 1)
    assert [type(block).__name__ for block in plan.blocks] == ["Dense"]
    assert plan.rank == len(triples)


def test_a_crowd_of_patterns_takes_no_regular_rows_with_it() -> None:
    w = affinet.weights({"a": (200, 30)})
    odd = [w.a[2 * k : 2 * k + 2, 0] + (k + 2) * w.a[2 * k : 2 * k + 2, 1] + w.a[2 * k + 6, 2] == 0 for k in range(20)]
    batches, rest, system = lifted(w.a.sum(dim=1) == 1, w.a.sum(dim=0) == 1, *odd)
    assert sorted((batch.cells, batch.inner.size) for batch in batches) == [(30, 200), (200, 30)]
    assert rest.count == 40
    np.testing.assert_array_equal(dense(batches, rest, system), dense([], system.rows(range(22)), system))


def test_tensors_under_rotations_are_no_batches() -> None:
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    elements = [families.kronecker_sum(np.roll(turn, (k, k), (0, 1)), 5) for k in range(3)]
    w = affinet.weights({"t": (243,)}).t
    batches, _, _ = lifted(families.equivariant(w, outputs=elements, lie_algebra=True))
    assert batches == []


def test_rows_of_single_entries_and_none_beside_a_crowd() -> None:
    triples = random_neighbours(600)
    w = affinet.weights({"w": (int(triples.max()) + 1,)}).w
    rules = [w[triples].sum(dim=1) == 1, w[0] == w[0], w[-1] - w[-1] + w[1] == 0]
    batches, rest, _ = lifted(*rules)
    assert batches == []
    assert rest.count == 602
