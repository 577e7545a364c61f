"""Optimizers of the kinds that other libraries have, written down in a few lines each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import optim


class ScheduleFree(optim.Optimizer):
    """SGD or RMSprop without a schedule (Defazio et al. 2024): steps from `z`, and has the average of it when asked.

    `z` is made inside of the first step, as others do it.
    """

    def __init__(self, params: Any, lr: float, beta: float = 0.9, scaled: bool = True) -> None:
        super().__init__(params, {"lr": lr, "beta": beta, "scaled": scaled, "k": 0, "training": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        for group in self.param_groups:
            assert group["training"]
            group["k"] += 1
            for y in group["params"]:
                if y.grad is None:
                    continue
                state = self.state[y]
                if not state:
                    state["z"], state["square"] = y.clone(), torch.zeros_like(y)
                state["square"].mul_(0.99).addcmul_(y.grad, y.grad, value=0.01)
                step = y.grad / (state["square"].sqrt() + 1e-8) if group["scaled"] else y.grad
                share, beta = 1.0 / group["k"], group["beta"]
                y.lerp_(state["z"], share).add_(step, alpha=group["lr"] * (beta * (1.0 - share) - 1.0))
                state["z"].sub_(step, alpha=group["lr"])

    @torch.no_grad()
    def eval(self) -> None:
        self._turn(False, lambda beta: 1.0 - 1.0 / beta)

    @torch.no_grad()
    def train(self) -> None:
        self._turn(True, lambda beta: 1.0 - beta)

    def _turn(self, training: bool, weight: Callable[[float], float]) -> None:
        for group in self.param_groups:
            if group["training"] != training:
                group["training"] = training
                for p in group["params"]:
                    if "z" in self.state[p]:
                        p.lerp_(self.state[p]["z"], weight(group["beta"]))


class SharpnessAware(optim.Optimizer):
    """Two passes (Foret et al. 2021): up to the worst point nearby, and down from there with its gradient."""

    def __init__(self, params: Any, base: type[optim.Optimizer], rho: float = 0.05, **options: Any) -> None:
        super().__init__(params, {"rho": rho, **options})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad: bool = False) -> None:
        held = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([p.grad.norm() for p in held]))
        for p in held:
            self.state[p]["old"] = p.clone()
            p.add_(p.grad, alpha=float(self.param_groups[0]["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad: bool = False) -> None:
        for p, state in self.state.items():
            if "old" in state:
                p.copy_(state["old"])
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        self.first_step(zero_grad=True)
        with torch.enable_grad():
            closure()
        self.second_step()


class TwoPasses(optim.SGD):
    """Two passes without an inner optimizer."""

    def first_step(self) -> None: ...

    def second_step(self) -> None: ...


class Lookahead(optim.Optimizer):
    """Every k steps the weights go half-way to slow ones (Zhang et al. 2019), which it copies when it is made."""

    def __init__(self, optimizer: optim.Optimizer, k: int = 3) -> None:
        super().__init__(optimizer.param_groups, {})
        self.optimizer, self.k, self.count = optimizer, k, 0
        self.param_groups = optimizer.param_groups
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"slow": p.detach().clone(), "slow_momentum": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = self.optimizer.step(closure)
        self.count += 1
        if self.count % self.k == 0:
            for p, state in self.state.items():
                p.lerp_(state["slow"], 0.5)
                state["slow"].copy_(p)
        return loss


class Delegating(optim.Optimizer):
    """Passes everything on, and has no hooks: it never calls `Optimizer.__init__`."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        self.optimizer = optimizer

    @property
    def state(self) -> Any:
        return self.optimizer.state

    @property
    def param_groups(self) -> Any:
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step(closure)


class Moving(Delegating):
    """Has no hooks, and state of its own."""

    def __init__(self, optimizer: optim.Optimizer) -> None:
        super().__init__(optimizer)
        self.own: Any = defaultdict(dict)

    @property
    def state(self) -> Any:
        return self.own


class AverageFromZero(optim.SGD):
    """Keeps `0.9 average + 0.1 w`, from zero on, as the moving averages of evaluations do."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        for p in self.param_groups[0]["params"]:
            state = self.state[p]
            state.setdefault("average", torch.zeros_like(p)).mul_(0.9).add_(p, alpha=0.1)
        return loss


class EightBitAdam(optim.Optimizer):
    """Adam whose moments are kept in 8 bits, on scales by parameter, as bitsandbytes does by blocks."""

    def __init__(self, params: Any, lr: float) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                moments = [
                    state[key].to(p.dtype) * state[f"{key}_scale"] if state else torch.zeros_like(p)
                    for key in ("first", "root")
                ]
                first = moments[0].lerp(p.grad, 0.1)
                root = (0.99 * moments[1].square() + 0.01 * p.grad.square()).sqrt()
                for key, moment in (("first", first), ("root", root)):
                    scale = moment.abs().max() / 127.0 + torch.finfo(p.dtype).tiny
                    state[key], state[f"{key}_scale"] = (moment / scale).round().to(torch.int8), scale
                p.sub_(first / (root + root.max() / 127.0 + 1e-12), alpha=group["lr"])
