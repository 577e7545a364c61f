"""Laws 1, 2, 8 and 10 over random models and rules: feasible, nearest, symmetric, whatever order and scale."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import affinet
from tests.oracle import Oracle
from tests.properties.checking import arrays, condition, copied, laid, misses
from tests.properties.strategies import Said, examples, said, value_of

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def near(found: Mapping[str, Tensor], wanted: Mapping[str, np.ndarray], size: float, allowed: float) -> None:
    for name, values in wanted.items():
        assert np.abs(found[name].double().numpy() - values).max(initial=0.0) <= allowed * (1.0 + size), name


@examples(60)
@given(rules=said())
def test_projections_are_the_oracles(rules: Said) -> None:
    truth, given_ = rules.oracle, copied(rules.model)
    plan = affinet.plan(rules.rules)
    assert plan.rank == truth.rank
    projector, before = plan.projector(rules.model), arrays(given_)
    allowed, size = 2e-14 * condition(truth), np.linalg.norm(laid(truth, before)) + np.linalg.norm(truth.rhs)
    once = projector.project(given_)
    near(once, truth.project(before), size, allowed)
    near(projector.project(once), arrays(once), size, allowed)
    along = projector.tangent(given_)
    near(along, truth.tangent(before), size, allowed)
    near(projector.tangent(along), arrays(along), size, allowed)
    assert np.abs(truth.matrix @ laid(truth, arrays(along))).max(initial=0.0) <= allowed * (1 + size)
    turned = {name: torch.flip(x.reshape(-1), (0,)).view(x.shape) for name, x in given_.items()}
    products = [
        laid(truth, arrays(projector.tangent(one))) @ laid(truth, arrays(other))
        for one, other in ((given_, turned), (turned, given_))
    ]
    assert abs(products[0] - products[1]) <= allowed * (1 + size) ** 2
    rounding = 1e-14 * float(truth.scale.max(initial=1.0)) * (1 + size)
    for name, value in truth.violation(before).items():
        assert projector.violation(given_)[name] == pytest.approx(value, rel=1e-8, abs=rounding)


@examples(60)
@given(rules=said(DTYPES))
def test_rules_hold_in_every_mixture_of_dtypes(rules: Said) -> None:
    truth, given_ = rules.oracle, copied(rules.model)
    projector = affinet.plan(rules.rules).projector(rules.model)
    once = projector.project(given_)
    assert misses(truth, once) <= 4 + 2e-13 * condition(truth) / torch.finfo(torch.float64).eps * _all_double(given_)
    assert {name: x.dtype for name, x in once.items()} == {name: x.dtype for name, x in given_.items()}
    # Rounding of the coarsest weights is what the others find to do the second time.
    coarsest = max(torch.finfo(x.dtype).eps for x in once.values())
    near(projector.project(once), arrays(once), _largest(truth, once), coarsest * 2 + 1e-14 * condition(truth))


def _largest(truth: Oracle, tensors: Mapping[str, Tensor]) -> float:
    return float(np.linalg.norm(laid(truth, arrays(tensors))))


def _all_double(tensors: Mapping[str, Tensor]) -> float:
    return float(all(x.dtype == torch.float64 for x in tensors.values()))


@examples(25)
@given(rules=said(), order=st.randoms(use_true_random=False))
def test_order_scale_and_repetition_change_rounding_only(rules: Said, order: object) -> None:
    truth, given_ = rules.oracle, copied(rules.model)
    shuffled = list(rules.rules)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    scaled = [(-1e5 if k % 2 else 1e-4) * rule.expression == 0 for k, rule in enumerate(rules.rules)]
    plain = affinet.plan(rules.rules)
    wanted = arrays(plain.projector(rules.model).project(given_))
    size = np.linalg.norm(laid(truth, wanted)) + np.linalg.norm(laid(truth, arrays(given_)))
    for others in (shuffled, scaled, [*rules.rules, *scaled]):
        plan = affinet.plan(others)
        assert (plan.rank, plan.free) == (plain.rank, plain.free)
        near(plan.projector(rules.model).project(given_), wanted, size, 2e-14 * condition(truth))
    again = pickle.loads(pickle.dumps(plain)).projector(rules.model).project(given_)
    assert all(torch.equal(again[name], torch.from_numpy(wanted[name])) for name in wanted)


@examples(25)
@given(rules=said(), shift=st.sampled_from([1.0, -1e-3, 1e6]))
def test_a_contradiction_raises_and_moves_nothing(rules: Said, shift: float) -> None:
    """What two rules imply, off by more than any rounding of what they say."""
    whole = next((rule.expression.flatten() for rule in rules.rules if rule.rows), None)
    if whole is None or not rules.oracle.matrix.any():
        return
    implied = whole @ np.arange(1.0, whole.size + 1)
    size = 1.0 + abs(float(value_of(implied, rules.point)))
    if not implied.terms:
        return
    model, before = rules.model, copied(rules.model)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(affinet.InfeasibleError):
        affinet.project(model, optimizer, [*rules.rules, implied == shift * _scale(rules) * size])
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def _scale(rules: Said) -> float:
    """How large the numbers of the rules are, so that the contradiction is none of their rounding."""
    return max(1.0, *(float(np.abs(rule.expression.constant).max(initial=0.0)) for rule in rules.rules))
