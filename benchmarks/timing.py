"""The figures of one workload: planning, both passes of our projection against code by hand, whole training steps."""

from __future__ import annotations

import copy
import gc
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import perf_counter
from unittest.mock import patch

import torch
from torch import Tensor, nn

import affinet
from affinet.kernels.torch import looped
from affinet.training.gradient_terms import Added
from affinet.training.learning import Learning
from benchmarks.apart import tell
from benchmarks.measuring import Call, Effort, Spread, by_turns, extra_memory, repeated, settled, traced
from benchmarks.results import Row, outcomes
from benchmarks.workload import Figure, Workload
from benchmarks.workloads import WORKLOADS

PLANNING = Effort(seconds=3.0, most=7)
PASSES = Effort(seconds=2.0)
STEPS = Effort(seconds=8.0)
SETTLED = 40
"""Steps of the landings that are timed, the second half of them."""
AWAY = 1e-3
"""By how much weights are off the rules before they are projected: about one step of the optimizer."""


@dataclass(frozen=True)
class Setting:
    """Where to measure, and which share of the usual time to take."""

    device: torch.device
    share: float = 1.0


Found = tuple[dict[Figure, float], dict[str, Spread]]


def measured(workload: Workload, setting: Setting) -> Iterator[Row]:
    """The figures of one workload, each time with more of them: planning, passes, steps, memory of planning."""
    job = workload.job(1)
    model = job.model()  # on the CPU, whatever the device: the same numbers, and planning knows no device

    def build() -> affinet.Plan:
        return affinet.plan(job.rules(affinet.weights(model)))

    plan, planning = repeated(build, replace(PLANNING, seconds=PLANNING.seconds * setting.share))
    figures = {Figure.PLANNING: planning.median, Figure.BLOCKS: float(len(plan.blocks))}
    seconds = {"planning": planning}
    notes: dict[str, object] = {"plan": repr(plan), "blocks": sorted({type(block).__name__ for block in plan.blocks})}

    def row() -> Row:
        titled = {figure.title: value for figure, value in figures.items()}
        return Row(workload.name, workload.says, titled, seconds, outcomes(workload.targets, figures), notes)

    yield row()
    if job.batch is not None:
        model.to(setting.device)
        eager = [_eager_steps] if any(target.figure is Figure.EAGER for target in workload.targets) else []
        landing = (
            [_landings] if any(target.figure in (Figure.LANDING, Figure.ADAM) for target in workload.targets) else []
        )
        measuring = [_measuring] if any(target.figure is Figure.MEASURING for target in workload.targets) else []
        for stage in (_passes, *measuring, *landing, _steps, *eager):
            found, times = stage(workload, model, plan, setting)
            figures |= found
            seconds |= times
            yield row()
        notes |= _floor(seconds)
        yield row()
    size = plan.size
    del plan
    _, kept, peak = traced(build)
    figures |= {Figure.PEAK: float(peak), Figure.KEPT: float(kept), Figure.KEPT_AN_ENTRY: kept / size}
    yield row()


