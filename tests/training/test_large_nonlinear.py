"""Training on large components of nonlinear equations: exact after each step, the published optima, and the traps."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.blocks.curved import Curved
from affinet.blocks.large_curved_set import LargeCurvedSet
from affinet.errors import InfeasibleError
from affinet.planning.curved.linearizing import derivatives_at, sizes_and_reach
from affinet.plans.plan import Plan
from tests.limits import planned
from tests.training.curved_problems import PROBLEMS

Rules = list[Any]
ROADS: dict[str, dict[str, int]] = {
    "factor": {"dense_curved": 0},
    "products": {"dense_curved": 0, "most_written_products": 0, "most_written_derivatives": 0},
}
DENSE = {"dense_curved": 10**6, "dense_derivatives": 2**40, "most_written_products": 10**9}


def made(**weights: np.ndarray) -> torch.nn.Module:
    model = torch.nn.Module()
    for name, values in weights.items():
        setattr(model, name, torch.nn.Parameter(torch.tensor(values)))
    return model


def product(rows: int, terms: int, columns: int) -> tuple[torch.nn.Module, Callable[[Any], Rules]]:
    """`B A = M`: rows · columns equations of lower rank, and most changes of M are out of their range."""
    random = np.random.default_rng(0)
    first = random.normal(size=(rows, terms)) / terms**0.5
    second = random.normal(size=(terms, columns)) / terms**0.5
    return made(first=first, second=second), lambda w: [w.first @ w.second == first @ second]


def polynomials(count: int, entries: int) -> tuple[torch.nn.Module, Callable[[Any], Rules]]:
    """Random equations `a x_i x_j + b x_k² + d x_l = r`, each with a number of the one before it."""
    random = np.random.default_rng(1)
    i, j, k, last = np.stack([random.choice(entries, 4, replace=False) for _ in range(count)]).T
    i[1:] = last[:-1]
    a, b, d = random.normal(size=(3, count))
    point = random.normal(size=entries)

    def value(w: Any) -> Any:
        return a * w[i] * w[j] + b * w[k] ** 2 + d * w[last]

    return made(w=point), lambda w: [value(w.w) == value(point)]


def involution(size: int) -> tuple[torch.nn.Module, Callable[[Any], Rules]]:
    random = np.random.default_rng(2)
    basis = np.linalg.qr(random.normal(size=(size, size)))[0] + 0.1 * random.normal(size=(size, size))
    signs = np.where(np.arange(size) % 3, 1.0, -1.0)
    return made(w=basis * signs @ np.linalg.inv(basis)), lambda w: [families.involution(w.w)]


def orthonormal_with_sum(size: int) -> tuple[torch.nn.Module, Callable[[Any], Rules]]:
    matrix = np.linalg.qr(np.random.default_rng(3).normal(size=(size, size)))[0]
    return made(w=matrix), lambda w: [w.w @ w.w.T == np.eye(size), w.w.sum() == matrix.sum()]


LARGE = {
    "product of layers": lambda: product(50, 40, 60),
    "polynomials": lambda: polynomials(2000, 6000),
    "involution": lambda: involution(64),
    "orthonormal with a sum": lambda: orthonormal_with_sum(256),
}
SMALL = {
    "product of layers": lambda: product(9, 6, 10),
    "polynomials": lambda: polynomials(150, 400),
    "involution": lambda: involution(9),
    "orthonormal with a sum": lambda: orthonormal_with_sum(12),
}


def weights_of(model: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: weight.detach().double().numpy() for name, weight in model.named_parameters()}


def exceeded(handle: affinet.Handle, model: torch.nn.Module, u: float = 2.0**-53) -> float:
    """The largest violation in units of `8 u (Σ|terms| + Σ|∂c/∂w_j||w_j|)` of the largest equation of its rule."""
    system, weights, worst = handle.plan.system, weights_of(model), 0.0
    entries = np.concatenate([np.abs(weights[p.name]).ravel() for p in system.layout.parameters])
    violation = handle.violation()
    for number in system.curved_rules:
        sizes, reach = sizes_and_reach(system, [number], weights, entries)
        worst = max(worst, violation[system.rule(number).name] / float(8 * u * (sizes + reach).max()))
    return worst


def towards(model: torch.nn.Module, seed: int = 4) -> Callable[[], Tensor]:
    """The squared distance to random weights, relative to how many there are."""
    generator = torch.Generator().manual_seed(seed)
    parts = [(w, torch.randn(w.shape, generator=generator, dtype=w.dtype)) for w in model.parameters()]
    return lambda: torch.stack([(w - target).square().sum() for w, target in parts]).sum()


def step(optimizer: optim.Optimizer, loss: Callable[[], Tensor]) -> float:
    optimizer.zero_grad()
    value = loss()
    value.backward()
    optimizer.step()
    return float(value.detach())


def is_large(plan: Plan) -> bool:
    return any(isinstance(block, Curved) and isinstance(block.set, LargeCurvedSet) for block in plan.blocks)


@pytest.mark.parametrize("problem", LARGE)
def test_large_components_hold_to_rounding_after_each_step(problem: str) -> None:
    model, rules = LARGE[problem]()
    optimizer, loss = optim.Adam(model.parameters(), lr=3e-3), towards(model)
    handle = affinet.project(model, optimizer, rules(affinet.weights(model)))
    assert is_large(handle.plan)
    losses = []
    for _ in range(4):
        losses.append(step(optimizer, loss))
        assert exceeded(handle, model) <= 1.0
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize("problem", [problem for problem in SMALL if problem != "involution"])
@pytest.mark.parametrize("road", ROADS)
def test_large_and_dense_roads_follow_one_trajectory(road: str, problem: str) -> None:
    """Both project along the same planes, and return to points that differ by what a return leaves: its square.

    Not on involutions: off their set the derivatives have small singular values that are zero on it, and where a return
    ends depends on how many of them it resolves.
    """
    ends = []
    for limits in (DENSE, ROADS[road]):
        model, rules = SMALL[problem]()
        optimizer, loss = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9), towards(model)
        handle = affinet.project(model, optimizer, planned(rules(affinet.weights(model)), **limits))
        assert is_large(handle.plan) is (limits is not DENSE)
        for _ in range(20):
            step(optimizer, loss)
            assert exceeded(handle, model) <= 1.0
        ends.append(np.concatenate([values.ravel() for values in weights_of(model).values()]))
    assert np.abs(ends[0] - ends[1]).max() <= 1e-6


@pytest.mark.parametrize("problem", SMALL)
@pytest.mark.parametrize("road", ROADS)
def test_tangents_are_those_of_singular_vectors(road: str, problem: str) -> None:
    model, rules = SMALL[problem]()
    plan = planned(rules(affinet.weights(model)), **ROADS[road])
    weights = {parameter.name: weights_of(model)[parameter.name] for parameter in plan.parameters}
    matrix = derivatives_at(plan.system, list(plan.system.curved_rules), weights).toarray()
    if plan.system.rules:
        matrix = np.concatenate([matrix, np.ones((1, matrix.shape[1]))])
    _, s, vt = np.linalg.svd(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
    rank = int((s > 1e-8 * s[0]).sum())
    normals = vt[:rank]
    random = np.random.default_rng(5)
    vectors = {name: random.standard_normal(value.shape) for name, value in weights.items()}
    flat = np.concatenate([vectors[name].ravel() for name in weights])
    tangent = plan.projector(weights).tangent(vectors, at=weights)
    found = np.concatenate([tangent[name].ravel() for name in weights])
    # |J h| of m equations of norm one ends at four spacings of |g|, or at the rounding of its m sums; so does the
    # oracle. σ turns it into a length.
    bound = 2.0 * (4.0 + len(matrix) ** 0.5) * 2.0**-52 * np.linalg.norm(flat) / s[rank - 1]
    assert np.linalg.norm(found - (flat - normals.T @ (normals @ flat))) <= bound


@pytest.mark.parametrize("problem", ["HS39", "HS78", "sum of eigenvalues", "nearest determinant"])
@pytest.mark.parametrize("road", ROADS)
def test_published_optima_are_reached(road: str, problem: str) -> None:
    chosen = PROBLEMS[problem]
    model = chosen.model()
    optimizer = optim.Adam(model.parameters(), lr=0.03 * chosen.rate)
    plan = planned(chosen.rules(affinet.weights(model).w), **ROADS[road])
    handle = affinet.project(model, optimizer, plan)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 1200)
    for count in range(1200):
        step(optimizer, lambda: chosen.loss(model.w))
        schedule.step()
        if count % 100 == 0:
            assert exceeded(handle, model) <= 1.0
    assert abs(float(chosen.loss(model.w.detach())) - chosen.optimum) <= 1e-8 * max(1.0, abs(chosen.optimum))


@pytest.mark.parametrize("road", ROADS)
def test_a_product_of_layers_reaches_a_point_without_descent(road: str) -> None:
    """The least change of two layers that keeps their product, by the conditions of Lagrange: `g = Jᵀν`."""
    model, rules = product(5, 3, 6)
    optimizer, loss = optim.Adam(model.parameters(), lr=0.05), towards(model)
    handle = affinet.project(model, optimizer, planned(rules(affinet.weights(model)), **ROADS[road]))
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for _ in range(500):
        step(optimizer, loss)
        schedule.step()
    matrix = derivatives_at(handle.plan.system, list(handle.plan.system.curved_rules), weights_of(model)).toarray()
    optimizer.zero_grad()
    loss().backward()
    gradient = np.concatenate([weight.grad.double().numpy().ravel() for weight in model.parameters()])
    residual = gradient - matrix.T @ np.linalg.lstsq(matrix.T, gradient, rcond=1e-8)[0]
    assert np.linalg.norm(residual) <= 1e-6 * np.linalg.norm(gradient)


@pytest.mark.parametrize("road", ROADS)
def test_equations_said_twice_at_two_scales_hold(road: str) -> None:
    """Trap: dependent equations, one of them a million times as large."""
    model, rules = polynomials(150, 400)
    w = affinet.weights(model)
    (first,) = rules(w)
    twice = 1e6 * first.expression == 0.0
    optimizer, loss = optim.Adam(model.parameters(), lr=1e-2), towards(model)
    handle = affinet.project(model, optimizer, planned([first, twice], **ROADS[road]))
    for _ in range(10):
        step(optimizer, loss)
        assert exceeded(handle, model) <= 1.0


@pytest.mark.parametrize("road", ROADS)
def test_a_singular_start_is_left_by_a_small_move(road: str) -> None:
    model = made(w=np.zeros((2, 80)))
    w = affinet.weights(model).w
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, planned([w[0] * w[1] + w[0].sum() ** 2 == 1.0], **ROADS[road]))
    assert exceeded(handle, model) <= 1.0


@pytest.mark.parametrize("road", ROADS)
def test_equations_without_solutions_are_refused_and_change_nothing(road: str) -> None:
    model = made(w=np.linspace(-1.0, 1.0, 100))
    w = affinet.weights(model).w
    rules = [w[1:] ** 2 + w[:-1] ** 2 == -1.0]
    before = model.w.detach().clone()
    with pytest.raises(InfeasibleError, match="no weights that satisfy this rule were found from the present ones"):
        affinet.project(model, optim.SGD(model.parameters(), lr=0.1), planned(rules, **ROADS[road]))
    assert torch.equal(model.w, before)


@pytest.mark.parametrize("size", [20])
def test_an_involution_is_reached_from_afar(size: int) -> None:
    """Derivatives lose rank on the set of `W² = I`: a start off it needs damping."""
    model = made(w=np.random.default_rng(6).normal(size=(size, size)))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, families.involution(affinet.weights(model).w))
    assert is_large(handle.plan)
    assert exceeded(handle, model) <= 1.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("problem", ["polynomials", "orthonormal with a sum"])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(problem: str, dtype: torch.dtype) -> None:
    def begin() -> tuple[torch.nn.Module, optim.Optimizer, affinet.Handle]:
        model, rules = SMALL[problem]()
        model = model.to(dtype)
        optimizer = optim.Adam(model.parameters(), lr=1e-2, eps=1e-4)
        return model, optimizer, affinet.project(model, optimizer, planned(rules(affinet.weights(model))))

    model, optimizer, handle = begin()
    assert is_large(handle.plan)
    for _ in range(5):
        step(optimizer, towards(model))
        assert exceeded(handle, model, torch.finfo(dtype).eps / 2) <= 1.0
    saved = model.state_dict()["w"].clone(), copy.deepcopy(optimizer.state_dict()), copy.deepcopy(handle.state_dict())
    for _ in range(5):
        step(optimizer, towards(model))
    other, again, resumed = begin()
    other.load_state_dict({"w": saved[0]})
    again.load_state_dict(saved[1])
    resumed.load_state_dict(saved[2])
    for _ in range(5):
        step(again, towards(other))
    assert torch.equal(other.w, model.w)


def test_planning_takes_memory_like_the_entries() -> None:
    """A product of two matrices of 256² entries has 16 million products of numbers, which are not written out."""
    model, rules = orthonormal_with_sum(256)
    described = rules(affinet.weights(model))
    affinet.plan(described)  # what is imported and kept once
    tracemalloc.start()
    plan = affinet.plan(described)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Some thirty arrays of eight bytes per entry, equation and operand.
    assert peak <= 8 * 30 * 4 * 256**2
    assert plan.blocks[0].size == 256**2


def test_a_function_of_many_results_is_a_large_component() -> None:
    """`affinet.equations` and rules of the language on the same weights, one component of 90 equations."""
    model = made(w=np.random.default_rng(7).normal(size=(40, 3)))
    weights = affinet.weights(model)

    def spread(w: Tensor) -> Tensor:
        return torch.cat([w.sin().sum(dim=1), (w[:10] ** 3 - w[10:20]).ravel() + w.sum()])

    start = model.w.detach().clone()
    target, products = spread(start), (start[:20, 0] * start[:20, 1]).numpy()
    rules = [
        affinet.equations(lambda w: spread(w) - target, [weights.w], count=70),
        weights.w[:20, 0] * weights.w[:20, 1] == products,
    ]
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    handle = affinet.project(model, optimizer, rules)
    assert is_large(handle.plan)
    for _ in range(5):
        step(optimizer, towards(model))
        assert exceeded(handle, model) <= 1.0
