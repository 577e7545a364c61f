"""Train Hock and Schittkowski's 18 problems from 12 starts each and show where each comes to rest.

All starts of a problem, at four learning rates, are rows of one training: rows share nothing. Each has 1,500 steps with
rates that fall along half a cosine. A start counts as arrived where the end of one of its four rows is a KKT point (the
dense test of `hock_schittkowski.py`); of the others the nearest row is shown, and why it is not there.

    python -m benchmarks.starts [--optimizer Adam] [--steps 1500]
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from time import process_time

import torch
from torch import Tensor, nn, optim

import affinet
from affinet.errors import InfeasibleError
from benchmarks.hock_schittkowski import DEPENDENT, PROBLEMS, Point, Problem

STEPS = 1500
RATES = (0.3, 0.1, 0.03, 0.01)
OPTIMIZERS: dict[str, Callable[[Sequence[dict[str, object]]], optim.Optimizer]] = {
    "Adam": optim.Adam,
    "SGD": lambda groups: optim.SGD(groups, momentum=0.9),
    "RMSprop": optim.RMSprop,
    "Adagrad": optim.Adagrad,
}
RATES_OF = {"SGD": (0.03, 0.01, 0.003, 0.001), "Adagrad": (1.0, 0.3, 0.1, 0.03)}
"""Rates of optimizers to which those of Adam do not apply."""
FLAT = 0.02
"""A curvature along the equations, as a share of the largest, below which a row that has the published value is on its
way to an optimum of higher order: there the gradient falls with the cube of the distance or faster."""


@dataclass(frozen=True)
class Outcome:
    """A start that was trained at four rates: the row that came nearest to rest, and why it is not at a KKT point.

    `optimal` where one of the rows that are at KKT points has the published value.
    """

    problem: str
    start: int
    point: Point
    kkt: bool
    optimal: bool
    reason: str


def outcomes(problem: Problem, optimizer: str = "Adam", steps: int = STEPS) -> list[Outcome]:
    """Train from all starts of a problem."""
    starts = problem.starts()
    reached = [_reached(problem, start) for start in starts]
    places = [k for k, found in enumerate(reached) if found]
    ends = _trained(problem, starts[places], optimizer, steps) if places else starts[:0].expand(4, 0, -1)
    rows = {place: ends[:, k] for k, place in enumerate(places)}
    return [_outcome(problem, start, rows.get(start)) for start in range(len(starts))]


def _reached(problem: Problem, start: Tensor) -> bool:
    """Whether attaching finds a way to the equations from a start."""
    model = _Rows(start[None], 1)
    try:
        affinet.project(model, optim.SGD(model.parameters(), lr=0.0), _rules(problem, model))
    except InfeasibleError:
        return False
    return True


class _Rows(nn.Module):
    """One weight of shape (starts, n) per learning rate."""

    def __init__(self, starts: Tensor, rates: int) -> None:
        super().__init__()
        self.rows = nn.ParameterList([nn.Parameter(starts.clone()) for _ in range(rates)])


def _rules(problem: Problem, model: _Rows) -> list[affinet.Constraint]:
    w = affinet.weights(model)
    per_rate = [problem.rules(w[f"rows.{k}"]) for k in range(len(model.rows))]
    return [rule.named(f"{rule.name} of rate {k + 1}") for k, rules in enumerate(per_rate) for rule in rules]


def _trained(problem: Problem, starts: Tensor, optimizer: str, steps: int) -> Tensor:
    """The ends (rates, starts, n)."""
    rates = RATES_OF.get(optimizer, RATES)
    model = _Rows(starts, len(rates))
    stepper = OPTIMIZERS[optimizer]([{"params": [p], "lr": r} for p, r in zip(model.rows, rates, strict=True)])
    affinet.project(model, stepper, _rules(problem, model))
    schedule = optim.lr_scheduler.CosineAnnealingLR(stepper, steps)
    for _ in range(steps):
        stepper.zero_grad()
        torch.stack([problem.loss(p).sum() for p in model.rows]).sum().backward()
        stepper.step()
        schedule.step()
    return torch.stack([p.detach() for p in model.rows])


def _outcome(problem: Problem, start: int, ends: Tensor | None) -> Outcome:
    if ends is None:
        return Outcome(problem.name, start, Point(inf, inf, inf), False, False, "no way to the equations was found")
    points = [problem.check(end) for end in ends]
    order = sorted(range(len(points)), key=lambda k: (points[k].violation > 1e-8, points[k].stationarity))
    best = points[order[0]]
    optimal = any(point.is_optimal(problem) for point in points)
    reason = "" if best.is_kkt else _reason(problem, ends[order[0]], best)
    return Outcome(problem.name, start, best, best.is_kkt, optimal, reason)


def _reason(problem: Problem, w: Tensor, point: Point) -> str:
    """What keeps a row from a KKT point, from the dense derivatives at its end."""
    if not point.violation < 1e-8:
        return "off the equations"
    derivatives = torch.func.jacrev(problem.residuals)(w)
    lengths = derivatives.norm(dim=1, keepdim=True)
    _, sizes, directions = torch.linalg.svd(derivatives / torch.where(lengths > 0, lengths, 1.0))
    if bool((sizes <= 1e3 * DEPENDENT * sizes[0]).any()):
        return "the equations' derivatives depend on each other at the end"
    gradient = torch.func.grad(problem.loss)(w)
    nu = torch.linalg.lstsq(derivatives.T, gradient[:, None]).solution[:, 0]

    def lagrangian(x: Tensor) -> Tensor:
        value: Tensor = problem.loss(x) - nu @ problem.residuals(x)
        return value

    hessian = torch.func.jacrev(torch.func.grad(lagrangian))(w)
    basis = directions[len(sizes) :].T
    curvatures = torch.linalg.eigvalsh(basis.T @ hessian @ basis)
    figures = f"curvatures {float(curvatures[0]):.1g} to {float(curvatures[-1]):.1g}"
    if point.is_optimal(problem) and bool(curvatures.abs().min() <= FLAT * curvatures.abs().max()):
        return f"at the published value, where the objective is of higher order ({figures})"
    return f"not at rest yet ({figures})"


def main(arguments: list[str] | None = None) -> None:
    """Print the table of all problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="Adam")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--only", action="append", help="problems, such as HS40; all by default")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore", affinet.errors.WatchWarning)
    chosen = [problem for problem in PROBLEMS if not options.only or problem.name in options.only]
    every: list[Outcome] = []
    print(f"{'problem':8} KKT of 12  published value   time")
    for problem in chosen:
        begun = process_time()
        results = outcomes(problem, options.optimizer, options.steps)
        every += results
        kkt, optimal = sum(r.kkt for r in results), sum(r.optimal for r in results)
        print(f"{problem.name:8} {kkt:9}  {optimal:15}  {process_time() - begun:4.0f} s")
        for result in results:
            if not result.kkt:
                figures = f"|Pg| {result.point.stationarity:.1e}, |c| {result.point.violation:.1e}"
                print(f"    start {result.start:2}: {figures}: {result.reason}")
    kkt, optimal = sum(r.kkt for r in every), sum(r.optimal for r in every)
    print(f"{options.optimizer}: {kkt} of {len(every)} at KKT points, {optimal} at the published value")


if __name__ == "__main__":
    main()
