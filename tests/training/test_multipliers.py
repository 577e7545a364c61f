"""What each rule costs: ν is the derivative of the optimum by the right-hand side that the user wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import lsmr
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.analysis import multipliers as solving
from affinet.system.system import System
from tests.limits import planned
from tests.oracle import oracle
from tests.training.problems import CENTRE, COUNT, CURVATURE, DENSE, SHAPES

NU = 1e-6
"""Relative distance from finite differences of re-solved optima; the issue asks for 1e-2."""

Rules = Callable[[Any, Any, Any], list[affinet.Constraint]]


class Two(torch.nn.Module):
    """The twenty weights of the problem, and a loss of fourth order over them, so that ν depends on the point."""

    def __init__(self, weights: np.ndarray | None = None) -> None:
        super().__init__()
        first, second = np.split(np.zeros(COUNT) if weights is None else weights, [12])
        self.a = torch.nn.Parameter(torch.tensor(first.reshape(3, 4)))
        self.b = torch.nn.Parameter(torch.tensor(second.reshape(4, 2)))

    def forward(self) -> Tensor:
        away = torch.cat([self.a.reshape(-1), self.b.reshape(-1)]) - torch.tensor(CENTRE)
        return 0.5 * away @ torch.tensor(CURVATURE) @ away + 0.05 * away.pow(4).sum()


def system_of(rules: list[affinet.Constraint]) -> tuple[np.ndarray, np.ndarray]:
    """A and b over all twenty entries, as the user wrote them."""
    truth = oracle(System.of(rules))
    starts, matrix = {"a": 0, "b": 12}, np.zeros((len(truth.rhs), COUNT))
    for parameter, at in zip(truth.layout.parameters, truth.layout.starts, strict=True):
        to = starts[parameter.name]
        matrix[:, to : to + parameter.size] = truth.matrix[:, at : at + parameter.size]
    return matrix * truth.scale[:, None], truth.rhs * truth.scale


def solved(rules: list[affinet.Constraint], decay: float = 0.0) -> tuple[np.ndarray, float]:
    """The constrained minimum of `f + decay ‖w‖²/2` and its value, by Newton's method on the reduced problem."""
    matrix, rhs = system_of(rules)
    w = np.linalg.pinv(matrix, rcond=1e-12) @ rhs
    _, s, vt = np.linalg.svd(matrix)
    basis = vt[int((s > 1e-10).sum()) :].T
    for _ in range(30):
        away = w - CENTRE
        gradient = CURVATURE @ away + 0.2 * away**3 + decay * w
        hessian = CURVATURE + np.diag(0.6 * away**2) + decay * np.eye(COUNT)
        w = w - basis @ np.linalg.solve(basis.T @ hessian @ basis, basis.T @ gradient)
    away = w - CENTRE
    return w, float(0.5 * away @ CURVATURE @ away + 0.05 * (away**4).sum() + 0.5 * decay * w @ w)


def attached(
    rules: Rules, shift: Any = 0.0, *, decay: float = 0.0, **limits: int
) -> tuple[Two, optim.Optimizer, affinet.Handle]:
    """A model at the constrained optimum, after one step of no length."""
    w = affinet.weights(SHAPES)
    model = Two(solved(rules(w["a"], w["b"], shift), decay)[0])
    optimizer = optim.SGD(model.parameters(), lr=0.0, weight_decay=decay)
    w = affinet.weights(model)
    handle = affinet.project(model, optimizer, planned(rules(w["a"], w["b"], shift), **limits))
    model().backward()
    optimizer.step()
    return model, optimizer, handle


def differences(rules: Rules, shape: tuple[int, ...], decay: float = 0.0, step: float = 1e-4) -> np.ndarray:
    """`∂f*/∂b` by central differences, one equation of the (only shifted) rule at a time."""
    w, found = affinet.weights(SHAPES), np.zeros(shape)
    for place in np.ndindex(shape):
        values = []
        for sign in (1.0, -1.0):
            shift = np.zeros(shape)
            shift[place] = sign * step
            values.append(solved(rules(w["a"], w["b"], shift), decay)[1])
        found[place] = (values[0] - values[1]) / (2 * step)
    return found


