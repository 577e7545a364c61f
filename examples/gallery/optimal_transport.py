"""A layer that is an optimal transport plan, trained together with a map of the points.

Two clouds of points with masses; the second is the first one turned, stretched and moved, with other masses and noise.
The plan is a matrix of weights that are not negative, with the masses as sums of rows and columns. It is trained
together with a linear map of the first cloud, by Adam, and compared with a solver of linear programs.

    python examples/gallery/optimal_transport.py --figure docs/gallery/optimal_transport.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor, nn

import affinet
from affinet import families

SOURCES, SINKS, STEPS = 14, 18, 800
Array = NDArray[np.float64]


class Transport(nn.Module):
    """The cost of moving the mapped sources to the sinks by a plan."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Linear(2, 2, dtype=torch.float64)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)
        self.plan = nn.Parameter(torch.zeros(SOURCES, SINKS, dtype=torch.float64))

    def costs(self, sources: Tensor, sinks: Tensor) -> Tensor:
        """The squared distance of each mapped source from each sink."""
        distances: Tensor = (self.map(sources)[:, None] - sinks[None]).square().sum(dim=2)
        return distances

    def forward(self, sources: Tensor, sinks: Tensor) -> Tensor:
        """Mass times squared distance, summed."""
        cost: Tensor = (self.plan * self.costs(sources, sinks)).sum()
        return cost


def clouds() -> tuple[Array, Array, Array, Array]:
    """Places of the sources and of the sinks, and their masses, which sum to one on both sides."""
    draw = np.random.default_rng(3)
    sources = draw.normal(size=(SOURCES, 2)) * [1.5, 0.6]
    angle = np.deg2rad(35.0)
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * [1.2, 0.8]
    chosen = np.concatenate([np.arange(SOURCES), draw.integers(0, SOURCES, SINKS - SOURCES)])
    sinks = sources[chosen] @ turned.T + [1.0, 0.5] + 0.15 * draw.normal(size=(SINKS, 2))
    masses, sink_masses = draw.uniform(0.5, 1.5, SOURCES), draw.uniform(0.5, 1.5, SINKS)
    return sources, sinks, masses / masses.sum(), sink_masses / sink_masses.sum()


def by_linear_programming(costs: Array, masses: Array, sink_masses: Array) -> Array:
    """The cheapest plan for given costs, from HiGHS."""
    sums_of_rows = np.kron(np.eye(len(masses)), np.ones(len(sink_masses)))
    sums_of_columns = np.kron(np.ones(len(masses)), np.eye(len(sink_masses)))
    equations = np.concatenate([sums_of_rows, sums_of_columns])
    solution = linprog(costs.ravel(), A_eq=equations, b_eq=np.concatenate([masses, sink_masses]))
    return np.array(solution.x).reshape(costs.shape)


def by_least_squares(plan: Array, sources: Array, sinks: Array) -> Array:
    """The best linear map and shift for a given plan: (2, 3)."""
    rows = np.concatenate([sources, np.ones((len(sources), 1))], axis=1)
    solved: Array = np.linalg.solve(rows.T * plan.sum(axis=1) @ rows, rows.T @ plan @ sinks)
    return solved.T


def train(sources: Tensor, sinks: Tensor, masses: Array, sink_masses: Array) -> tuple[Transport, list[float]]:
    """The trained layer, and how much its plan costs beyond the cheapest one for the same costs, every 20 steps."""
    model = Transport()
    groups = [{"params": model.map.parameters(), "lr": 0.02}, {"params": [model.plan], "lr": 0.005}]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    affinet.project(model, optimizer, families.transport(affinet.weights(model).plan, masses, sink_masses))
    gaps = []
    for step in range(STEPS):
        if step % 20 == 0:
            gaps.append(gap(model, sources, sinks, masses, sink_masses))
        optimizer.zero_grad()
        model(sources, sinks).backward()
        optimizer.step()
        schedule.step()
    return model, [*gaps, gap(model, sources, sinks, masses, sink_masses)]


@torch.no_grad()
def gap(model: Transport, sources: Tensor, sinks: Tensor, masses: Array, sink_masses: Array) -> float:
    """The cost of the trained plan, less that of the cheapest plan for the same costs."""
    costs = model.costs(sources, sinks).numpy()
    return float((costs * (model.plan.numpy() - by_linear_programming(costs, masses, sink_masses))).sum())


def draw(model: Transport, clouds: tuple[Array, Array, Array, Array], gaps: list[float], path: Path) -> None:
    """The clouds and what is moved from where to where; how far the plan is from the cheapest one."""
    from matplotlib.figure import Figure

    sources, sinks, masses, sink_masses = clouds
    mapped, plan = model.map(torch.tensor(sources)).detach().numpy(), model.plan.detach().numpy()
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    for source, sink in np.argwhere(plan > 0):
        left.plot(*np.stack([mapped[source], sinks[sink]]).T, color="black", linewidth=25 * plan[source, sink])
    left.scatter(*sources.T, s=600 * masses, color="0.8", label="sources")
    left.scatter(*mapped.T, s=600 * masses, color="#D55E00", label="sources, mapped", zorder=3)
    left.scatter(*sinks.T, s=600 * sink_masses, color="#0072B2", label="sinks", zorder=3)
    left.set_aspect("equal")
    left.legend(frameon=False, loc="lower right")
    right.semilogy(20 * np.arange(len(gaps)), np.maximum(np.abs(gaps), 1e-17), "o-", color="#0072B2", markersize=3)
    right.set(xlabel="step", ylabel="cost beyond the cheapest plan", ylim=(1e-17, 10))
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, compare with the linear program, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    sources, sinks, masses, sink_masses = clouds()
    model, gaps = train(torch.tensor(sources), torch.tensor(sinks), masses, sink_masses)
    plan = model.plan.detach().numpy()
    costs = model.costs(torch.tensor(sources), torch.tensor(sinks)).detach().numpy()
    cheapest = by_linear_programming(costs, masses, sink_masses)
    best = by_least_squares(plan, sources, sinks)
    trained = np.concatenate([model.map.weight.detach().numpy(), model.map.bias.detach().numpy()[:, None]], axis=1)
    assert abs(gaps[-1]) < 1e-12
    assert np.abs(plan - cheapest).max() < 1e-12
    assert plan.min() == 0.0
    assert ((plan > 0) == (cheapest > 1e-12)).all()
    assert max(np.abs(plan.sum(axis=1) - masses).max(), np.abs(plan.sum(axis=0) - sink_masses).max()) < 1e-15
    assert np.abs(trained - best).max() < 1e-4

    print("                  cost   entries above zero of 252")
    for name, values in (("trained plan", plan), ("linprog", cheapest)):
        print(f"{name:<14}{(values * costs).sum():>8.4f}{(values > 1e-12).sum():>28}")
    print("the plans agree to 1e-12, and the map is that of least squares for this plan to 1e-4")
    if arguments.figure:
        draw(model, (sources, sinks, masses, sink_masses), gaps, arguments.figure)


if __name__ == "__main__":
    main()
