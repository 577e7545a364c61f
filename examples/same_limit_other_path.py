"""Three ways to the optimum of two weights on a line: affinet's project, reparametrize and lagrange, each with Adam.

    minimise ½ (w − c)·H (w − c)   subject to   w[0] + 2 w[1] == 2

All three come to the same point. `project` and `reparametrize` walk along the line; `lagrange` leaves it, since it
learns the multiplier from violations, and circles around the point.

    python examples/same_limit_other_path.py --figure docs/same_limit_other_path.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import affinet

STEPS, RATE = 1000, 0.05
H, CENTRE = torch.tensor([[2.0, 0.6], [0.6, 0.5]], dtype=torch.float64), torch.tensor([2.2, 1.8], dtype=torch.float64)
A, B = torch.tensor([1.0, 2.0], dtype=torch.float64), 2.0
START = (-0.8, 1.4)


def loss(w: Tensor) -> Tensor:
    """The number to be made small."""
    off = w - CENTRE
    return 0.5 * off @ H @ off


def optimum() -> tuple[np.ndarray, float]:
    """The constrained optimum and its multiplier, from `H (w − c) = Aᵀν`, `A w = b`."""
    conditions = torch.cat([torch.cat([H, -A[:, None]], dim=1), torch.cat([A, torch.zeros(1).double()])[None]])
    solution = torch.linalg.solve(conditions, torch.cat([H @ CENTRE, torch.tensor([B]).double()]))
    return solution[:2].numpy(), float(solution[2])


def trained(attach: Callable[[nn.Module], tuple[torch.optim.Optimizer, object]]) -> tuple[np.ndarray, object]:
    """The weights before the first step and after every step (steps + 1, 2), and the handle."""
    model = nn.Module()
    model.w = nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer, handle = attach(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    path = [model.w.detach().clone()]
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(model.w).backward()
        optimizer.step()
        schedule.step()
        path.append(model.w.detach().clone())
    return torch.stack(path).numpy(), handle


def rule(model: nn.Module) -> affinet.Constraint:
    """The line."""
    w = affinet.weights(model)["w"]
    line: affinet.Constraint = w[0] + 2 * w[1] == 2
    return line


def by_project(model: nn.Module) -> tuple[torch.optim.Optimizer, object]:
    """Project gradients and weights around each step."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    return optimizer, affinet.project(model, optimizer, rule(model))


def by_reparametrize(model: nn.Module) -> tuple[torch.optim.Optimizer, object]:
    """Train the one number that the line leaves free."""
    handle = affinet.reparametrize(model, rule(model))
    return torch.optim.Adam(model.parameters(), lr=RATE), handle


def by_lagrange(model: nn.Module) -> tuple[torch.optim.Optimizer, object]:
    """Learn the multiplier; the optimizer gets the gradient of the augmented Lagrangian."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    return optimizer, affinet.lagrange(model, optimizer, rule(model))


WAYS = {"project": by_project, "reparametrize": by_reparametrize, "lagrange": by_lagrange}
STYLES = {"project": ("#0072B2", 4.0, "-"), "reparametrize": ("#D55E00", 1.8, "--"), "lagrange": ("#009E73", 1.3, "-")}


def draw(paths: dict[str, np.ndarray], path: Path) -> None:
    """The paths along the line and off it, and distances over the steps."""
    from matplotlib.figure import Figure

    best, _ = optimum()
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    plane, distances, violations = figure.subplots(1, 3)
    normal = A.numpy() / np.linalg.norm(A.numpy())
    tangent = np.array([normal[1], -normal[0]])
    plane.axhline(0.0, color="0.5", linewidth=0.8)
    for name, points in paths.items():
        colour, width, dash = STYLES[name]
        style = {"color": colour, "linewidth": width, "linestyle": dash, "label": name}
        plane.plot((points - best) @ tangent, (points - best) @ normal, **style)
        distances.semilogy(np.maximum(np.linalg.norm(points - best, axis=1), 1e-16), **style)
        violations.semilogy(np.maximum(np.abs(points @ A.numpy() - B), 1e-17), **style)
    plane.plot(0.0, 0.0, "k*", markersize=12, label="optimum")
    plane.set(xlabel="along the line", ylabel="off the line", title="the way")
    plane.legend(loc="upper right", fontsize=9)
    distances.set(xlabel="step", title="distance from the optimum")
    violations.set(xlabel="step", title="violation of the rule")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train the three ways, print where they end, draw the figure where one is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the paths (needs matplotlib)")
    arguments = parser.parse_args()
    best, price = optimum()
    runs = {name: trained(way) for name, way in WAYS.items()}
    print(f"{'optimum':14} w = ({best[0]:.6f}, {best[1]:.6f}), multiplier {price:.6f}")
    for name, (points, handle) in runs.items():
        priced = handle.multipliers() if isinstance(handle, affinet.Handle | affinet.LagrangeHandle) else {}
        shown = "".join(f", multiplier {float(value):.6f}" for value in priced.values())
        largest = np.abs(points @ A.numpy() - B).max()
        print(f"{name:14} w = ({points[-1, 0]:.6f}, {points[-1, 1]:.6f}){shown}, violated by up to {largest:.1g}")
    if arguments.figure:
        draw({name: points for name, (points, _) in runs.items()}, arguments.figure)


if __name__ == "__main__":
    main()
