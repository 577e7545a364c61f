"""Twenty weights in two layers under five kinds of rules, a quadratic over them, and its constrained minimum."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import cos, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor, optim

import affinet
from affinet import families
from affinet.system.system import System
from tests.oracle import Oracle, oracle

SHAPES = {"a": (3, 4), "b": (4, 2)}
COUNT = 20
DRAW = np.random.default_rng(20)
TURN = np.linalg.qr(DRAW.standard_normal((COUNT, COUNT)))[0]
CURVATURE = TURN @ np.diag(np.geomspace(0.3, 3.0, COUNT)) @ TURN.T
CENTRE = DRAW.standard_normal(COUNT)
DENSE = DRAW.standard_normal((3, COUNT))
START = DRAW.standard_normal(COUNT)

RULES: dict[str, Callable[[Any, Any], list[affinet.Constraint]]] = {
    "tie": lambda a, b: [a[0, 1] == a[2, 3], a[0, 0] == -b[3, 1]],
    "scaled_tie": lambda a, b: [a[0, 0] == 3 * b[1, 1] + 1, a[1] == 2 * a[2]],
    "sums": lambda a, b: [a.sum(dim=1) == 1, b.sum(dim=0) == [1, -1]],
    "dense": lambda a, b: [families.linear([a, b], DENSE, [1.0, 2.0, 3.0])],
    "cross_layer": lambda a, b: [a[:2, :2] == b[:2].T, a.sum() + b.sum() == 2],
}


@dataclass(frozen=True)
class Copy:
    """One problem: a kind of rules, the λ of coupled decay, and whether −f is maximized instead of f minimized."""

    rules: str
    decay: float = 0.0
    maximize: bool = False

    @property
    def name(self) -> str:
        return f"{self.rules}__{'decay' if self.decay else 'plain'}__{'up' if self.maximize else 'down'}"


class Problems(torch.nn.Module):
    """Independent copies of the problem side by side, so that one run of an optimizer solves them all."""

    def __init__(self, copies: Sequence[Copy], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.copies = tuple(copies)
        for copy in self.copies:
            layers = torch.nn.Module()
            first, second = np.split(START, [12])
            layers.register_parameter("a", torch.nn.Parameter(torch.tensor(first.reshape(3, 4), dtype=dtype)))
            layers.register_parameter("b", torch.nn.Parameter(torch.tensor(second.reshape(4, 2), dtype=dtype)))
            self.add_module(copy.name, layers)
        self.sign = torch.tensor([[-1.0 if copy.maximize else 1.0] for copy in self.copies], dtype=dtype)
        self.curvature, self.centre = torch.tensor(CURVATURE, dtype=dtype), torch.tensor(CENTRE, dtype=dtype)

    def flat(self) -> Tensor:
        """One row a copy."""
        return torch.cat([parameter.reshape(-1) for parameter in self.parameters()]).view(-1, COUNT)

    def forward(self) -> Tensor:
        return objective(self.flat(), self.sign, self.curvature, self.centre)

    def rules(self) -> list[affinet.Constraint]:
        w = affinet.weights(self)
        return [rule for copy in self.copies for rule in RULES[copy.rules](w[f"{copy.name}.a"], w[f"{copy.name}.b"])]

    def groups(self) -> list[dict[str, Any]]:
        """A parameter group for every combination of decay and direction; options left out where they are unused."""
        return list(grouped(self.copies, lambda copy: list(self.get_submodule(copy.name).parameters())))

    def found(self) -> np.ndarray:
        return self.flat().detach().double().numpy()


def objective(flat: Tensor, sign: Tensor, curvature: Tensor, centre: Tensor) -> Tensor:
    """Sum over copies of `± ½ (w − c)ᵀ H (w − c)`; a part that no other copy's depends on."""
    away = flat - centre
    return 0.5 * (sign * away * (away @ curvature)).sum()


def grouped(copies: Sequence[Copy], parameters: Callable[[Copy], list[Tensor]]) -> Iterator[dict[str, Any]]:
    for decay, maximize in sorted({(copy.decay, copy.maximize) for copy in copies}):
        chosen = [p for copy in copies if (copy.decay, copy.maximize) == (decay, maximize) for p in parameters(copy)]
        group: dict[str, Any] = {"params": chosen}
        if decay:
            group["weight_decay"] = decay
        if maximize:
            group["maximize"] = True
        yield group


@cache
def truth(rules: str) -> Oracle:
    """The dense system of one kind of rules; its columns are a, then b."""
    w = affinet.weights(SHAPES)
    return oracle(System.of(RULES[rules](w["a"], w["b"])))


@cache
def optimum(rules: str, decay: float = 0.0) -> np.ndarray:
    """The minimum of `f + decay ‖w‖² / 2` on the rules, from the dense KKT system."""
    a, b = truth(rules).matrix, truth(rules).rhs
    system = np.block([[CURVATURE + decay * np.eye(COUNT), a.T], [a, np.zeros((len(b), len(b)))]])
    wanted: np.ndarray = np.linalg.lstsq(system, np.concatenate([CURVATURE @ CENTRE, b]), rcond=1e-13)[0][:COUNT]
    return wanted


def distances(copies: Sequence[Copy], found: np.ndarray) -> dict[str, float]:
    """Copy → largest distance of an entry from the optimum."""
    return {c.name: float(np.abs(w - optimum(c.rules, c.decay)).max()) for c, w in zip(copies, found, strict=True)}


def train(
    loss: Callable[[], Tensor],
    optimizer: optim.Optimizer,
    steps: int,
    *,
    power: float = 2.0,
    after: Callable[[], object] = lambda: None,
) -> None:
    """`steps` steps with the learning rate `lr₀ cos(π/2 · t/T)^power`; a closure where the optimizer needs one."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    needs_closure = isinstance(optimizer, optim.LBFGS)

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    for step in range(steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            if not needs_closure:
                group["lr"] = rate * cos(pi / 2 * step / steps) ** power
        if needs_closure:
            optimizer.step(closure)
        else:
            closure()
            optimizer.step()
        after()
