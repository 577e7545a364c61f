"""A map learnt from noisy pairs that preserves areas: linear layers of determinant one between shears.

The truth is the standard map of Chirikov, a pendulum that is kicked at regular times. The learnt map is iterated four
hundred times. Compared are the same network without the rule, and one that divides by the root of the determinant.

    python examples/gallery/area_preserving_map.py --figure docs/gallery/area_preserving_map.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import affinet
from affinet import families

KICK, NOISE, PAIRS, STEPS, ITERATIONS = 0.6, 0.05, 300, 400, 400
RULE, FREE, INSIDE = "determinant (affinet)", "without the rule", "divided inside the network"


class Flow(nn.Module):
    """Four blocks, each a linear map of the plane and a shear `(q, p) → (q, p + f(q))`, which preserves areas."""

    def __init__(self, *, divide: bool, blocks: int = 4, hidden: int = 8) -> None:
        super().__init__()
        self.turns = nn.Parameter(torch.eye(2) + 0.1 * torch.randn(blocks, 2, 2))
        self.shifts = nn.Parameter(torch.zeros(blocks, 2))
        self.slopes = nn.Parameter(torch.randn(blocks, hidden))
        self.places = nn.Parameter(torch.randn(blocks, hidden))
        self.heights = nn.Parameter(0.1 * torch.randn(blocks, hidden))
        self.divide = divide

    def matrices(self) -> Tensor:
        """The linear map of each block: (blocks, 2, 2)."""
        if not self.divide:
            return self.turns
        turns: Tensor = self.turns / torch.linalg.det(self.turns).abs().sqrt()[:, None, None]
        return turns

    def forward(self, points: Tensor) -> Tensor:
        """Where each point of the plane goes: (points, 2)."""
        for turn, shift, slope, place, height in zip(
            self.matrices(), self.shifts, self.slopes, self.places, self.heights, strict=True
        ):
            q, p = (points @ turn.T + shift).unbind(-1)
            points = torch.stack([q, p + torch.tanh(q[:, None] * slope + place) @ height], dim=-1)
        return points


def kicked_pendulum(points: Tensor) -> Tensor:
    """The standard map: a kick that depends on the angle, then a turn with constant speed."""
    angle, speed = points.unbind(-1)
    speed = speed - KICK * angle.sin()
    return torch.stack([angle + speed, speed], dim=-1)


def train(recipe: str) -> Flow:
    """Fit the map to noisy pairs, from one start for every recipe."""
    torch.manual_seed(0)
    points = 4 * torch.rand(PAIRS, 2) - 2
    seen = kicked_pendulum(points) + NOISE * torch.randn(PAIRS, 2)
    model = Flow(divide=recipe == INSIDE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if recipe == RULE:
        affinet.project(model, optimizer, families.determinant(affinet.weights(model).turns, 1.0))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (model(points) - seen).square().mean().backward()
        optimizer.step()
        schedule.step()
    return model


def orbits(model: nn.Module | None) -> Tensor:
    """Eight orbits of a model, or of the truth: (iterations, 8, 2)."""
    points = [torch.stack([torch.linspace(0.3, 2.2, 8), torch.zeros(8)], dim=-1)]
    with torch.no_grad():
        for _ in range(ITERATIONS):
            points.append(kicked_pendulum(points[-1]) if model is None else model(points[-1]))
    return torch.stack(points)


def shrinkage(points: Tensor) -> float:
    """The mean distance from the centre in the last fifty points of the orbits, as a multiple of that in the first."""
    distances = points.norm(dim=-1)
    return float((distances[-50:].mean(dim=0) / distances[:50].mean(dim=0)).mean())


def draw(pictures: dict[str, Tensor], path: Path) -> None:
    """The orbits of the truth and of the learnt maps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for panel, (name, points) in zip(figure.subplots(1, len(pictures), sharey=True), pictures.items(), strict=True):
        for k, colour in enumerate(np.linspace(0.0, 0.85, points.shape[1])):
            panel.plot(*points[:, k].T.numpy(), ".", color=str(colour) if name == "truth" else f"C{k}", markersize=2)
        panel.set(title=name, xlabel="angle", xlim=(-3, 3), ylim=(-2, 2))
    figure.axes[0].set_ylabel("speed")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, iterate the learnt maps, print the figures; draw the orbits if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    models = {recipe: train(recipe) for recipe in (RULE, FREE, INSIDE)}
    areas = {name: float(torch.linalg.det(model.matrices().detach()).prod()) for name, model in models.items()}
    assert abs(areas[RULE] - 1) < 1e-14
    moved = {name: orbits(model) for name, model in models.items()}
    assert 0.9 < shrinkage(moved[RULE]) < 1.1
    assert abs(areas[FREE] - 1) > 1e-4

    unseen = 4 * torch.rand(2000, 2, generator=torch.Generator().manual_seed(1)) - 2
    print("                              error of one step   area after 1 step   and 400   size of orbits after 400")
    for name, model in models.items():
        error = (model(unseen) - kicked_pendulum(unseen)).square().sum(dim=1).mean().sqrt().item()
        area, size = areas[name], shrinkage(moved[name])
        print(f"{name:<30}{error:>17.3f}{area:>20.4f}{area**ITERATIONS:>10.2g}{size:>27.2f}")
    if arguments.figure:
        draw({"truth": orbits(None), RULE: moved[RULE], FREE: moved[FREE]}, arguments.figure)


if __name__ == "__main__":
    main()
