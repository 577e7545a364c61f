"""The equations that an error names: their words, their order, and what programs read."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import affinet
from affinet import families
from affinet.analysis.diagnosis.explaining import explain
from affinet.errors import InfeasibleError, TooLargeError
from affinet.system.rows import Rows
from affinet.system.system import System

W = affinet.weights({"a": (3, 8), "b": (4,), "c": (9, 9)})
A = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [1, 1, 1, 1.0]])
CONTRADICT = "(counted from 0) contradict each other; without any one of these the others can hold:\n"


def refused(*rules: affinet.Constraint) -> InfeasibleError:
    with pytest.raises(InfeasibleError, match="cannot hold") as found:
        affinet.plan(rules)
    return found.value


@pytest.mark.parametrize("matrix", [A, sparse.csr_array(A)], ids=["dense", "sparse"])
def test_a_contradiction_inside_one_matrix_names_its_rows(matrix: object) -> None:
    error = refused(families.linear([W.b], matrix, [1, 2, 4]).named("mine"), W.a[0] == 0)
    assert error.rules == ("mine",)
    assert error.equations == (("mine", 0), ("mine", 1), ("mine", 2))
    assert error.multipliers == (-1.0, -1.0, 1.0)
    assert (
        f"its 3 equations {CONTRADICT}"
        "  row 0 of A  b[0] + b[1] == 1\n"
        "  row 1 of A  b[2] + b[3] == 2\n"
        "  row 2 of A  b[0] + b[1] + b[2] + b[3] == 4\n"
        "it says 0 == 1 for b[0], b[1], b[2], b[3]. Change it or drop it."
    ) in str(error)


def test_rows_of_a_matrix_beside_another_rule() -> None:
    text = str(refused(families.linear([W.b], A[:2], [1, 2]).named("mine"), W.b.sum() == 2))
    assert f"their 3 equations {CONTRADICT}" in text
    assert (
        '\n  row 1 of A in "mine"  b[2] + b[3] == 2\n  b.sum() == 2          b[0] + b[1] + b[2] + b[3] == 2\n' in text
    )


def test_a_long_equation_is_said_by_its_rule() -> None:
    text = str(refused((W.a.sum(dim=1) == 1).named("rows"), W.a[2] == 0))
    assert '\n  [2] of "rows"     a.sum(dim=1)[2] == 1\n  [0] of a[2] == 0  a[2, 0] == 0\n' in text
    text = str(refused((W.a - 2 * W.a == 0).named("whole"), (-W.a.sum(dim=1) - 1 == 1).named("rows")))
    assert "(-a.sum(dim=1) - 1)[0] == 1\n" in text


def test_a_long_equation_without_such_words_shows_its_ends() -> None:
    text = str(refused(W.a[0].sum() == W.a[1].sum() + 1, W.a[0] == W.a[1]))
    assert "  a[0, 0] + a[0, 1] + a[0, 2] + … - a[1, 7] == 1  (16 entries)\n" in text


def test_one_equation_of_many() -> None:
    error = refused(W.b[0] == 0, (0 * W.b == np.array([0, 0, 1, 0])).named("nothing"))
    assert error.equations == (("nothing", 2),)
    told = (
        "\none of its 4 equations (counted from 0) cannot hold:\n  [2]  0 == 1\nit says 0 == 1, and no weight is left"
    )
    assert told in str(error)


def test_rules_of_one_equation_each_are_their_equations() -> None:
    error = refused(3 * W.b[0] == 1, W.b[0] == 2)
    assert "equations" not in str(error)
    assert error.equations == (("3 * b[0] == 1", 0), ("b[0] == 2", 0))
    assert error.multipliers == pytest.approx((-1 / 3, 1.0))
    assert "together they say 0 == 1.66667 for b[0]. " in str(error)


def test_a_long_path_shows_its_ends() -> None:
    flat = W.c.flatten()
    error = refused((flat[1:] == flat[:-1]).named("all equal"), W.c[0, 0] == 0, W.c[8, 8] == 1)
    assert "their 82 equations (counted from 0) contradict each other along a path of ties; without" in str(error)
    assert '\n  c[0, 0] == 0\n  [0] of "all equal"   -c[0, 0] + c[0, 1] == 0\n' in str(error)
    assert "\n  … 73 more …\n" in str(error)
    assert str(error).splitlines()[-2] == "  c[8, 8] == 1"
    assert error.equations == (
        ("c[0, 0] == 0", 0),
        *(("all equal", k) for k in range(80)),
        ("c[8, 8] == 1", 0),
    )


def test_a_long_list_of_rules_is_cut_short() -> None:
    flat = W.c.flatten()
    error = refused(*(flat[k] == flat[k + 1] for k in range(20)), flat[20] == flat[0] + 1)
    assert len(error.rules) == len(error.equations) == 21
    assert str(error).splitlines()[7:9] == ["  … 12 more …", "  c.flatten()[18] == c.flatten()[19]"]


@pytest.mark.parametrize("gap", [1e-9, 1e-12, 1e-300, 3e139])
def test_gaps_of_every_size_are_exact(gap: float) -> None:
    base = 1.0 if 1e-13 < gap < 1e100 else 0.0
    error = refused(W.b[0] == base, W.b[0] == base + gap)
    assert f"together they say 0 == {base + gap - base:.6g} for b[0]. " in str(error)


def test_several_contradictions_are_not_added_up() -> None:
    error = refused((W.b == 0).named("zero"), (W.b == 1).named("one"))
    assert error.equations == (("zero", 0), ("one", 0))
    assert "together they say 0 == 1 for b[0]. " in str(error)


def test_scaled_rules_say_it_in_units_of_the_largest_multiplier() -> None:
    error = refused(1e8 * W.b.sum() == 1e8, 1e-6 * W.b[:2].sum() == 0, W.b[2:].sum() == 2)
    assert len(error.equations) == 3
    assert max(map(abs, error.multipliers)) == 1.0
    assert "together they say 0 == 1e-06 for b[0], b[1], b[2], b[3]. " in str(error)


def test_frozen_weights_leave_their_equations_named() -> None:
    plan = affinet.plan([(W.a.sum(dim=1) == 1).named("rows"), (W.a[0] == W.a[1]).named("same")])
    with pytest.raises(InfeasibleError, match=r"it says 0 == 7, and no weight is left in it\. ") as found:
        plan.with_constants({"a": np.ones((3, 8))}, 1e-7)
    assert found.value.equations == (("rows", 0),)


def test_a_contradiction_that_equations_do_not_confirm_is_one_of_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.analysis.diagnosis.explaining.find_circuit", lambda rows, tolerance: None)
    error = refused(W.b.sum() == 1, (W.a[0] == 0).named("apart"), W.b[0] == 0, W.b[1:].sum() == 2)
    assert error.rules == ("b.sum() == 1", "b[0] == 0", "b[1:].sum() == 2")
    assert (error.minimal, error.equations, error.multipliers) == (True, (), ())
    told = "they ask for numbers beyond float64 (1.8e308), or what is wrong is hardly more than rounding."
    assert str(error).endswith(f"  b[1:].sum() == 2\n{told}\nDrop one of them or change its right-hand side.")


def test_gaps_between_the_largest_numbers_that_rules_may_hold_are_told() -> None:
    error = refused(W.b.sum() == 1e140, W.b.sum() == -1e140)
    assert error.rules == ("b.sum() == 1e+140", "b.sum() == -1e+140")
    assert error.multipliers in ((-1.0, 1.0), (1.0, -1.0))
    assert "2e+140 for b[0], b[1]" in str(error)


def test_equations_that_memory_does_not_hold_leave_the_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(system: System, numbers: object) -> Rows:
        raise TooLargeError("reading", 2, 1, "Say less.")

    system = System.of([W.a.sum(dim=1) == 1, W.a[0] == 0])
    monkeypatch.setattr(System, "rows", refusing)
    error = explain(system, [0, 1], "said by planning.", lambda rules: len(rules) < 2, lambda rules, tolerance: False)
    assert error.rules == ("a.sum(dim=1) == 1", "a[0] == 0")
    assert error.equations == ()
    assert "\ntheir equations come to 32 numbers, too many to say which of them contradict each other.\n" in str(error)
    assert "\nsaid by planning. Drop one of them" in str(error)


def test_an_equation_of_a_sum_is_put_in_brackets() -> None:
    w = affinet.weights({"a": (3, 40), "b": (3,)})
    rules = [w.a.sum(dim=1) - w.b == 1, (w.a.sum(dim=1) - w.b)[2] == 2]
    with pytest.raises(InfeasibleError, match=r"\(a\.sum\(dim=1\) - b\)\[2\] == 1"):
        affinet.plan(rules)
