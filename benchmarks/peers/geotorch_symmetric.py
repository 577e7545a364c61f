"""geotorch's symmetric: a whole training step of the MLP whose square layer is symmetric, against affinet's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import geotorch
import torch
from torch import nn

import affinet
from affinet import families
from benchmarks.measuring import Effort, by_turns
from benchmarks.networks import labelled, perceptron
from benchmarks.results import PeerRow


def measured(title: str) -> Iterator[PeerRow]:
    """At two widths; the optimizer is fused AdamW on both sides."""
    return (_row(title, width) for width in (512, 2048))


def _row(title: str, width: int) -> PeerRow:
    x, y = labelled(128, 784, 10)
    ours, theirs = (perceptron(784, width, width, 10) for _ in range(2))
    geotorch.symmetric(theirs[2], "weight")
    optimizers = [torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True) for model in (ours, theirs)]
    affinet.project(ours, optimizers[0], [families.symmetric(affinet.weights(ours)[2].weight)])

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    sides = {"ours": partial(step, ours, optimizers[0]), "theirs": partial(step, theirs, optimizers[1])}
    by_turns(sides, Effort(1.0, least=2, most=2))
    taken = by_turns(sides, Effort(6.0), block=4)
    off = float((theirs[2].weight - theirs[2].weight.T).detach().abs().max())
    return PeerRow(
        title,
        f"a training step, {width}² symmetric",
        taken["ours"].median,
        taken["theirs"].median,
        f"violation {off:.0e}; a reparametrization: the upper triangle is trained",
    )
