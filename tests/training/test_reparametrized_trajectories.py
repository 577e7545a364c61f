"""Reparametrized runs beside projected ones, and the optimum that they reach."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.training.reparametrization import Basis
from tests.training.problems import CENTRE, COUNT, CURVATURE, RULES, START, optimum

pytestmark = pytest.mark.filterwarnings("ignore::affinet.LongStepsWarning")  # sums of many entries are trained too

EXTRA: dict[str, Any] = {
    "symmetric_rows": lambda a, b: [a[:, :3] == a[:, :3].T, a[:, :3].sum(dim=1) == 1],
    "moments": lambda a, b: [a @ np.vander(np.arange(4.0), 2) == 1, b[0] == b[3]],
}
each_rules = pytest.mark.parametrize("rules", [*RULES, *EXTRA])


class Layers(torch.nn.Module):
    """The twenty weights themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(START[:12].reshape(3, 4)))
        self.b = torch.nn.Parameter(torch.tensor(START[12:].reshape(4, 2)))

    def forward(self) -> Tensor:
        return torch.cat([self.a.reshape(-1), self.b.reshape(-1)])

    def rules(self, name: str) -> list[affinet.Constraint]:
        w = affinet.weights(self)
        return (RULES.get(name) or EXTRA[name])(w.a, w.b)


def loss(flat: Tensor) -> Tensor:
    away = flat - torch.tensor(CENTRE)
    return 0.5 * away @ torch.tensor(CURVATURE) @ away


def furthest(rules: str, basis: Basis, make: Any, steps: int) -> float:
    """How far apart the weights of `project` and of `reparametrize` ever are."""
    ours, theirs = Layers(), Layers()
    stock = make(ours.parameters())
    affinet.project(ours, stock, ours.rules(rules))
    affinet.reparametrize(theirs, theirs.rules(rules), basis=basis)
    free = make(theirs.parameters())
    far = 0.0
    for _ in range(steps):
        for model, optimizer in ((ours, stock), (theirs, free)):
            optimizer.zero_grad()
            loss(model()).backward()
            optimizer.step()
        with torch.no_grad():
            far = max(far, float((ours() - theirs()).abs().max()))
    return far


@each_rules
def test_orthonormal_free_numbers_follow_the_projected_trajectory(rules: str) -> None:
    make = partial(optim.SGD, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)
    assert furthest(rules, "orthonormal", make, 2_000) <= 1e-10


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}], ids=str)
def test_other_forms_of_momentum_do_too(options: Any) -> None:
    assert furthest("cross_layer", "orthonormal", partial(optim.SGD, lr=0.02, **options), 300) <= 1e-10


@each_rules
@pytest.mark.parametrize(
    "make",
    [partial(optim.Adam, lr=0.01), partial(optim.Adam, lr=0.01, amsgrad=True), partial(optim.RMSprop, lr=0.0005)],
    ids=["Adam", "amsgrad", "RMSprop"],
)
def test_projected_numbers_follow_the_sandwich_under_adam(rules: str, make: Any) -> None:
    assert furthest(rules, "projection", make, 500) <= 1e-9


def test_free_numbers_that_are_weights_go_another_way() -> None:
    """A class of k copies moves k times as fast: the gradient is the sum."""
    assert furthest("tie", "free", partial(optim.SGD, lr=0.02), 20) > 1e-3


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
def test_adam_reaches_the_constrained_optimum(rules: str, basis: Basis) -> None:
    model = Layers()
    handle = affinet.reparametrize(model, model.rules(rules), basis=basis)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 1_500)
    for _ in range(1_500):
        optimizer.zero_grad()
        loss(model()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        assert float((model() - torch.tensor(optimum(rules))).abs().max()) <= 1e-7
    handle.bake()
    assert max(handle.violation().values()) <= 1e-13
    assert sum(p.numel() for p in model.parameters()) == COUNT


def test_decay_of_orthonormal_free_numbers_is_that_of_the_weights() -> None:
    model = Layers()
    affinet.reparametrize(model, model.rules("dense"))
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2_000):
        optimizer.zero_grad()
        loss(model()).backward()
        optimizer.step()
    with torch.no_grad():
        assert float((model() - torch.tensor(optimum("dense", 0.5))).abs().max()) <= 1e-12


def test_a_convolution_written_as_a_dense_layer_has_its_gradients() -> None:
    """`basis="free"` sums over the copies of a number, as torch.nn.Conv1d does."""
    kernel, size = torch.randn(3, dtype=torch.float64), 8
    conv = torch.nn.Conv1d(1, 1, 3, bias=False, dtype=torch.float64)
    dense = torch.nn.Linear(size, size - 2, bias=False, dtype=torch.float64)
    rows, columns = np.arange(size - 2)[:, None], np.arange(size)
    inside = (columns >= rows) & (columns < rows + 3)
    with torch.no_grad():
        conv.weight.copy_(kernel.view(1, 1, 3))
        dense.weight.zero_()
        for k in range(3):
            dense.weight[np.arange(size - 2), np.arange(size - 2) + k] = kernel[k]
    w = affinet.weights(dense).weight
    affinet.reparametrize(dense, [families.toeplitz(w), w[~inside] == 0], basis="free")
    ((name, free),) = dense.named_parameters()
    assert name == "parametrizations.weight.0.free"
    assert sorted(free.tolist()) == sorted(kernel.tolist())
    x = torch.randn(5, size, dtype=torch.float64)
    torch.testing.assert_close(dense(x), conv(x[:, None])[:, 0])
    for model in (dense, lambda x: conv(x[:, None])[:, 0]):
        (model(x) ** 3).sum().backward()
    assert free.grad is not None
    assert conv.weight.grad is not None
    torch.testing.assert_close(free.grad.sort()[0], conv.weight.grad.flatten().sort()[0])


def test_a_layer_in_classes_keeps_an_optimizer_state_of_one_number_a_class() -> None:
    pattern = np.random.default_rng(0).integers(0, 500, (200, 300))
    model = torch.nn.Linear(300, 200, bias=False)
    w = affinet.weights(model).weight
    handle = affinet.reparametrize(model, families.share(w, pattern))
    assert str(handle.trainable) == "500 of 60,000 numbers"
    optimizer = optim.Adam(model.parameters())
    model(torch.randn(4, 300)).square().sum().backward()
    optimizer.step()
    (state,) = optimizer.state.values()
    assert state["exp_avg"].numel() == state["exp_avg_sq"].numel() == 500
