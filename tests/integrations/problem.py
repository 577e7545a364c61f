"""A small regression under rules that couple its layers, trained by a plain loop: what a trainer is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, optim

import affinet
from affinet import families

STEPS, BATCH = 12, 8


class Net(torch.nn.Module):
    """Two layers whose weights mirror each other, with row sums; the same numbers every time."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.encoder, self.decoder = torch.nn.Linear(6, 4), torch.nn.Linear(4, 6)
        for parameter in self.parameters():
            parameter.data = 0.5 * torch.randn(parameter.shape, generator=draw)

    def forward(self, x: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(torch.tanh(self.encoder(x)))
        return decoded


KINDS = ("equations", "inequalities", "nonlinear")


def rules_of(w: Any, kind: str = "equations") -> list[affinet.Constraint]:
    """Rules across layers; the inequalities are of every kind, next to an equation, and most of them bind.

    The nonlinear equations are of every kind: lengths, an orthonormal matrix, and a group with a linear equation.
    """
    if kind == "nonlinear":
        return [
            families.unit_norm(w.encoder.weight, dim=1),
            families.orthogonal(w.decoder.weight, of="columns"),
            w.encoder.bias[0] * w.decoder.bias[0] == 0.5,
            w.decoder.bias.sum() == 1,
        ]
    if kind == "inequalities":
        return [
            families.simplex(w.encoder.weight, dim=1),
            families.monotone(w.decoder.bias, dim=0),
            affinet.between(-0.1, w.encoder.bias, 0.1),
            w.decoder.weight[:3].sum(dim=1) <= w.decoder.weight[3:].sum(dim=1) - 0.2,
            w.decoder.weight[0, 0] == w.decoder.weight[5, 3],
        ]
    return [w.encoder.weight == w.decoder.weight.T, w.decoder.bias.sum() == 1, w.encoder.bias[0] == -w.encoder.bias[1]]


def data() -> Tensor:
    return torch.randn(STEPS * BATCH, 6, generator=torch.Generator().manual_seed(1))


def batches() -> Iterator[Tensor]:
    yield from data().split(BATCH)


def loss_of(net: Any, x: Tensor) -> Tensor:
    return (net(x) - x).square().mean()


def plain(
    make: Callable[[Any], optim.Optimizer], *, most: float = 0.0, epochs: int = 1, kind: str = "equations"
) -> Net:
    """The plain loop, clipping after the projection."""
    net = Net()
    optimizer = make(net.parameters())
    handle = affinet.project(net, optimizer, rules_of(affinet.weights(net), kind))
    for _ in range(epochs):
        for x in batches():
            optimizer.zero_grad()
            loss_of(net, x).backward()
            if most:
                handle.project_gradients()
                torch.nn.utils.clip_grad_norm_(net.parameters(), most)
            optimizer.step()
    return net


def numbers(net: torch.nn.Module) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in net.parameters()])


def violation(net: torch.nn.Module, kind: str = "equations") -> float:
    """By the definition of the rules, without affinet."""
    weights = dict(net.named_parameters())
    if kind == "inequalities":
        encoder, decoder = weights["encoder.weight"].detach(), weights["decoder.weight"].detach()
        excesses = [
            -encoder,
            (encoder.sum(1) - 1.0).abs(),
            -weights["decoder.bias"].detach().diff(),
            weights["encoder.bias"].detach().abs() - 0.1,
            decoder[:3].sum(1) - decoder[3:].sum(1) + 0.2,
            (decoder[0, 0] - decoder[5, 3]).abs(),
        ]
        return max(0.0, *(float(excess.max()) for excess in excesses))
    if kind == "nonlinear":
        encoder, decoder = weights["encoder.weight"].detach().double(), weights["decoder.weight"].detach().double()
        gaps = [
            encoder.square().sum(dim=1) - 1.0,
            decoder.T @ decoder - torch.eye(4, dtype=torch.float64),
            weights["encoder.bias"][0] * weights["decoder.bias"][0] - 0.5,
            weights["decoder.bias"].sum() - 1.0,
        ]
        return max(float(gap.detach().abs().max()) for gap in gaps)
    gaps = [
        weights["encoder.weight"] - weights["decoder.weight"].T,
        weights["decoder.bias"].sum() - 1.0,
        weights["encoder.bias"][0] + weights["encoder.bias"][1],
    ]
    return max(float(gap.detach().abs().max()) for gap in gaps)


ROUNDING = 40 * 2.0**-24
"""A sum of six numbers below two, in float32: six roundings, and one of the result. A return to nonlinear equations
stops at eight roundoffs of their terms, which add up to two, and of derivatives times weights, which do too; then the
weights are rounded."""
