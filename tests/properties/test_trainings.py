"""Laws 1 and 3 to 9 over random models, rules and optimizers: what holds after attaching and after every step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

import affinet
from tests.oracle import Oracle, oracle
from tests.properties.checking import arrays, condition, copied, dtype_of, laid, misses, ties
from tests.properties.strategies import Said, examples, said

pytestmark = [
    pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning"),
    pytest.mark.filterwarnings("ignore::affinet.NothingTrainedWarning"),
    pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with no"),
]
DTYPES = (torch.float64, torch.float32, torch.bfloat16)
OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter]], optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=0.1),
    "Adam": lambda p: optim.Adam(p, lr=0.05, weight_decay=0.1),
    "AdamW": lambda p: optim.AdamW(p, lr=0.05),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.1),
}


def slope(model: nn.Module, step: int) -> None:
    """Seeded gradients for every parameter that is trained."""
    draw = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=draw, dtype=torch.float64).to(parameter.dtype)


def attached(rules: Said, name: str) -> tuple[affinet.Handle, optim.Optimizer, Oracle]:
    """Rules on the model, and the oracle of what is projected: frozen weights are constants in it."""
    optimizer = OPTIMIZERS[name](rules.model.parameters())
    handle = affinet.project(rules.model, optimizer, rules.rules)
    return handle, optimizer, oracle(handle.projector.plan.system)


@examples(60)
@given(rules=said(DTYPES), name=st.sampled_from(sorted(OPTIMIZERS)))
def test_after_every_step(rules: Said, name: str) -> None:
    stock, model = copy.deepcopy(rules.model), rules.model
    keys, parameters = list(model.state_dict()), [(n, id(p), p.data_ptr()) for n, p in model.named_parameters()]
    free = OPTIMIZERS[name](stock.parameters())
    before = copied(model)
    handle, optimizer, truth = attached(rules, name)
    _moved(handle, before, copied(model), truth)
    touched = {p.name for p in handle.plan.parameters}
    allowed = 4 + 1e3 * condition(truth) * (2.0**-52 if _coarse(model) else 1.0)
    for step in range(3):
        for each, one in ((model, optimizer), (stock, free)):
            slope(each, step)
            one.step()
        now = copied(model)
        assert misses(truth, now) <= allowed, step
        _tied(truth, now)
        for key, values in stock.named_parameters():
            if key not in touched or not values.requires_grad:
                assert torch.equal(now[key], values), f"{key} is in no rule"
    assert list(model.state_dict()) == keys
    assert [(n, id(p), p.data_ptr()) for n, p in model.named_parameters()] == parameters


def _coarse(model: nn.Module) -> bool:
    return any(p.dtype != torch.float64 for p in model.parameters())


def _moved(
    handle: affinet.Handle, before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], truth: Oracle
) -> None:
    """Attaching goes to the nearest point, as far as it says; what is in no equation keeps its bits."""
    start = arrays(before)
    wanted, coarsest = truth.project(start), max(torch.finfo(x.dtype).eps for x in before.values())
    size = 1 + np.linalg.norm(laid(truth, start)) + np.linalg.norm(truth.rhs)
    for key, values in after.items():
        far = after[key].double() - before[key].double()
        if key in handle.moved:
            assert handle.moved[key] == pytest.approx(float(far.norm()), rel=1e-9)
        if key in wanted:
            gap = np.abs(values.double().numpy() - wanted[key]).max(initial=0.0)
            assert gap <= (4 * coarsest + 1e-13 * condition(truth)) * size, key
        else:
            assert torch.equal(values, before[key])
    untouched = ~(truth.matrix != 0).any(axis=0)
    assert np.array_equal(laid(truth, arrays(after))[untouched], laid(truth, start)[untouched])


def _tied(truth: Oracle, now: dict[str, torch.Tensor]) -> None:
    flat = laid(truth, arrays(now))
    for one, other, sign in ties(truth):
        if dtype_of(truth, now, one) == dtype_of(truth, now, other):
            assert flat[one] == sign * flat[other]


@examples(12)
@given(rules=said(DTYPES), name=st.sampled_from(sorted(OPTIMIZERS)))
def test_the_same_seed_gives_the_same_bits(rules: Said, name: str) -> None:
    found = []
    for model in (copy.deepcopy(rules.model), copy.deepcopy(rules.model)):
        optimizer = OPTIMIZERS[name](model.parameters())
        affinet.project(model, optimizer, rules.rules)
        for step in range(3):
            slope(model, step)
            optimizer.step()
        found.append(copied(model))
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


@examples(15)
@given(rules=said())
def test_sgd_projects_weights_gradients_and_updates_alike(rules: Said) -> None:
    model = rules.model
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    truth = oracle(affinet.project(model, optimizer, rules.rules).projector.plan.system)
    w = laid(truth, arrays(copied(model)))
    by_gradient, by_weights, speed, whole = w.copy(), w.copy(), np.zeros_like(w), np.zeros_like(w)
    for step in range(6):
        slope(model, step)
        g = laid(truth, {key: np.zeros(0) if p.grad is None else p.grad.numpy() for key, p in model.named_parameters()})
        optimizer.step()
        speed = 0.9 * speed + (g - truth.inverse @ (truth.matrix @ g))
        whole = 0.9 * whole + g
        by_gradient = by_gradient - 0.1 * speed
        moved = by_weights - 0.1 * whole
        by_weights = moved - truth.inverse @ (truth.matrix @ moved - truth.rhs)
    found = laid(truth, arrays(copied(model)))
    allowed = 1e-12 * condition(truth) * (1 + np.linalg.norm(w))
    assert np.abs(found - by_gradient).max(initial=0.0) <= allowed
    assert np.abs(found - by_weights).max(initial=0.0) <= allowed


@examples(8)
@given(rules=said(), name=st.sampled_from(["SGD", "Adam", "RMSprop", "LBFGS"]))
def test_the_limit_is_the_constrained_optimum(rules: Said, name: str) -> None:
    """Of a diagonal quadratic, whose optimum under the rules is one linear solve away."""
    model = rules.model
    trained = [p for p in model.parameters() if p.requires_grad]
    made = {
        "SGD": lambda: optim.SGD(trained, lr=0.3, momentum=0.5),
        "Adam": lambda: optim.Adam(trained, lr=0.1),
        "RMSprop": lambda: optim.RMSprop(trained, lr=0.02),
        "LBFGS": lambda: optim.LBFGS(trained, max_iter=40, line_search_fn="strong_wolfe", tolerance_grad=1e-12),
    }
    optimizer = made[name]()
    truth = oracle(affinet.project(model, optimizer, rules.rules).projector.plan.system)
    draw = np.random.default_rng(0)
    h = {key: np.asarray(0.5 + draw.random(tuple(p.shape))) for key, p in model.named_parameters()}
    centre = {key: np.asarray(draw.standard_normal(tuple(p.shape))) for key, p in model.named_parameters()}

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        named = [(key, p) for key, p in model.named_parameters() if p.requires_grad]
        parts = [(torch.from_numpy(h[key]) * (p - torch.from_numpy(centre[key])) ** 2).sum() / 2 for key, p in named]
        value = torch.stack(parts).sum()
        value.backward()
        return value

    steps = 3 if name == "LBFGS" else 400
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        if name != "LBFGS":
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (0.5 + 0.5 * np.cos(np.pi * step / steps)) ** 2
            loss()
        optimizer.step(loss) if name == "LBFGS" else optimizer.step()
    if not truth.matrix.any():
        return
    a, curved = truth.matrix, np.diag(laid(truth, h))
    system = np.block([[curved, a.T], [a, np.zeros((len(a), len(a)))]])
    wanted = np.linalg.lstsq(system, np.concatenate([curved @ laid(truth, centre), truth.rhs]), rcond=1e-12)[0]
    found = laid(truth, arrays(copied(model)))
    size = 1 + np.abs(wanted[: len(found)]).max(initial=0.0)
    assert np.abs(found - wanted[: len(found)]).max(initial=0.0) <= 2e-3 * size