KINDS: dict[str, tuple[Rules, tuple[int, ...]]] = {
    "tie": (lambda a, b, t: [(a[0, 1] - a[2, 3] == t).named("it"), a[0, 0] == -b[3, 1]], ()),
    "ties": (lambda a, b, t: [(a[:2, :2] - b[:2].T == t).named("it")], (2, 2)),
    "chain of ties": (lambda a, b, t: [(a[0, 1:] - a[0, :-1] == t).named("it")], (3,)),
    "scaled tie": (lambda a, b, t: [(a[0, 0] - 3 * b[1, 1] == 1 + t).named("it"), a[1] == 2 * a[2]], ()),
    "scaled ties": (lambda a, b, t: [(2 * a[1] - a[2] == t).named("it")], (4,)),
    "fixed": (lambda a, b, t: [(a[1, :3] == 0.5 + t).named("it"), b.sum() == 1], (3,)),
    "sums": (lambda a, b, t: [(a.sum(dim=1) == 1 + t).named("it"), b.sum(dim=0) == [1, -1]], (3,)),
    "weighted sums": (lambda a, b, t: [(a @ np.arange(1.0, 5) == 1 + t).named("it")], (3,)),
    "product of axes": (lambda a, b, t: [(a[:, :3].sum(dim=1) == t).named("it"), a[:, 3].sum() == 1], (3,)),
    "symmetric": (
        lambda a, b, t: [
            (a[:, :3] - a[:, :3].T == t * 0).named("ties"),
            (a[0].sum() == t.sum() if np.ndim(t) else a[0].sum() == t).named("it"),
        ],
        (),
    ),
    "dense": (lambda a, b, t: [families.linear([a, b], DENSE, np.array([1.0, 2.0, 3.0]) + t).named("it")], (3,)),
    "cross-layer": (lambda a, b, t: [a[:2, :2] == b[:2].T, (a.sum() + b.sum() == 2 + t).named("it")], ()),
}


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_multipliers_are_the_derivative_of_the_optimum(kind: str, decay: float) -> None:
    """Under coupled decay, of the optimum of `f + λ/2 ‖w‖²`."""
    rules, shape = KINDS[kind]
    _, _, handle = attached(rules, np.zeros(shape), decay=decay)
    found, wanted = handle.multipliers()["it"], differences(rules, shape, decay)
    assert tuple(found.shape) == shape
    assert np.abs(wanted).max() > 1e-3
    assert np.abs(found.numpy() - wanted).max() <= NU * np.abs(wanted).max()
    assert handle.stationarity() < 1e-12


@pytest.mark.parametrize("factor", [2.0, -10.0, 1e-3])
def test_multipliers_are_in_the_units_of_the_rule_as_written(factor: float) -> None:
    plain = attached(lambda a, b, t: [(a.sum(dim=1) == 1).named("it"), a[0, 0] == b[0, 0]])[2].multipliers()["it"]
    scaled = attached(lambda a, b, t: [(factor * a.sum(dim=1) == factor).named("it"), a[0, 0] == b[0, 0]])[2]
    assert torch.allclose(scaled.multipliers()["it"] * factor, plain, rtol=1e-10, atol=1e-12)


def test_the_two_sides_of_a_rule_swapped_turn_the_sign() -> None:
    """`a == b` is `a − b == 0`, so that ν belongs to what is added to the side of b."""
    one = attached(lambda a, b, t: [(a[0, 0] == b[0, 0]).named("it")])[2].multipliers()["it"]
    other = attached(lambda a, b, t: [(b[0, 0] == a[0, 0]).named("it")])[2].multipliers()["it"]
    assert float(one) == pytest.approx(-float(other), rel=1e-12)


def test_the_captured_gradient_is_the_one_before_the_projection_and_before_the_step() -> None:
    """Adam has moved the weights since; ν is that of the gradient it was given."""
    model = Two(np.linspace(-1, 1, COUNT))
    optimizer, w = optim.Adam(model.parameters(), lr=0.1), affinet.weights(model)
    handle = affinet.project(model, optimizer, [(w.a.sum(dim=1) == 1).named("rows")])
    model().backward()
    raw = {name: p.grad.clone() for name, p in model.named_parameters()}  # type: ignore[union-attr]
    optimizer.step()
    wanted = raw["a"].sum(1) / 4
    assert torch.allclose(handle.multipliers()["rows"], wanted, rtol=1e-12, atol=0)


# Redundant equations


