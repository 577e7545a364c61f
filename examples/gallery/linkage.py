"""A four-bar linkage whose equations are read from a file, trained to lead a point along a curve.

The weights are the bearings, the lengths, the arm that carries the point, and the elbow in 16 positions; the file
`linkage.txt` has the polynomials that make them a mechanism. SciPy checks the optimum with the elbow eliminated.

    python examples/gallery/linkage.py --figure docs/gallery/linkage.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor, nn

import affinet

POSITIONS, CALLS, STARTS = 16, 20, 3
RULES = Path(__file__).with_name("linkage.txt")
Array = NDArray[np.float64]


def circle(count: int) -> Array:
    """Directions at equal angles: (count, 2)."""
    angles = 2 * np.pi * np.arange(count) / count
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def drop(count: int) -> Array:
    """The curve that the point is to follow, a drop on its side, with a place for each position of the crank."""
    turn = circle(count)
    half = np.sin(np.pi * np.arange(count) / count)
    return np.stack([1.2 * turn[:, 0], 0.8 * turn[:, 1] * half], axis=1)


class Linkage(nn.Module):
    """A crank and a rocker on two bearings, a coupler between them, and a point on an arm of the coupler."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.circle = nn.Parameter(torch.tensor(circle(POSITIONS)), requires_grad=False)
        self.ground = nn.Parameter(torch.tensor([[-0.8, 0.8], [1.3, 0.0]]) + 0.3 * torch.randn(2, 2))
        self.crank = nn.Parameter(0.8 * torch.eye(2))
        self.lengths = nn.Parameter(torch.tensor([1.8, 1.8]))
        self.arm = nn.Parameter(torch.tensor([0.5, -0.5]) + 0.3 * torch.randn(2))
        self.elbow = nn.Parameter(torch.tensor([[0.8, 1.8]]).repeat(POSITIONS, 1))

    def forward(self) -> Tensor:
        """Where the point is in each position: (positions, 2)."""
        hand = self.ground[0] + self.circle @ self.crank
        coupler = self.elbow - hand
        across = torch.stack([-coupler[:, 1], coupler[:, 0]], dim=1)
        return hand + self.arm[0] * coupler + self.arm[1] * across


def train(model: Linkage, wanted: Tensor) -> tuple[Array, list[float]]:
    """Minimise the squared distance from the curve by L-BFGS under the rules; the points at the start, and losses."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=10, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=1e-14
    )
    rules = affinet.parse_lines(RULES.read_text(encoding="utf-8"), affinet.weights(model))
    handle = affinet.project(model, optimizer, rules)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (model() - wanted).square().sum(dim=1).mean()
        loss.backward()
        return loss

    first = model().detach().numpy()
    losses = [optimizer.step(closure).item() for _ in range(CALLS)]
    assert max(handle.violation().values()) < 1e-13
    return first, losses


def by_elimination(numbers: Array, side: float, count: int) -> tuple[Array, Array]:
    """The elbow and the point in `count` positions: where two circles meet, on one side of the line between centres."""
    ground, crank, lengths, arm = numbers[:4].reshape(2, 2), numbers[4:6], numbers[6:8], numbers[8:]
    matrix = np.array([[crank[0], crank[1]], [-crank[1], crank[0]]])
    hand = ground[0] + circle(count) @ matrix
    across = ground[1] - hand
    distance = np.hypot(*across.T)[:, None]
    along = (lengths[0] ** 2 - lengths[1] ** 2 + distance**2) / (2 * distance)
    height = np.sqrt(np.maximum(lengths[0] ** 2 - along**2, 1e-12))  # where the circles do not meet there is no linkage
    normal = np.stack([-across[:, 1], across[:, 0]], axis=1) / distance
    elbow = hand + along * across / distance + side * height * normal
    coupler = elbow - hand
    point: Array = hand + arm[0] * coupler + arm[1] * np.stack([-coupler[:, 1], coupler[:, 0]], axis=1)
    return elbow, point


def numbers_of(model: Linkage) -> tuple[Array, float]:
    """The ten numbers of a trained linkage, and the side on which its elbow lies."""
    parts = (model.ground, model.crank[0], model.lengths, model.arm)
    numbers = torch.cat([part.detach().flatten() for part in parts]).numpy()
    elbow = model.elbow.detach().numpy()
    distances = {side: np.abs(by_elimination(numbers, side, POSITIONS)[0] - elbow).max() for side in (1.0, -1.0)}
    return numbers, min(distances, key=lambda side: float(distances[side]))


def best_nearby(numbers: Array, side: float, wanted: Array) -> float:
    """The loss that SciPy's least squares reaches from ten numbers, with the elbow eliminated."""

    def distances(free: Array) -> Array:
        return np.ravel(by_elimination(free, side, POSITIONS)[1] - wanted)

    return 2 * float(least_squares(distances, numbers, xtol=1e-15, ftol=1e-15, gtol=1e-15).cost) / POSITIONS


def draw(first: Array, numbers: Array, side: float, path: Path) -> None:
    """The positions of the point at the start, and the trained linkage in four positions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for panel in (left, right):
        panel.plot(*drop(200).T, color="0.75", linewidth=5, label="wanted")
        panel.set(aspect="equal", xlim=(-2.2, 2.3), ylim=(-1.0, 2.5))
        panel.axis("off")
    left.plot(*first.T, "o-", color="#D55E00", markersize=4, linewidth=1, label="the point at the start")
    left.legend(frameon=False, loc="upper left")
    elbows, points = by_elimination(numbers, side, 200)
    right.plot(*points.T, color="#0072B2", linewidth=1.8, label="the point after training")
    crank = np.array([[numbers[4], numbers[5]], [-numbers[5], numbers[4]]])
    hands = numbers[:2] + circle(200) @ crank
    for k, shade in ((0, 1.0), (50, 0.45), (100, 0.3), (150, 0.15)):
        right.fill(*np.stack([hands[k], elbows[k], points[k]]).T, color="#E69F00", alpha=0.35 * shade, linewidth=0)
        bars = np.stack([numbers[:2], hands[k], elbows[k], numbers[2:4]])
        right.plot(*bars.T, "o-", color="black", alpha=shade, markersize=4)
        right.plot(*points[k], "o", color="#0072B2", alpha=shade)
    right.legend(frameon=False, loc="upper left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train from several starts, compare with SciPy, print the figures; draw the linkage if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    wanted = torch.tensor(drop(POSITIONS))
    print("start   loss at the start   loss after training   SciPy from there")
    pictures = []
    for seed in range(STARTS):
        model = Linkage(seed)
        first, losses = train(model, wanted)
        numbers, side = numbers_of(model)
        ours = float((model() - wanted).detach().square().sum(dim=1).mean())
        theirs = best_nearby(numbers, side, wanted.numpy())
        assert abs(ours - theirs) < 1e-8
        pictures.append((first, numbers, side))
        print(f"{seed:>5}{losses[0]:>20.4f}{ours:>22.8f}{theirs:>19.8f}")
    if arguments.figure:
        draw(*pictures[0], arguments.figure)


if __name__ == "__main__":
    main()