def _passes(workload: Workload, model: nn.Module, plan: affinet.Plan, setting: Setting) -> Found:
    """Both passes of a step: ours, by hand, and a plain copy of the same bytes.

    Ours are what the hooks call: `project_gradients_` and `project_`. Weights start a step's length off the rules and
    gradients as they come from a backward pass, put back before every call, so that an iterative solver has its work.
    The copy reads and writes every parameter that the rules speak of once, all of its entries.
    """
    job = workload.job(1)
    names = [parameter.name for parameter in plan.parameters]
    every = dict(model.named_parameters())
    weights = {name: every[name].detach().clone() for name in names}
    gradients = {name: torch.randn_like(weight) * 1e-2 for name, weight in weights.items()}

    def attach() -> affinet.Projector:
        projector: affinet.Projector = plan.projector(weights)
        projector.project_(weights, passes=2)
        projector.project_gradients_({k: g.clone() for k, g in gradients.items()} if small else gradients, weights, {})
        return projector

    _warm(workload)
    small = sum(weight.numel() for weight in weights.values()) < 1e6
    found: list[affinet.Projector] = []
    extra = extra_memory(lambda: found.append(attach()), setting.device)
    figures = {} if extra is None else {Figure.EXTRA: float(extra)}
    source_w = {name: weight + AWAY * torch.randn_like(weight) for name, weight in weights.items()}
    source_g = {name: torch.randn_like(weight) * 1e-2 for name, weight in weights.items()}
    by_hand = job.by_hand(weights) if job.by_hand is not None else None
    effort, settle = PASSES.scaled(setting.share), settled(setting.device)
    seconds: dict[str, Spread] = {}
    for title, source, ours, hand in (
        ("project", source_w, partial(found[0].project_, weights), by_hand and partial(by_hand.project_, weights)),
        (
            "gradient",
            source_g,
            partial(found[0].project_gradients_, gradients, weights, {}),
            by_hand and partial(by_hand.gradient_, gradients),
        ),
    ):
        if title == "gradient" and found[0].has_inequalities:
            continue  # their gradients are projected along a face, which a training finds
        tensors = weights if title == "project" else gradients
        sides = {"ours": ours, "copy": partial(_put, tensors, source)} | ({"by hand": hand} if hand else {})
        taken = by_turns(sides, effort, before=partial(_put, tensors, source), settle=settle)
        seconds |= {f"{title}, {side}": spread for side, spread in taken.items()}
        if by_hand is not None:
            ratio = taken["ours"].median / taken["by hand"].median
            figures[Figure.PROJECT if title == "project" else Figure.GRADIENT] = ratio
    return figures, seconds


def _measuring(workload: Workload, model: nn.Module, plan: affinet.Plan, setting: Setting) -> Found:
    """`violation` beside one projection of the same weights, the first call, which reads the rules, left out."""
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    projector: affinet.Projector = plan.projector(weights)
    projector.project_(weights, passes=2)
    began = perf_counter()
    projector.violation(weights)
    first = Spread.of([perf_counter() - began])
    sides: dict[str, Call] = {
        "measuring": partial(projector.violation, weights),
        "project": partial(projector.project_, weights),
    }
    taken = by_turns(sides, PASSES.scaled(setting.share), settle=settled(setting.device))
    ratio = taken["measuring"].median / taken["project"].median
    return {Figure.MEASURING: ratio}, {"measuring, first": first, "measuring": taken["measuring"]}


