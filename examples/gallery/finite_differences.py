"""A finite-difference stencil learnt from data, with a guaranteed order of accuracy.

Seven weights estimate the derivative of a function from its values on a grid. Five equations, the moment conditions,
make the estimate exact for polynomials up to degree 4, whatever the data; the two weights that they leave free are
learnt from waves that the grid hardly resolves.

    python examples/gallery/finite_differences.py --figure docs/gallery/finite_differences.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import factorial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import affinet
from affinet import families

PLACES = np.arange(-3, 4)
ORDER = 4
LOW, HIGH = 0.2, 2.0
"""Wavenumbers of the data, in radians a grid step: 31 and 3 points a wave."""
SPACINGS = np.pi / 2 ** np.arange(2, 9)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Samples:
    """Values of waves at seven neighbouring places of a grid of step one, and the derivative in the middle."""

    values: Array
    derivative: Array

    @classmethod
    def random(cls, count: int, seed: int) -> Samples:
        """Each sample is one wave `sin(k x + φ)`, its k and φ drawn uniformly."""
        numbers = np.random.default_rng(seed)
        k, phase = numbers.uniform(LOW, HIGH, (count, 1)), numbers.uniform(0, 2 * np.pi, (count, 1))
        return cls(np.sin(k * PLACES + phase), (k * np.cos(phase))[:, 0])


def moments(order: int) -> tuple[Array, Array]:
    """`A w = b`: row m says `Σ_j w_j j^m = m!` if m is 1, else 0; then Taylor's theorem gives the order."""
    powers = np.arange(order + 1)
    return PLACES.astype(float) ** powers[:, None], np.array([factorial(m) if m == 1 else 0 for m in powers], float)


def learn(samples: Samples, order: int | None) -> Array:
    """The stencil with the least squared error on the samples, under the moment conditions of an order."""
    torch.manual_seed(0)
    model = nn.Linear(len(PLACES), 1, bias=False, dtype=torch.float64)
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=200, tolerance_grad=1e-15, tolerance_change=1e-18, line_search_fn="strong_wolfe"
    )
    if order is not None:
        A, b = moments(order)
        affinet.project(model, optimizer, families.linear([affinet.weights(model).weight], A, b))
    x, y = torch.from_numpy(samples.values), torch.from_numpy(samples.derivative)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = (model(x)[:, 0] - y).square().mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    stencil: Array = model.weight.detach().numpy()[0]
    return stencil


def solved(samples: Samples) -> Array:
    """The same stencil from the KKT equations of the constrained least-squares problem."""
    A, b = moments(ORDER)
    normal = samples.values.T @ samples.values
    corner = np.zeros((len(b), len(b)))
    right = np.concatenate([samples.values.T @ samples.derivative, b])
    solution: Array = np.linalg.solve(np.block([[normal, A.T], [A, corner]]), right)
    return solution[: len(PLACES)]


def on_data(stencil: Array, samples: Samples) -> float:
    """Root mean square error over the root mean square of the derivative."""
    error = samples.values @ stencil - samples.derivative
    return float(np.sqrt(np.square(error).mean() / np.square(samples.derivative).mean()))


def on_smooth(stencil: Array) -> Array:
    """The largest error for exp(sin x) on finer and finer grids of [0, 2π]."""
    errors = []
    for h in SPACINGS:
        x = np.arange(0, 2 * np.pi - h / 2, h)
        estimate = np.exp(np.sin(x[:, None] + h * PLACES)) @ stencil / h
        errors.append(np.abs(estimate - np.cos(x) * np.exp(np.sin(x))).max())
    return np.array(errors)


def slope(stencil: Array) -> float:
    """The order that the last two grids show."""
    errors = on_smooth(stencil)
    return float(np.log2(errors[-2] / errors[-1]))


def draw(stencils: dict[str, Array], path: Path) -> None:
    """Error against the grid step for a smooth function, and against the wavenumber."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = (("#999999", "--"), ("#000000", "-"), ("#D55E00", "-"), ("#0072B2", "-"))
    waves = np.linspace(0.02, 3.1, 400)
    for (name, stencil), (colour, dash) in zip(stencils.items(), styles, strict=True):
        left.loglog(SPACINGS, on_smooth(stencil), dash, marker="o", markersize=3, color=colour, label=name)
        found = (np.sin(np.outer(waves, PLACES)) @ stencil) / waves
        right.plot(waves, np.abs(found - 1) + 1e-9, dash, color=colour, label=name)
    ends = SPACINGS[[2, -1]]
    left.loglog(ends, 0.012 * (ends / ends[0]) ** ORDER, color="#0072B2", linewidth=6, alpha=0.2, label="slope 4")
    left.set(xlabel="grid step h", ylabel="largest error of the derivative", title="a smooth function, exp(sin x)")
    left.legend(frameon=False, fontsize=8, loc="lower right")
    right.axvspan(LOW, HIGH, color="#0072B2", alpha=0.08, linewidth=0)
    right.text((LOW + HIGH) / 2, 3e-7, "waves of the data", ha="center", color="#0072B2")
    right.set(yscale="log", ylim=(1e-7, 2), xlim=(0, np.pi), title="a wave sin kx")
    right.set(xlabel="wavenumber k, radians a grid step", ylabel="relative error of the derivative")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Learn, compare with textbook stencils, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    samples, fresh = Samples.random(2000, seed=0), Samples.random(2000, seed=1)
    stencils = {
        "textbook, order 4": np.array([0, 1, -8, 0, 8, -1, 0]) / 12,
        "textbook, order 6": np.array([-1, 9, -45, 0, 45, -9, 1]) / 60,
        "learnt, no conditions": learn(samples, None),
        "learnt, order 4 guaranteed": learn(samples, ORDER),
    }
    learnt, (A, b) = stencils["learnt, order 4 guaranteed"], moments(ORDER)
    errors = {name: on_data(stencil, fresh) for name, stencil in stencils.items()}
    assert np.abs(A @ learnt - b).max() < 1e-12
    assert np.abs(learnt - solved(samples)).max() < 1e-7
    assert abs(slope(learnt) - ORDER) < 0.05
    assert abs(slope(stencils["learnt, no conditions"])) < 0.1
    assert errors["learnt, order 4 guaranteed"] < 0.5 * errors["textbook, order 6"]

    print("                              error on new data   order shown by exp(sin x)")
    for name, stencil in stencils.items():
        print(f"{name:<28}{100 * errors[name]:>18.1f}%{abs(slope(stencil)):>27.1f}")
    print("the learnt stencil and the constrained least-squares solution: the same to 1e-7")
    if arguments.figure:
        draw(stencils, arguments.figure)


if __name__ == "__main__":
    main()
