"""A learnt simulator of masses and springs that neither gains nor loses energy: `W.T @ H @ W == H`.

Four masses between walls; one layer learns their next positions and speeds from noisy pairs. The masses and springs are
known, so the energy is. Among the layers that keep it the best one has a closed form, a Procrustes problem.

    python examples/gallery/conserved_energy.py --figure docs/gallery/conserved_energy.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import expm
from torch import Tensor, nn

import affinet

MASSES, SPRINGS = np.array([1.0, 2.0, 0.5, 1.5]), np.array([1.0, 3.0, 2.0, 0.5, 1.0])
COUNT, STEP, PAIRS, NOISE, STEPS, AHEAD = len(MASSES), 0.3, 80, 0.06, 250, 1000
Array = NDArray[np.float64]


def mechanics() -> tuple[Array, Array]:
    """The matrix H of the energy `½ uᵀ H u` of a state (positions, speeds), and the true step of time."""
    springs = np.diag(SPRINGS[:-1] + SPRINGS[1:]) - np.diag(SPRINGS[1:-1], 1) - np.diag(SPRINGS[1:-1], -1)
    none = np.zeros((COUNT, COUNT))
    energy = np.block([[springs, none], [none, np.diag(MASSES)]])
    motion = np.block([[none, np.eye(COUNT)], [-springs / MASSES[:, None], none]])
    return energy, expm(STEP * motion)


def pairs(energy: Array, truth: Array) -> tuple[Tensor, Tensor]:
    """States, and noisy next states; the noise has the same energy in every direction."""
    draw = np.random.default_rng(0)
    spread = np.linalg.inv(np.linalg.cholesky(energy))
    states = draw.normal(size=(PAIRS, 2 * COUNT)) @ spread
    return torch.tensor(states), torch.tensor(states @ truth.T + NOISE * draw.normal(size=states.shape) @ spread)


def train(states: Tensor, following: Tensor, energy: Array, *, conserve: bool) -> Array:
    """Minimise the energy of the errors by Adam, with or without the rule; the trained matrix."""
    model = nn.Linear(2 * COUNT, 2 * COUNT, bias=False)
    nn.init.eye_(model.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if conserve:
        w = affinet.weights(model).weight
        affinet.project(model, optimizer, (w.T @ energy @ w == energy).named("energy is conserved"))
    metric = torch.tensor(energy)
    for _ in range(STEPS):
        optimizer.zero_grad()
        error = model(states) - following
        (error @ metric * error).sum(dim=1).mean().backward()
        optimizer.step()
        schedule.step()
    return model.weight.detach().numpy().copy()


def by_procrustes(states: Tensor, following: Tensor, energy: Array) -> Array:
    """The best matrix that conserves energy: an orthogonal Procrustes problem in the coordinates where H is I."""
    factor = np.linalg.cholesky(energy)
    left, _, right = np.linalg.svd((following.numpy() @ factor).T @ (states.numpy() @ factor))
    matrix: Array = np.linalg.solve(factor.T, left @ right @ factor.T)
    return matrix


def simulate(matrix: Array) -> Array:
    """The states that follow when the first mass is pulled aside: (AHEAD + 1, 2 COUNT)."""
    states = [np.eye(2 * COUNT)[0]]
    for _ in range(AHEAD):
        states.append(matrix @ states[-1])
    return np.array(states)


def draw(runs: dict[str, Array], energy: Array, path: Path) -> None:
    """The energy of the simulated states, and the position of the first mass in the last steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.4])
    styles = {"truth": ("black", "--", 1.2), "with the rule": ("#0072B2", "-", 1.8), "without": ("#D55E00", "-", 1.4)}
    times = STEP * np.arange(AHEAD + 1)
    for name, states in runs.items():
        colour, style, width = styles[name]
        energies = np.einsum("ti,ij,tj->t", states, energy, states) / 2
        left.semilogy(times, energies, color=colour, linestyle=style, linewidth=width, label=name)
        right.plot(times[-100:], states[-100:, 0], color=colour, linestyle=style, linewidth=width)
    left.set(xlabel="time", ylabel="energy", ylim=(1, None))
    left.legend(frameon=False)
    right.set(xlabel="time", ylabel="position of the first mass")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train both ways, compare with the closed form, simulate, print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    energy, truth = mechanics()
    states, following = pairs(energy, truth)
    ruled = train(states, following, energy, conserve=True)
    free = train(states, following, energy, conserve=False)
    best = by_procrustes(states, following, energy)
    assert np.abs(ruled.T @ energy @ ruled - energy).max() < 1e-13
    assert np.abs(ruled - best).max() < 1e-4

    runs = {"truth": simulate(truth), "with the rule": simulate(ruled), "without": simulate(free)}
    print(f"                error of one step   energy after {AHEAD} steps   size of eigenvalues")
    for name, matrix in (("with the rule", ruled), ("without", free), ("Procrustes", best)):
        last = simulate(matrix)[-1]
        kept = (last @ energy @ last) / energy[0, 0]
        sizes = np.abs(np.linalg.eigvals(matrix))
        error = np.sqrt(np.trace((matrix - truth).T @ energy @ (matrix - truth) @ np.linalg.inv(energy)))
        print(f"{name:<14}{error:>19.3f}{kept:>24.3f}{f'{sizes.min():.3f} to {sizes.max():.3f}':>22}")
    if arguments.figure:
        draw(runs, energy, arguments.figure)


if __name__ == "__main__":
    main()