def square(a: Any, b: Any, t: Any) -> list[affinet.Constraint]:
    """Rows and columns of one matrix: seven equations of rank six."""
    rows, columns = t if isinstance(t, tuple) else (np.zeros(3), np.zeros(4))
    return [
        (a.sum(dim=1) == np.ones(3) + rows).named("rows"),
        (a.sum(dim=0) == 0.75 * np.ones(4) + columns).named("columns"),
        (b[0].sum() == 1).named("apart"),
    ]


def test_redundant_equations_get_the_multipliers_of_smallest_norm() -> None:
    model, _, handle = attached(square)
    found, matrix = handle.multipliers(), system_of(square(*affinet.weights(SHAPES), None))[0]
    assert model.a.grad is not None
    gradient = np.zeros(COUNT)
    away = np.concatenate([model.a.detach().numpy().ravel(), model.b.detach().numpy().ravel()]) - CENTRE
    gradient = CURVATURE @ away + 0.2 * away**3
    wanted = np.linalg.pinv(matrix.T, rcond=1e-12) @ gradient
    laid = np.concatenate([found[name].numpy().ravel() for name in ("rows", "columns", "apart")])
    assert np.abs(laid - wanted).max() < 1e-10
    assert handle.stationarity() < 1e-12


def test_of_redundant_equations_the_sum_over_a_consistent_change_is_the_derivative() -> None:
    _, _, handle = attached(square)
    found, w, draw = handle.multipliers(), affinet.weights(SHAPES), np.random.default_rng(0)
    for _ in range(3):
        change = draw.standard_normal((3, 4))
        rows, columns = change.sum(axis=1), change.sum(axis=0)
        up, down = (solved(square(w["a"], w["b"], (s * rows, s * columns)))[1] for s in (1e-4, -1e-4))
        along = float(found["rows"].numpy() @ rows + found["columns"].numpy() @ columns)
        assert along == pytest.approx((up - down) / 2e-4, rel=NU)


def test_rules_that_share_multipliers_are_named() -> None:
    _, _, handle = attached(square)
    assert handle.projector.shared_multipliers() == {"rows": ("columns",), "columns": ("rows",)}
    text = str(handle.report())
    assert "redundant with columns" in text
    assert "redundant with rows" in text
    assert "redundant with apart" not in text
    assert attached(KINDS["sums"][0])[2].projector.shared_multipliers() == {}


@pytest.mark.parametrize("width", [6, 300], ids=["factored", "iterative"])
def test_rows_columns_and_a_rule_beside_them(width: int) -> None:
    """In a component of 600 equations too, those that follow from others are told from those that do not."""
    w = affinet.weights({"m": (width, width), "b": (4,)})
    rules = [
        (w.m.sum(dim=1) == 0).named("rows"),
        (w.m.sum(dim=0) == 0).named("columns"),
        (w.m[0, 0] + w.m[1, 1] == w.b[0]).named("beside"),
        (w.b.sum() == 1).named("apart"),
    ]
    like = {"m": torch.zeros(width, width), "b": torch.zeros(4)}
    shared = affinet.plan(rules).projector(like).shared_multipliers()
    assert shared == {"rows": ("columns",), "columns": ("rows",)}


def test_a_rule_said_twice_shares_its_multiplier_evenly() -> None:
    once = attached(lambda a, b, t: [(a.sum() == 1).named("one")])[2].multipliers()
    twice = attached(lambda a, b, t: [(a.sum() == 1).named("one"), (a.sum() == 1).named("two")])[2].multipliers()
    assert float(twice["one"]) == pytest.approx(float(once["one"]) / 2, rel=1e-10)
    assert float(twice["one"] + twice["two"]) == pytest.approx(float(once["one"]), rel=1e-10)


@pytest.mark.parametrize("kind", ["dense", "ties", "cross-layer", "redundant"])
def test_large_components_are_solved_iteratively_to_the_same_multipliers(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = square if kind == "redundant" else KINDS[kind][0]
    _, _, handle = attached(rules, 0.0)
    dense = handle.multipliers()
    solves: list[int] = []

    def counted(matrix: Any, *rest: Any, **options: Any) -> Any:
        solves.append(matrix.shape[1])
        return lsmr(matrix, *rest, **options)

    _, _, handle = attached(rules, 0.0, dense_rows=0)
    monkeypatch.setattr(solving, "lsmr", counted)
    iterated = handle.multipliers()
    assert solves
    for name, values in dense.items():
        assert torch.allclose(values, iterated[name], rtol=1e-8, atol=1e-9), name