def _landings(workload: Workload, model: nn.Module, plan: affinet.Plan, setting: Setting) -> Found:
    """A landing, a projection of weights that a step moved off the set, code by hand for it, and torch's step itself.

    The loss is half the squared distance to a random point off the set, so that a step costs no more than the
    optimizer and the rules do. A cold projection starts from random weights.
    """
    job = workload.job(1)
    names = [parameter.name for parameter in plan.parameters]
    every = dict(model.named_parameters())
    weights = nn.ParameterDict({name.replace(".", "_"): every[name].detach().clone() for name in names})
    ours = {name: weights[name.replace(".", "_")] for name in names}
    projector: affinet.Projector = plan.projector(ours)
    targets = {name: weight.detach() + AWAY * torch.randn_like(weight) for name, weight in ours.items()}
    projector.project_(ours)
    learning = Learning(projector, ours, frozenset())
    optimizer = torch.optim.AdamW(weights.parameters(), lr=AWAY / 10, fused=job.fused)
    spent: dict[str, list[float]] = {"landing": [], "Adam step": []}

    def step() -> None:
        for name, weight in ours.items():
            weight.grad = weight.detach() - targets[name]
        with torch.no_grad():
            learning.prepare_({name: weight.grad for name, weight in ours.items()}, Added({}), learn=True)
            began = perf_counter()
            optimizer.step()
            stepped = perf_counter()
            learning.land_(ours, None)
        spent["Adam step"].append(stepped - began)
        spent["landing"].append(perf_counter() - stepped)

    for _ in range(SETTLED):
        step()
    moved = {name: weight.detach() + AWAY / 10 * torch.randn_like(weight) for name, weight in ours.items()}
    random = {name: torch.randn_like(weight) for name, weight in moved.items()}
    work = {name: weight.clone() for name, weight in moved.items()}
    by_hand = job.by_hand(work) if job.by_hand is not None else None
    sides: dict[str, Call] = {"ours": partial(projector.project_, work)}
    sides |= {"by hand": partial(by_hand.project_, work)} if by_hand else {}
    effort, settle = PASSES.scaled(setting.share), settled(setting.device)
    near = by_turns(sides, effort, before=partial(_put, work, moved), settle=settle)
    cold = by_turns(sides, effort, before=partial(_put, work, random), settle=settle)
    timed = {name: Spread.of(seconds[SETTLED // 2 :]) for name, seconds in spent.items()}
    figures = {Figure.ADAM: near["ours"].median / timed["Adam step"].median}
    if by_hand:
        figures[Figure.COLD] = cold["ours"].median / cold["by hand"].median
        figures[Figure.LANDING] = timed["landing"].median / near["by hand"].median
    named = {
        f"{kind}, {side}": spread for kind, taken in (("near", near), ("cold", cold)) for side, spread in taken.items()
    }
    return figures, {**timed, **named}


def _warm(workload: Workload) -> None:
    """Both passes at a small size: what a process loads and compiles once is no memory of a plan."""
    job = workload.job(8)
    model = job.model()
    plan = affinet.plan(job.rules(affinet.weights(model)))
    weights = {p.name: dict(model.named_parameters())[p.name].detach() for p in plan.parameters}
    projector: affinet.Projector = plan.projector(weights)
    projector.project_(weights, passes=2)
    projector.project_gradients_({name: torch.randn_like(weight) for name, weight in weights.items()}, weights, {})


def _put(tensors: dict[str, Tensor], source: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(source[name])


def _steps(workload: Workload, model: nn.Module, plan: affinet.Plan, setting: Setting) -> Found:
    """Whole training steps, zero_grad to step, with the rules and without, in turns, and how far rules are off at last.

    The side without them keeps those of `job.beside`. Both sides own a copy of the model and an optimizer, and see the
    same batch.
    """
    job = workload.job(1)
    assert job.batch is not None
    batch = tuple(tensor.to(setting.device) for tensor in job.batch())
    ruled, stock = model, copy.deepcopy(model)
    optimizers = [torch.optim.AdamW(side.parameters(), lr=1e-3, fused=job.fused) for side in (ruled, stock)]
    handle = affinet.project(ruled, optimizers[0], plan)
    if job.beside is not None:
        affinet.project(stock, optimizers[1], job.beside(affinet.weights(stock)))

    def step(side: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        job.loss(side(batch[0]), batch[1]).backward()
        optimizer.step()

    sides = {"ruled": partial(step, ruled, optimizers[0]), "stock": partial(step, stock, optimizers[1])}
    settle = settled(setting.device)
    for _ in range(job.settling):
        sides["ruled"]()
    warm = by_turns(sides, Effort(1.0, least=2, most=2), settle=settle)
    block = 4 if warm["ruled"].low < 1.0 else 1
    quick = warm["ruled"].low < 0.01
    effort = STEPS.scaled(setting.share)
    taken = by_turns(sides, effort, block=50 if quick else block, settle=settle)
    figures = {
        Figure.STEP: taken["ruled"].median / taken["stock"].median,
        Figure.VIOLATION: max(handle.violation().values()),
    }
    handle.remove()
    del ruled, stock, optimizers, sides, handle
    gc.collect()
    return figures, {f"step, {side}": spread for side, spread in taken.items()}


def _eager_steps(workload: Workload, model: nn.Module, plan: affinet.Plan, setting: Setting) -> Found:
    """The ratio of whole steps as it is without numba."""
    with patch.object(looped, "available", lambda: False):
        figures, seconds = _steps(workload, model, plan, setting)
    return {Figure.EAGER: figures[Figure.STEP]}, {f"eager {title}": spread for title, spread in seconds.items()}


def _floor(seconds: dict[str, Spread]) -> dict[str, float]:
    """What the step ratio would be with the passes by hand, and with passes as quick as copies of the same bytes."""
    stock = seconds["step, stock"].median
    return {
        f"step with {side} passes": 1.0
        + sum(seconds[f"{title}, {side}"].median for title in ("project", "gradient")) / stock
        for side in ("by hand", "copy")
        if f"gradient, {side}" in seconds
    }


if __name__ == "__main__":  # NAME DEVICE SHARE THREADS
    _, name, device, share, threads = sys.argv
    torch.set_num_threads(int(threads))
    (asked,) = (workload for workload in WORKLOADS if workload.name == name)
    for found in measured(asked, Setting(torch.device(device), float(share))):
        tell(asdict(found))
