"""Rules with inequalities without a point: which rules and rows the error names, and why it says there is none."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest

import affinet
from affinet import families
from affinet.errors import InfeasibleError
from affinet.language.constraint import Constraint
from affinet.plans.plan import compiled
from affinet.system.limits import Limits
from affinet.system.system import System
from tests.planning.inequalities.dense_program import DenseProgram
from tests.planning.inequalities.random_sets import RandomRules

W, B = (affinet.weights({"W": (5, 4), "b": (6,)})[name] for name in ("W", "b"))
LARGE = affinet.weights({"L": (300, 400)})["L"]


def refused(rules: Sequence[Constraint]) -> InfeasibleError:
    with pytest.raises(InfeasibleError) as caught:
        affinet.plan(rules)
    return caught.value


@pytest.mark.parametrize(
    ("rules", "names", "sentence"),
    [
        (
            [W >= 1, W.sum(dim=1)[3] <= 3],
            ("W >= 1", "W.sum(dim=1)[3] <= 3"),
            "the least that W.sum(dim=1)[3] can be is 4, and it must be <= 3.",
        ),
        (
            [W >= 1, (W.sum(dim=1) <= 3).named("small")],
            ("W >= 1", "small"),
            "the least that W.sum(dim=1)[0] can be is 4, and it must be <= 3.",
        ),
        ([families.simplex(W, dim=1), W <= 0.1], None, "the most that W.sum(dim=1)[0] can be is 0.4"),
        ([(B >= 3).named("low"), B[2] <= 2], ("low", "b[2] <= 2"), "b[2] must be >= 3 and <= 2."),
        ([2 * B >= 3, -B >= -1], None, "b[0] must be >= 1.5 and <= 1."),
        ([B == 1, B[0] >= 2], ("b == 1", "b[0] >= 2"), "b[0] must be == 1 and >= 2."),
        (
            [B.diff() >= 1, B[0] >= 0, B[5] <= 3],
            ("b.diff() >= 1", "b[0] >= 0", "b[5] <= 3"),
            "the least that b[5] can be is 5, and it must be <= 3.",
        ),
        (
            [B[0] + B[1] <= 1, B[0] - B[1] <= 1, B[0] >= 2, B[3] >= 1],
            ("b[0] + b[1] <= 1", "b[0] - b[1] <= 1", "b[0] >= 2"),
            "the most that b[0] can be is 1, and it must be >= 2.",
        ),
        (
            [B[0] + B[1] <= 1, B[0] + B[1] >= 2],
            None,
            "the most that b[0] + b[1] can be is 1, and it must be >= 2.",
        ),
        ([B[0] == 1, B[0] == 2, B >= 0], ("b[0] == 1", "b[0] == 2"), "together they say 0 == 1 for b[0]."),
        ([B[:1].sum() - B[0] >= 1], None, "it says 0 >= 1, and no weight is left in it."),
        ([LARGE >= 1, LARGE <= 0], ("L >= 1", "L <= 0"), "L[0, 0] must be >= 1 and <= 0."),
        (
            [LARGE >= 1, LARGE.sum(dim=1) <= 3],
            ("L >= 1", "L.sum(dim=1) <= 3"),
            "the least that L.sum(dim=1)[0] can be is 400, and it must be <= 3.",
        ),
    ],
)
def test_the_error_names_the_rules_and_says_why(
    rules: Sequence[Constraint], names: tuple[str, ...] | None, sentence: str
) -> None:
    error = refused(rules)
    assert names is None or error.rules == names
    assert sentence in str(error)
    assert error.minimal


def test_rows_are_shown_as_written() -> None:
    error = refused([(2 * B >= 3).named("low"), B.reshape(2, 3) <= 1])
    assert error.equations == (("low", 0), ("b.reshape(2, 3) <= 1", 0))
    assert error.multipliers == (-0.5, 1.0)
    assert '[0] of "low"' in str(error)
    assert "2 * b[0] >= 3" in str(error)
    assert "[0, 0] of b.reshape(2, 3) <= 1" in str(error)


def infeasible(seed: int) -> list[Constraint]:
    """Rules of two hidden points, which some seeds give no point in common."""
    generator = RandomRules(seed)
    rules = generator.rules()
    moved = generator.random.choice([0.0, 1.0], p=[0.8, 0.2])
    generator.point = {name: value + moved for name, value in generator.point.items()}
    return rules + generator.rules()


@pytest.mark.parametrize("seed", range(150))
def test_the_rules_and_rows_are_irreducible_and_their_sum_proves_it(seed: int) -> None:
    rules = infeasible(seed)
    if DenseProgram.of(System.of(rules)).has_point():
        return
    error = refused(rules)
    system = System.of(rules)
    by_name = {rule.name: number for number, rule in enumerate(system.rules)}
    chosen = [by_name[name] for name in error.rules]
    assert not DenseProgram.of(system.only(chosen)).has_point()
    for rule in chosen:
        others = system.only([other for other in chosen if other != rule])
        assert not others.rules or DenseProgram.of(others).has_point()
    rows = system.rows([by_name[name] for name in dict.fromkeys(name for name, _ in error.equations)])
    places = [
        int(np.flatnonzero((rows.rule == by_name[name]) & (rows.index == index))[0]) for name, index in error.equations
    ]
    multipliers = np.array(error.multipliers)
    matrix, rhs = rows.matrix(system.layout.size).toarray()[places], rows.rhs[places]
    # The solver's multipliers are solved for again on their rows: rounding of some dozen numbers of size 1.
    np.testing.assert_allclose(multipliers @ matrix, 0.0, atol=1e-10 * np.abs(matrix).max())
    signs = np.array([system.rules[by_name[name]].sign for name, _ in error.equations])
    if signs.any():
        assert (multipliers * signs >= 0.0).all()
        assert multipliers @ rhs < 0.0
    assert np.linalg.matrix_rank(matrix) == len(places) - 1


@pytest.mark.parametrize("seed", [312, 911, 2747])
def test_bounds_that_meet_up_to_rounding_are_not_refused(seed: int) -> None:
    """Entries that equations determine as differences of large numbers, at bounds near zero; and sums that are 0."""
    rules = infeasible(seed)
    assert DenseProgram.of(System.of(rules)).has_point()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", affinet.NothingToTrainWarning)  # these rules determine whole weights
        affinet.plan(rules)


@pytest.mark.parametrize("limits", [Limits(), Limits(dense_numbers=0)], ids=["batches", "one large component"])
def test_equations_that_contradict_are_refused_beside_inequalities(limits: Limits) -> None:
    """Equations of equal coefficients are read as cells, and large ones are sparse: both share entries with bounds."""
    c = affinet.weights({"c": (2, 3)})["c"]
    for rules in (
        [c[0].sum() == 0, c[0].sum() == 3, c >= -5],
        [c.sum(dim=1) == 0, c.sum(dim=1) == 1, c >= -5, c <= np.arange(6).reshape(2, 3) + 5],
        [c[0, 0] + 2 * c[0, 1] + c[0, 2] == 0, 2 * c[0, 0] + 4 * c[0, 1] + 2 * c[0, 2] == 3, c >= -5],
    ):
        with pytest.raises(InfeasibleError) as caught:
            compiled(System.of(rules, limits=limits))
        assert len(caught.value.rules) == 2
        assert "together they say 0 == " in str(caught.value)
