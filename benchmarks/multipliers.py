"""`python -m benchmarks.multipliers`: how many of 216 starts `affinet.lagrange` brings to a KKT point, by one default.

The problems and starts are those of `benchmarks.hock_schittkowski`. Each run takes 1,000 steps of Adam with a learning
rate that falls along a cosine, and ends with `handle.finish()`. A start counts if one of four learning rates brings it
to a KKT point; penalty and dual rate are the defaults of `affinet.lagrange` for all. Losses are multiplied by `--scale`
and points are judged by the loss without it, so that methods that depend on the scale of the loss are told apart.
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
from torch import Tensor

import affinet
from affinet.errors import AffinetError
from benchmarks.hock_schittkowski import PROBLEMS, STARTS, Point, Problem

RATES = (0.1, 0.3, 0.03, 0.01)
STEPS = 1000


def main(
    scale: Annotated[list[float] | None, typer.Option(help="what losses are multiplied by")] = None,
    penalty: float = 30.0,
    dual_rate: float = 0.03,
    rate: Annotated[list[float] | None, typer.Option(help="learning rates, of which the best counts")] = None,
    starts: Annotated[int, typer.Option(help="starts of each problem, the published one first")] = STARTS,
    problem: Annotated[list[str] | None, typer.Option(help="only problems of these names, such as HS78")] = None,
) -> None:
    """Print, for each scale, how many starts of each problem come to a KKT point, and how many to the optimum."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen = [each for each in PROBLEMS if not problem or each.name in problem]
    for factor in scale or [1.0, 0.01, 100.0]:
        began, total, runs = time.process_time(), Counter[str](), 0
        print(f"loss times {factor:g}: KKT, published optimum, of the starts; runs")
        for each in chosen:
            reached = Counter[str]()
            for start in each.starts()[:starts]:
                points = _ends(each, start, factor, rate or RATES, penalty, dual_rate)
                reached["KKT"] += any(point.is_kkt for point in points)
                reached["optimum"] += any(point.is_optimal(each) for point in points)
                runs += len(points)
            total += reached
            print(f"  {each.name:5} {reached['KKT']:3} {reached['optimum']:3}", flush=True)
        seconds = time.process_time() - began
        print(
            f"  all   {total['KKT']:3} {total['optimum']:3}   {runs} runs, {seconds:.0f} s of processor time",
            flush=True,
        )


def _ends(
    problem: Problem, start: Tensor, scale: float, rates: Sequence[float], penalty: float, dual_rate: float
) -> list[Point]:
    """The ends with each learning rate, until one of them is a KKT point."""
    points: list[Point] = []
    for rate in rates:
        points.append(trained(problem, start, scale, rate, penalty, dual_rate))
        if points[-1].is_kkt:
            break
    return points


def trained(problem: Problem, start: Tensor, scale: float, rate: float, penalty: float, dual_rate: float) -> Point:
    """The end of one run."""
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(start.clone())
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    handle = affinet.lagrange(
        model, optimizer, problem.rules(affinet.weights(model).w), penalty=penalty, dual_rate=dual_rate
    )
    for _ in range(STEPS):
        optimizer.zero_grad()
        (scale * problem.loss(model.w)).backward()
        optimizer.step()
        schedule.step()
    with suppress(AffinetError):  # without a way to the rules the point stays where it is, and is no KKT point
        handle.finish()
    return problem.check(model.w)


if __name__ == "__main__":
    typer.run(main)
