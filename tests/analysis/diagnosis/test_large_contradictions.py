"""Contradictions of thousands of equations: all of them are needed, proven without a dense oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import affinet
from affinet import families
from affinet.errors import InfeasibleError
from affinet.planning.elimination.private import unpeeled
from affinet.system.system import System


def refused(rules: list[affinet.Constraint]) -> InfeasibleError:
    with pytest.raises(InfeasibleError, match="cannot hold") as found:
        affinet.plan(rules)
    return found.value


def assert_irreducible(rules: list[affinet.Constraint], error: InfeasibleError) -> None:
    """The multipliers are not zero and cancel to the bit; without the last equation the others peel to nothing.

    Equations that peel to nothing are independent, so that these multipliers are the only ones but for a factor: then
    the equations less any one are independent as well, and can hold.
    """
    system = System.of(rules)
    rows = system.rows(range(len(rules)))
    number = {rule.name: k for k, rule in enumerate(system.rules)}
    first = np.searchsorted(rows.rule, np.arange(len(rules)))
    chosen = np.array([first[number[name]] + index for name, index in error.equations])
    assert len(np.unique(chosen)) == len(chosen) == len(error.multipliers)
    matrix, weights = rows.matrix(system.layout.size)[chosen], np.array(error.multipliers)
    assert error.minimal
    assert np.abs(weights).max() == 1.0
    assert weights.all()
    assert not (matrix.T @ weights).any()
    assert weights @ rows.rhs[chosen] > 0
    longest = int(np.argmax(np.diff(matrix.indptr)))
    assert not len(unpeeled(matrix[np.delete(np.arange(len(chosen)), longest)]))
    assert {name for name, _ in error.equations} == set(error.rules)


def test_a_chain_of_thirty_thousand_ties_between_fixed_ends() -> None:
    w = affinet.weights({"w": (30_001,), "other": (5,)})
    rules = [(w.w[1:] == w.w[:-1]).named("a chain"), w.w[0] == 0, w.other.sum() == 1, w.w[-1] == 1]
    error = refused(rules)
    assert_irreducible(rules, error)
    assert error.rules == ("a chain", "w[0] == 0", "w[-1] == 1")
    assert error.equations == (("w[0] == 0", 0), *(("a chain", k) for k in range(30_000)), ("w[-1] == 1", 0))
    assert str(error) == (
        "these rules cannot hold together:\n"
        '  "a chain"  w[1:] == w[:-1]\n'
        "  w[0] == 0\n"
        "  w[-1] == 1\n"
        "their 30,002 equations (counted from 0) contradict each other along a path of ties; "
        "without any one of these the others can hold:\n"
        "  w[0] == 0\n"
        '  [0] of "a chain"      -w[0] + w[1] == 0\n'
        '  [1] of "a chain"      -w[1] + w[2] == 0\n'
        '  [2] of "a chain"      -w[2] + w[3] == 0\n'
        '  [3] of "a chain"      -w[3] + w[4] == 0\n'
        '  [4] of "a chain"      -w[4] + w[5] == 0\n'
        "  … 29,993 more …\n"
        '  [29998] of "a chain"  -w[29998] + w[29999] == 0\n'
        '  [29999] of "a chain"  -w[29999] + w[30000] == 0\n'
        "  w[-1] == 1            w[30000] == 1\n"
        "together they say 0 == 1 for w. Drop one of them or change its right-hand side."
    )


def test_three_thousand_rules_of_a_tie_each() -> None:
    w = affinet.weights({"w": (4_000,)}).w
    rules = [*(w[k] == w[k + 1] for k in range(3_500)), w[0] == 0, w[3_000] == 1]
    error = refused(rules)
    assert_irreducible(rules, error)
    assert len(error.rules) == 3_002


def test_a_cycle_of_ratios() -> None:
    w = affinet.weights({"w": (10_000,)}).w
    ratio = np.where(np.arange(10_000) % 2 == 0, 2.0, 0.5)
    rules = [(w.roll(-1) - ratio * w == (np.arange(10_000) == 7)).named("a cycle")]
    error = refused(rules)
    assert_irreducible(rules, error)
    assert len(error.equations) == 10_000


def random_equations(equations: int, combined: int) -> list[affinet.Constraint]:
    draw = np.random.default_rng(combined)
    entries = 2 * equations
    columns = draw.integers(0, entries, (equations, 4))
    values = draw.integers(1, 4, columns.shape) * draw.choice([-1.0, 1.0], columns.shape)
    places = (np.repeat(np.arange(equations), 4), columns.ravel())
    matrix = sparse.coo_array((values.ravel(), places), shape=(equations, entries)).tocsr()
    rhs = matrix @ draw.integers(-3, 4, entries)
    chosen = draw.permutation(equations)[:combined]
    w = affinet.weights({"w": (entries,)}).w
    last, total = sparse.csr_array(matrix[chosen].sum(axis=0)[None]), rhs[chosen].sum()
    return [
        families.linear([w], matrix, rhs).named("equations"),
        families.linear([w], last, total + 1).named("against some"),
    ]


@pytest.mark.parametrize("combined", [10, 10_000])
def test_a_hundred_thousand_random_equations(combined: int) -> None:
    rules = random_equations(100_000, combined)
    error = refused(rules)
    assert_irreducible(rules, error)
    assert len(error.equations) == combined + 1
    assert "together they say 0 == 1 for w" in str(error)


def test_many_dense_equations_name_as_many_as_are_dependent() -> None:
    draw = np.random.default_rng(0)
    matrix = draw.standard_normal((1_200, 200))
    rhs = matrix @ draw.standard_normal(200)
    rhs[600] += 1
    error = refused([families.linear([affinet.weights({"w": (200,)}).w], matrix, rhs).named("dense")])
    assert error.minimal
    assert len(error.equations) == 201
    assert ("dense", 600) in error.equations
    chosen = np.array([index for _, index in error.equations])
    values = np.linalg.svd(matrix[chosen] / np.linalg.norm(matrix[chosen], axis=1)[:, None], compute_uv=False)
    assert values[-1] > 1e-8  # 201 rows of rank 200: the multipliers are the only ones
    assert np.abs(np.array(error.multipliers)).min() > 1e-9
    assert np.abs(error.multipliers @ matrix[chosen]).max() < 1e-11


def test_a_large_dense_core_is_named_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.analysis.diagnosis.searching.SMALL_CORE", 0)
    monkeypatch.setattr("affinet.planning.elimination.combinations.MOST_WORK", 10**6)
    draw = np.random.default_rng(0)
    matrix = draw.standard_normal((900, 300))
    rhs = matrix @ draw.standard_normal(300)
    rhs[0] += 1
    w = affinet.weights({"w": (300,)}).w
    halves = [families.linear([w], matrix[k::2], rhs[k::2]).named(f"half {k}") for k in (0, 1)]
    error = refused(halves)
    assert not error.minimal
    assert len(error.equations) > 301
    assert "and some of these may not be needed:\n" in str(error)
    assert str(error).endswith("(Some of these rules or equations may not be needed for the contradiction.)")


def test_more_equations_than_are_looked_at_leave_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.analysis.diagnosis.explaining.MOST_WRITTEN", 20)
    w = affinet.weights({"a": (4, 5), "b": (3,)})
    error = refused([w.a.sum(dim=1) == 1, w.b == 0, w.a[0] == 0])
    assert error.rules == ("a.sum(dim=1) == 1", "a[0] == 0")
    assert (error.equations, error.multipliers, error.minimal) == ((), (), True)
    assert "\ntheir equations come to 25 numbers, too many to say which of them contradict each other.\n" in str(error)
