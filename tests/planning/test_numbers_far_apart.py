"""Numbers at the ends of float64: rules are planned as those of size one are, or refused with both ends named."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.errors import AffinetError, ConstantError

W = affinet.weights({"w": (8,), "m": (300, 300)})


def drawn(seed: int, exponent: int) -> list[affinet.Constraint]:
    """Random rules over eight weights, all of them times two to the `exponent`."""
    random, unit = np.random.default_rng(seed), 2.0**exponent
    rules = []
    for _ in range(random.integers(1, 9)):
        places = random.choice(8, random.integers(1, 4), replace=False)
        numbers = unit * 2.0 ** random.integers(-20, 20, len(places)) * random.choice([-1.0, 1.0], len(places))
        left = sum(number * W.w[int(place)] for number, place in zip(numbers, places, strict=True))
        rules.append(left == unit * float(random.choice([0.0, 1.0, 2.0 ** random.integers(-20, 20)])))
    return rules


def outcome(seed: int, exponent: int) -> str:
    try:
        plan = affinet.plan(drawn(seed, exponent))
    except AffinetError as error:
        return type(error).__name__
    return f"{plan.rank} of {plan.rows}, {plan.free} free, {len(plan.findings)} findings"


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
@pytest.mark.parametrize("exponent", [-980, -600, -530, 400])
def test_the_size_of_all_coefficients_changes_nothing(exponent: int) -> None:
    told = {outcome(seed, 0) for seed in range(60)}
    assert len(told) > 10
    assert "InfeasibleError" in told
    for seed in range(60):
        assert outcome(seed, exponent) == outcome(seed, 0), seed


@pytest.mark.parametrize(
    "rules",
    [
        lambda unit: [unit * W.m.sum(1) == unit],
        lambda unit: [unit * W.m.sum(1) == unit, W.m.sum(0) == 1],
        lambda unit: [unit * W.m == unit * W.m.T, W.m.sum(1) == 1],
        lambda unit: [unit * (np.vander(np.linspace(0.1, 1, 300), 3).T @ W.m) == unit],
        lambda unit: [
            families.linear(W.m[0], unit * np.random.default_rng(0).normal(size=(40, 300)), np.full(40, unit))
        ],
        lambda unit: [unit * (W.m[0] - 2 * W.m[1]) == unit, W.m[1] - W.m[2] == 0, unit * W.m[:3].sum(0) == 7 * unit],
    ],
    ids=["slices", "product", "symmetric", "batch", "dense", "ties and sums"],
)
def test_projections_and_multipliers_of_large_rules_are_those_of_size_one(rules: object) -> None:
    assert callable(rules)
    weights = {"m": torch.randn(300, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    plans = [affinet.plan(rules(unit)) for unit in (1.0, 2.0**-700)]
    one, tiny = (plan.projector(weights) for plan in plans)
    torch.testing.assert_close(tiny.project(weights), one.project(weights), rtol=0, atol=1e-11)
    torch.testing.assert_close(tiny.tangent(weights), one.tangent(weights), rtol=0, atol=1e-11)
    expected, found = (next(iter(projector.multipliers(weights).values())) for projector in (one, tiny))
    assert torch.isfinite(found).all()
    if plans[0].rank == plans[0].rows:  # else the smallest multipliers are others
        torch.testing.assert_close(found * 2.0**-700, expected, rtol=0, atol=1e-8 * float(expected.abs().max()))


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
def test_numbers_far_apart_are_planned_or_refused_and_never_computed_beyond_float64() -> None:
    """Warnings are errors in the tests: an overflow anywhere would fail here."""
    refused = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        rules = []
        for _ in range(random.integers(1, 9)):
            places = random.choice(8, random.integers(1, 4), replace=False)
            numbers = 10.0 ** random.uniform(-300, 139, len(places))
            left = sum(float(number) * W.w[int(place)] for number, place in zip(numbers, places, strict=True))
            rules.append(left == float(random.choice([0.0, 1.0, 10.0 ** random.uniform(-300, 139)])))
        try:
            plan = affinet.plan(rules)
        except ConstantError:
            refused += 1
            continue
        except affinet.InfeasibleError:
            continue
        assert str(plan)
        weights = {"w": torch.from_numpy(random.normal(size=8))}
        projector = plan.projector(weights)
        assert torch.isfinite(projector.project(weights)["w"]).all()
        assert all(torch.isfinite(values).all() for values in projector.multipliers(weights).values())
    assert 10 < refused < 100


def test_the_error_names_both_ends_and_their_rules() -> None:
    rules = [
        (1e-250 * W.w[0] - 1e120 * W.w[1] == 0).named("large"),
        1e-250 * W.w[7] - 1e100 * W.w[1] == 0,
        (W.w[1:3] == W.w[3:5] * np.array([1e-150, 3e-160])).named("small"),
        (3e-305 * W.w[0] + W.w[5] + W.w[6] == 1).named("smallest"),
    ]
    with pytest.raises(ConstantError) as caught:
        affinet.plan(rules)
    told = str(caught.value)
    assert 'from 3e-305 in "smallest" to 1e+120 in "large": quotients of them leave the range of float64' in told
    assert "write 0 for those that are negligible" in told


def test_a_rule_that_is_alone_is_named_once() -> None:
    with pytest.raises(
        ConstantError, match=r'numbers of rule "far" lie too far apart .*, from 1e-200 to 1e\+130: quot'
    ):
        affinet.plan([(1e-200 * W.w[0] + 1e-200 * W.w[1] == 1e130).named("far")])
