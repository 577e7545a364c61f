"""geotorch, geoopt, torch's parametrizations and code by hand, for orthonormal rows, lengths and determinants.

A step is the whole of forward, backward and optimizer, except where the other side is code around the same optimizer:
then the loss has no part in it, and the step of the optimizer alone is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import geoopt
import geotorch
import torch
from torch import nn

import affinet
from affinet import families
from benchmarks.measuring import Call, Effort, by_turns
from benchmarks.results import PeerRow

WIDTH, BATCH = 1024, 64
RATE = 1e-3
DETERMINANTS = 10_000


def measured(title: str) -> Iterator[PeerRow]:
    """Whole steps of a square layer, then steps of the optimizer alone."""
    ours = layer()
    stepper = torch.optim.Adam(ours.parameters(), lr=RATE)
    handle = affinet.project(ours, stepper, families.orthogonal(affinet.weights(ours).weight, of="rows"))
    for name, make in ORTHOGONAL.items():
        theirs, optimizer = make()
        sides = {"ours": training(ours, stepper), "theirs": training(theirs, optimizer)}
        taken = compared(sides, 5.0)
        off = (theirs.weight @ theirs.weight.T - torch.eye(WIDTH)).detach().abs().max()
        note = (
            f"{WIDTH}² products: {taken['theirs'] / product():.0f} for it, {taken['ours'] / product():.1f} for affinet"
        )
        note += f"; violation {float(off):.0e}, affinet's {max(handle.violation().values()):.0e}"
        yield PeerRow(f"{title}: {name}", f"a training step, {WIDTH}² orthonormal rows", **taken, note=note)
    yield weight_norm()
    yield normalised_by_hand()
    yield determinants()


def layer() -> nn.Linear:
    """A square layer without bias."""
    torch.manual_seed(0)
    return nn.Linear(WIDTH, WIDTH, bias=False)


def training(model: nn.Module, optimizer: torch.optim.Optimizer) -> Call:
    """A whole training step."""
    x = torch.randn(BATCH, WIDTH, generator=torch.Generator().manual_seed(1))

    def step() -> None:
        optimizer.zero_grad()
        (model(x) - x.flip(1)).square().mean().backward()
        optimizer.step()

    return step


def compared(sides: dict[str, Call], seconds: float) -> dict[str, float]:
    """Medians of both sides, after two calls to warm up."""
    by_turns(sides, Effort(1.0, least=2, most=2))
    return {name: spread.median for name, spread in by_turns(sides, Effort(seconds), block=3).items()}


def product() -> float:
    """Seconds of one product of two matrices of the width of the layer."""
    a = torch.randn(WIDTH, WIDTH)
    return by_turns({"product": partial(torch.matmul, a, a)}, Effort(0.5), block=3)["product"].median


def by_geotorch() -> tuple[nn.Module, torch.optim.Optimizer]:
    """A reparametrization by the exponential of a skew matrix."""
    model = layer()
    geotorch.orthogonal(model, "weight")
    return model, torch.optim.Adam(model.parameters(), lr=RATE)


def by_geoopt() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Riemannian Adam, which returns by a QR decomposition."""
    model, manifold = layer(), geoopt.EuclideanStiefel()
    model.weight = geoopt.ManifoldParameter(nn.init.orthogonal_(model.weight.detach()), manifold=manifold)
    return model, geoopt.optim.RiemannianAdam(model.parameters(), lr=RATE)


def by_torch() -> tuple[nn.Module, torch.optim.Optimizer]:
    """Torch's own parametrization, by the exponential that it takes for a square matrix."""
    model = layer()
    nn.utils.parametrizations.orthogonal(model, "weight")
    return model, torch.optim.Adam(model.parameters(), lr=RATE)


ORTHOGONAL: dict[str, Callable[[], tuple[nn.Module, torch.optim.Optimizer]]] = {
    "geotorch": by_geotorch,
    "geoopt's RiemannianAdam": by_geoopt,
    "torch's orthogonal": by_torch,
}


def with_lengths() -> tuple[nn.Linear, torch.optim.Optimizer]:
    """A layer whose rows have length one, by affinet."""
    model = layer()
    stepper = torch.optim.Adam(model.parameters(), lr=RATE)
    affinet.project(model, stepper, families.unit_norm(affinet.weights(model).weight, dim=1))
    return model, stepper


def weight_norm() -> PeerRow:
    """Torch's weight normalisation, with lengths that are not trained."""
    model = nn.utils.parametrizations.weight_norm(layer(), "weight", dim=0)
    model.parametrizations.weight.original0.requires_grad_(False).fill_(1.0)
    theirs = training(model, torch.optim.Adam([model.parametrizations.weight.original1], lr=RATE))
    taken = compared({"ours": training(*with_lengths()), "theirs": theirs}, 3.0)
    return PeerRow("torch's weight_norm", f"a training step, {WIDTH}² rows of length one", **taken)


def normalised_by_hand() -> PeerRow:
    """The usual recipe, which ends elsewhere under Adam: step, then divide by the lengths."""
    model = layer()
    plain = stepping(model.weight, torch.optim.Adam(model.parameters(), lr=RATE))

    def theirs() -> None:
        plain()
        with torch.no_grad():
            model.weight.div_(model.weight.norm(dim=1, keepdim=True))

    ours, stepper = with_lengths()
    taken = compared({"ours": stepping(ours.weight, stepper), "theirs": theirs}, 3.0)
    note = f"affinet takes {taken['ours'] / taken['theirs']:.2f} times as long"
    return PeerRow("by hand", f"a step of the optimizer, {WIDTH}² rows of length one", **taken, note=note)


def stepping(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> Call:
    """A step of the optimizer alone, always with the same gradient, which it may have changed."""
    gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(2))
    grad = weight.grad = gradient.clone()

    def step() -> None:
        grad.copy_(gradient)
        optimizer.step()

    return step


def determinants() -> PeerRow:
    """Many small determinants, against the step of Adam without rules."""

    def side(*, with_rules: bool) -> Call:
        model = nn.Module()
        model.w = nn.Parameter(torch.randn(DETERMINANTS, 2, 2, generator=torch.Generator().manual_seed(1)))
        stepper = torch.optim.Adam(model.parameters(), lr=RATE)
        if with_rules:
            affinet.project(model, stepper, affinet.weights(model).w.det() == 1.0)
        return stepping(model.w, stepper)

    taken = compared({"ours": side(with_rules=True), "theirs": side(with_rules=False)}, 3.0)
    note = f"affinet takes {taken['ours'] / taken['theirs']:.1f} times as long"
    job = f"a step of the optimizer, {DETERMINANTS:,} determinants of 2 × 2"
    return PeerRow("Adam without rules", job, **taken, note=note)
