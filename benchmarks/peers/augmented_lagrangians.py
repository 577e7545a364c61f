"""`python -m benchmarks.peers.augmented_lagrangians`: `affinet.lagrange` by its defaults, others at their best.

The published starts of the 18 problems of `benchmarks.hock_schittkowski`, 1,000 steps of Adam at one learning rate that
falls along a cosine. The others are Cooper's augmented Lagrangian (cooper-optim), with the best of 12 settings of
penalty and dual rate, and the ALM of humancompatible-train with the best of the same 12, where they are installed. All
begin at the nearest point that satisfies the rules, and the end of all is moved there: what affinet does by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import torch
from torch import Tensor

import affinet
from affinet.errors import AffinetError
from benchmarks.hock_schittkowski import PROBLEMS, Point, Problem
from benchmarks.multipliers import STEPS, trained

RATE = 0.1
PENALTIES, DUAL_RATES = (1.0, 10.0, 100.0), (0.01, 0.1, 1.0, 10.0)
Train = Callable[[Problem, Tensor, float, float], Tensor]


def with_cooper(problem: Problem, start: Tensor, penalty: float, dual_rate: float) -> Tensor:
    """The weights after a training by Cooper."""
    import cooper

    class Equations(cooper.ConstrainedMinimizationProblem):
        def __init__(self) -> None:
            super().__init__()
            coefficient = cooper.penalty_coefficients.DensePenaltyCoefficient(init=torch.tensor(penalty).double())
            self.rules = cooper.Constraint(
                constraint_type=cooper.ConstraintType.EQUALITY,
                formulation_type=cooper.formulations.AugmentedLagrangian,
                multiplier=cooper.multipliers.DenseMultiplier(
                    init=torch.zeros_like(problem.residuals(start)), dtype=torch.float64
                ),
                penalty_coefficient=coefficient,
            )

        def compute_cmp_state(self, w: Tensor) -> Any:
            observed = {self.rules: cooper.ConstraintState(violation=problem.residuals(w))}
            return cooper.CMPState(loss=problem.loss(w), observed_constraints=observed)

    w, cmp = torch.nn.Parameter(start.clone()), Equations()
    primal, schedule = _adam(w)
    dual = torch.optim.SGD(cmp.dual_parameters(), lr=dual_rate, maximize=True)
    optimizer = cooper.optim.AlternatingDualPrimalOptimizer(cmp=cmp, primal_optimizers=primal, dual_optimizers=dual)
    for _ in range(STEPS):
        optimizer.roll(compute_cmp_state_kwargs={"w": w})
        schedule.step()
    return w.detach()


def with_humancompatible(problem: Problem, start: Tensor, penalty: float, dual_rate: float) -> Tensor:
    """The weights after a training by the ALM of humancompatible-train."""
    from humancompatible.train.dual_optim import ALM

    w = torch.nn.Parameter(start.clone())
    primal, schedule = _adam(w)
    dual = ALM(m=len(problem.residuals(start)), lr=dual_rate, penalty=penalty, augmentation="quadratic")
    for _ in range(STEPS):
        primal.zero_grad()
        dual.forward_update(problem.loss(w), problem.residuals(w)).backward()
        primal.step()
        schedule.step()
    return w.detach()


PEERS: dict[str, Train] = {"cooper": with_cooper, "humancompatible": with_humancompatible}


def main() -> None:
    """Print how many of 18 published starts come to a KKT point, for affinet and for the best setting of each peer."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    warnings.simplefilter("ignore")
    ours = [trained(problem, problem.starts()[0], 1.0, RATE, 30.0, 0.03) for problem in PROBLEMS]
    print(f"affinet.lagrange, defaults: {sum(point.is_kkt for point in ours)} of {len(PROBLEMS)}", flush=True)
    starts = [_settled(problem, problem.starts()[0]) for problem in PROBLEMS]
    for name, train in PEERS.items():
        try:
            counts = {
                setting: sum(point.is_kkt for point in _ends(train, starts, *setting))
                for setting in product(PENALTIES, DUAL_RATES)
            }
        except ImportError as missing:
            print(f"{name}: not installed ({missing})")
            continue
        penalty, dual_rate = max(counts, key=lambda setting: counts[setting])
        best = f"penalty {penalty:g}, dual rate {dual_rate:g}"
        print(f"{name}, best of {len(counts)} settings ({best}): {max(counts.values())} of {len(PROBLEMS)}", flush=True)
        print(f"  all settings: {sorted(counts.values(), reverse=True)}", flush=True)


def _ends(train: Train, starts: list[Tensor], penalty: float, dual_rate: float) -> Iterator[Point]:
    for problem, start in zip(PROBLEMS, starts, strict=True):
        w = train(problem, start, penalty, dual_rate)
        yield problem.check(_settled(problem, w) if bool(torch.isfinite(w).all()) else w)


def _settled(problem: Problem, w: Tensor) -> Tensor:
    """The nearest point that satisfies the rules, or the weights themselves where no way there is found."""
    rules = problem.rules(affinet.weights({"w": tuple(w.shape)}).w)
    with suppress(AffinetError):
        return affinet.plan(rules).projector({"w": w}).project({"w": w})["w"]
    return w


def _adam(w: torch.nn.Parameter) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    optimizer = torch.optim.Adam([w], lr=RATE)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)


if __name__ == "__main__":
    main()
