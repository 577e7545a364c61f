"""A convex function from noisy samples: heights at knots whose second differences are not negative.

The model is piecewise linear, with 41 knots; its heights are the weights. A convex function was measured with noise.
The fit under the rule is compared with that of a solver of quadratic programs.

    python examples/gallery/convex_interpolation.py --figure docs/gallery/convex_interpolation.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import quadprog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import affinet
from affinet import families

KNOTS, SAMPLES, NOISE, STEPS = 41, 120, 0.15, 600
Array = NDArray[np.float64]


class PiecewiseLinear(nn.Module):
    """A continuous function on [-1, 1], linear between knots at equal distances."""

    def __init__(self, knots: int) -> None:
        super().__init__()
        self.heights = nn.Parameter(torch.zeros(knots, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """The values at `x`."""
        values: Tensor = hats(x, len(self.heights)) @ self.heights
        return values


def hats(x: Tensor, knots: int) -> Tensor:
    """How much each knot's height counts at each `x`: (samples, knots)."""
    places = (x[:, None] + 1.0) * (knots - 1) / 2.0
    return (1.0 - (places - torch.arange(knots)).abs()).clamp_min(0.0)


def truth(x: Array) -> Array:
    """A convex function with a flat piece and a kink."""
    return np.maximum(np.abs(x - 0.1) - 0.3, 0.0) + 0.5 * np.maximum(x - 0.5, 0.0)


def samples() -> tuple[Tensor, Tensor]:
    """Places and noisy values."""
    draw = np.random.default_rng(0)
    x = draw.uniform(-1.0, 1.0, SAMPLES)
    return torch.tensor(x), torch.tensor(truth(x) + NOISE * draw.normal(size=SAMPLES))


def least_squares(heights: Array, x: Tensor, y: Tensor) -> float:
    """Half the sum of squared errors."""
    return 0.5 * float((hats(x, len(heights)) @ torch.tensor(heights) - y).square().sum())


def train(x: Tensor, y: Tensor, *, convex: bool) -> Array:
    """The heights of least squares, with or without the rule."""
    model = PiecewiseLinear(KNOTS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if convex:
        affinet.project(model, optimizer, families.convex(affinet.weights(model).heights))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (0.5 * (model(x) - y).square().sum()).backward()
        optimizer.step()
        schedule.step()
    return model.heights.detach().numpy().copy()


def by_quadratic_programming(x: Tensor, y: Tensor) -> Array:
    """The convex heights of least squares from quadprog, a dual active-set method."""
    features = hats(x, KNOTS).numpy()
    second_differences = np.diff(np.eye(KNOTS), n=2, axis=0)
    solution = quadprog.solve_qp(
        features.T @ features, features.T @ y.numpy(), second_differences.T, np.zeros(KNOTS - 2)
    )
    return np.array(solution[0])


def straight(heights: Array) -> NDArray[np.bool_]:
    """The knots inside where the function does not bend: the rule's inequality holds with equality there."""
    flat: NDArray[np.bool_] = np.abs(np.diff(heights, n=2)) <= 1e-9
    return flat


def draw(x: Tensor, y: Tensor, plain: Array, convex: Array, path: Path) -> None:
    """Samples, the truth and both fits; below, how much each fit bends at each knot."""
    from matplotlib.figure import Figure

    knots, fine = np.linspace(-1.0, 1.0, KNOTS), np.linspace(-1.0, 1.0, 400)
    figure = Figure(figsize=(8, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[2.4, 1], sharex=True)
    top.plot(x, y, ".", color="0.65", markersize=4, label="samples")
    top.plot(fine, truth(fine), "--", color="black", linewidth=1, label="truth")
    top.plot(knots, plain, color="#D55E00", linewidth=1.2, label="without the rule")
    top.plot(knots, convex, color="#0072B2", linewidth=2.2, label="convex")
    bends = ~straight(convex)
    top.plot(knots[1:-1][bends], convex[1:-1][bends], "o", color="#0072B2", markersize=5)
    top.set(ylabel="height")
    top.legend(frameon=False, loc="upper center")
    bottom.axhline(0, color="black", linewidth=0.8)
    bottom.plot(knots[1:-1], np.diff(plain, n=2), color="#D55E00", linewidth=1)
    bottom.vlines(knots[1:-1], 0, np.diff(convex, n=2), color="#0072B2", linewidth=3)
    bottom.set(xlabel="x", ylabel="second difference", ylim=(-0.2, 0.2))
    figure.savefig(path, dpi=120)


def main() -> None:
    """Fit both ways, compare with the quadratic program, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    x, y = samples()
    plain, convex, expected = train(x, y, convex=False), train(x, y, convex=True), by_quadratic_programming(x, y)
    assert np.abs(convex - expected).max() < 1e-8
    assert np.diff(convex, n=2).min() > -1e-14
    assert (straight(convex) == straight(expected)).all()
    assert straight(convex).sum() > KNOTS / 2
    assert not straight(plain).any()

    knots = np.linspace(-1.0, 1.0, KNOTS)
    print("                   half the squared error   distance from the truth   knots that bend")
    for name, heights in (("without the rule", plain), ("convex", convex), ("convex, quadprog", expected)):
        distance = np.sqrt(np.mean((heights - truth(knots)) ** 2))
        print(f"{name:<17}{least_squares(heights, x, y):>24.3f}{distance:>26.3f}{(~straight(heights)).sum():>18}")
    if arguments.figure:
        draw(x, y, plain, convex, arguments.figure)


if __name__ == "__main__":
    main()
