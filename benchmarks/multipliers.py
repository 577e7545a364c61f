"""`python -m benchmarks.multipliers`: how many of 216 starts `affinet.lagrange` brings to a KKT point, by one default.

The problems and starts are those of `benchmarks.hock_schittkowski`. Each run takes 1,000 steps of Adam with a learning
rate that falls along a cosine, and ends at the nearest point of the rules. A start counts if one of four learning rates
brings it to a KKT point; penalty and dual rate are the defaults of `affinet.lagrange` for all. Losses are multiplied by
`--scale` and points are judged by the loss without it, so that methods that depend on the scale of the loss are told
apart.

All starts of a problem, at the four rates, are rows of one training, which share nothing but ρ: `ρ = 30 ‖g‖ / max(1,
‖w‖)` would be that of all rows. So each row is trained alone for the ten steps that decide on ρ, and its loss is then
multiplied by a number, so that the common ρ is to it what its own is alone. `--alone` trains each row by itself to the
end, in ten times the time.
"""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

import affinet
from affinet.errors import AffinetError
from benchmarks.hock_schittkowski import PROBLEMS, STARTS, Point, Problem

RATES = (0.1, 0.3, 0.03, 0.01)
STEPS = 1000
PROBED = 10
"""Steps whose largest gradient decides on ρ."""


def main(
    scale: Annotated[list[float] | None, typer.Option(help="what losses are multiplied by")] = None,
    penalty: float = 30.0,
    dual_rate: float = 0.03,
    rate: Annotated[list[float] | None, typer.Option(help="learning rates, of which the best counts")] = None,
    starts: Annotated[int, typer.Option(help="starts of each problem, the published one first")] = STARTS,
    problem: Annotated[list[str] | None, typer.Option(help="only problems of these names, such as HS78")] = None,
    alone: Annotated[bool, typer.Option(help="train each start by itself")] = False,
) -> None:
    """Print, for each scale, how many starts of each problem come to a KKT point, and how many to the optimum."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen, rates = [each for each in PROBLEMS if not problem or each.name in problem], rate or RATES
    for factor in scale or [1.0, 0.01, 100.0]:
        began, total = time.process_time(), Counter[str]()
        print(f"loss times {factor:g}: KKT, published optimum, of the starts")
        for each in chosen:
            places, reached = each.starts()[:starts], Counter[str]()
            if alone:
                points = [[trained(each, w, factor, r, penalty, dual_rate) for r in rates] for w in places]
            else:
                points = trained_together(each, places, factor, rates, penalty, dual_rate)
            for of_start in points:
                reached["KKT"] += any(point.is_kkt for point in of_start)
                reached["optimum"] += any(point.is_optimal(each) for point in of_start)
            total += reached
            print(f"  {each.name:5} {reached['KKT']:3} {reached['optimum']:3}", flush=True)
        seconds = time.process_time() - began
        print(f"  all   {total['KKT']:3} {total['optimum']:3}   {seconds:.0f} s of processor time", flush=True)


def trained(
    problem: Problem,
    start: Tensor,
    scale: float,
    rate: float,
    penalty: float,
    dual_rate: float,
) -> Point:
    """The end of one run."""
    w, handle = _alone(problem, start, scale, rate, penalty, dual_rate, STEPS)
    with suppress(AffinetError):  # without a way to the rules the point stays where it is, and is no KKT point
        handle.finish()
    return problem.check(w)


def _alone(
    problem: Problem, start: Tensor, scale: float, rate: float, penalty: float, dual_rate: float, steps: int
) -> tuple[nn.Parameter, affinet.LagrangeHandle]:
    """The weight and its handle after steps of a run of STEPS."""
    model, w = nn.Module(), nn.Parameter(start.clone())
    model.w = w
    optimizer = torch.optim.Adam([w], lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    handle = affinet.lagrange(
        model, optimizer, problem.rules(affinet.weights(model).w), penalty=penalty, dual_rate=dual_rate
    )
    for _ in range(steps):
        optimizer.zero_grad()
        (scale * problem.loss(w)).backward()
        optimizer.step()
        schedule.step()
    return w, handle


class _Rows(nn.Module):
    """One weight of shape (starts, n) per learning rate."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.ParameterList([nn.Parameter(each.clone()) for each in rows])


def trained_together(
    problem: Problem, starts: Tensor, scale: float, rates: Sequence[float], penalty: float, dual_rate: float
) -> list[list[Point]]:
    """For each start, the ends at all rates, of one training of all."""
    beginnings, penalties = torch.zeros(len(rates), *starts.shape).to(starts), torch.ones(len(rates), len(starts))
    for k, rate in enumerate(rates):
        for s, start in enumerate(starts):
            beginnings[k, s] = _alone(problem, start, scale, rate, penalty, dual_rate, 0)[0].detach()
            penalties[k, s] = _alone(problem, start, scale, rate, penalty, dual_rate, PROBED)[1].penalty
    model, factors = _Rows(beginnings), scale / penalties.to(starts)
    groups = [{"params": [w], "lr": rate} for w, rate in zip(model.rows, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, foreach=False)
    for group, of_rate in zip(optimizer.param_groups, penalties.to(starts), strict=True):
        group["eps"] = group["eps"] / of_rate[:, None]  # relative to gradients it is what it is alone
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    weights = affinet.weights(model)
    rules = [
        rule.named(f"{rule.name} of rate {k}")
        for k in range(len(rates))
        for rule in problem.rules(weights[f"rows.{k}"])
    ]
    handle = affinet.lagrange(model, optimizer, rules, dual_rate=dual_rate, feasible_start=False)
    # ρ is 1 for all: each loss was divided by the ρ that it has alone.
    handle.load_state_dict({**handle.state_dict(), "penalty": 1.0, "measured": PROBED})
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.stack([(f * problem.loss(w)).sum() for f, w in zip(factors, model.rows, strict=True)]).sum().backward()
        optimizer.step()
        schedule.step()
    return [[problem.check(_settled(problem, w[s])) for w in model.rows] for s in range(len(starts))]


def _settled(problem: Problem, w: Tensor) -> Tensor:
    """The nearest point of the rules, w itself where no way there is found."""
    model, moved = nn.Module(), nn.Parameter(w.detach().clone())
    model.w = moved
    with suppress(AffinetError):
        affinet.project(model, torch.optim.SGD([moved], lr=0.0), problem.rules(affinet.weights(model).w))
    return moved.detach()


if __name__ == "__main__":
    typer.run(main)
