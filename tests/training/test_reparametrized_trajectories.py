"""Reparametrized runs beside projected ones, and the optimum that they reach.

All kinds of rules are trained in one run, each on its own copy of the weights: the optimizers work entry by entry and
the loss is a sum over copies, so that each copy follows the trajectory that it would follow by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
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
ALL = (*RULES, *EXTRA)


class Layers(torch.nn.Module):
    """The twenty weights themselves, once for each kind of rules."""

    def __init__(self, *kinds: str) -> None:
        super().__init__()
        self.kinds = kinds
        first, second = torch.tensor(START).split([12, 8])
        self.a = torch.nn.ParameterDict({kind: first.clone().view(3, 4) for kind in kinds})
        self.b = torch.nn.ParameterDict({kind: second.clone().view(4, 2) for kind in kinds})

    def forward(self) -> Tensor:
        """A row of twenty weights for each kind of rules."""
        flat = [layers[kind].reshape(-1) for kind in self.kinds for layers in (self.a, self.b)]
        return torch.cat(flat).view(-1, COUNT)

    def rules(self) -> list[affinet.Constraint]:
        w = affinet.weights(self)
        return [r for kind in self.kinds for r in (RULES | EXTRA)[kind](w[f"a.{kind}"], w[f"b.{kind}"])]


def loss(rows: Tensor) -> Tensor:
    away = rows - torch.tensor(CENTRE)
    return 0.5 * (away * (away @ torch.tensor(CURVATURE))).sum()


def furthest(kinds: Sequence[str], basis: Basis, make: Any, steps: int) -> dict[str, float]:
    """How far apart the weights of `project` and of `reparametrize` ever are, for each kind of rules."""
    ours, theirs = Layers(*kinds), Layers(*kinds)
    stock = make(ours.parameters())
    affinet.project(ours, stock, ours.rules())
    affinet.reparametrize(theirs, theirs.rules(), basis=basis)
    free = make(theirs.parameters())
    far = torch.zeros(len(kinds), dtype=torch.float64)
    for _ in range(steps):
        for model, optimizer in ((ours, stock), (theirs, free)):
            optimizer.zero_grad()
            loss(model()).backward()
            optimizer.step()
        with torch.no_grad():
            far = torch.maximum(far, (ours() - theirs()).abs().amax(1))
    return dict(zip(kinds, far.tolist(), strict=True))


def test_orthonormal_free_numbers_follow_the_projected_trajectory() -> None:
    """At a rate of 0.1 and a curvature of 0.4 or more, 500 steps end e²⁰ times nearer to the optimum."""
    make = partial(optim.SGD, lr=0.01, momentum=0.9, nesterov=True, weight_decay=0.1)
    far = furthest(ALL, "orthonormal", make, 500)
    assert max(far.values()) <= 1e-10, far


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.3}], ids=str)
def test_other_forms_of_momentum_do_too(options: Any) -> None:
    (far,) = furthest(["cross_layer"], "orthonormal", partial(optim.SGD, lr=0.02, **options), 300).values()
    assert far <= 1e-10


@pytest.mark.parametrize(
    "make",
    [partial(optim.Adam, lr=0.01), partial(optim.Adam, lr=0.01, amsgrad=True), partial(optim.RMSprop, lr=0.0005)],
    ids=["Adam", "amsgrad", "RMSprop"],
)
def test_projected_numbers_follow_the_sandwich_under_adam(make: Any) -> None:
    far = furthest(ALL, "projection", make, 500)
    assert max(far.values()) <= 1e-9, far


def test_free_numbers_that_are_weights_go_another_way() -> None:
    """A class of k copies moves k times as fast: the gradient is the sum."""
    assert furthest(["tie"], "free", partial(optim.SGD, lr=0.02), 20)["tie"] > 1e-3


@pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
def test_adam_reaches_the_constrained_optimum(basis: Basis) -> None:
    model = Layers(*RULES)
    handle = affinet.reparametrize(model, model.rules(), basis=basis)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, 1_500)
    for _ in range(1_500):
        optimizer.zero_grad()
        loss(model()).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = dict(zip(RULES, model().numpy(), strict=True))
    far = {rules: float(np.abs(weights - optimum(rules)).max()) for rules, weights in found.items()}
    assert max(far.values()) <= 1e-7, far
    handle.bake()
    assert max(handle.violation().values()) <= 1e-13
    assert sum(p.numel() for p in model.parameters()) == COUNT * len(RULES)


def test_decay_of_orthonormal_free_numbers_is_that_of_the_weights() -> None:
    model = Layers("dense")
    affinet.reparametrize(model, model.rules())
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
