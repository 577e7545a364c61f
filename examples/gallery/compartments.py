"""A linear compartment model fitted to measurements: no mass is made or lost, and rates stay where there are pipes.

Four compartments exchange a substance, `dx/dt = K x`. Every column of K sums to zero: what leaves one compartment
arrives in the others. Compartments without a pipe between them have rate zero. K is learnt from noisy trajectories in
float64, with the rules and without, and then predicts far beyond them.

    python examples/gallery/compartments.py --figure docs/gallery/compartments.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import expm
from scipy.optimize import least_squares
from torch import Tensor, nn

import affinet
from affinet import families

PIPES = ((0, 1, 0.9), (1, 0, 0.4), (1, 2, 0.5), (2, 1, 0.3), (2, 3, 0.2), (3, 2, 0.1))
"""From, to, and how much of what is there flows in a unit of time."""
STEP, STEPS, RUNS, NOISE = 0.5, 12, 6, 0.03
Array = NDArray[np.float64]


def true_rates() -> Array:
    """`K[i, j]` leads from compartment j to i; the diagonal is what leaves."""
    K = np.zeros((4, 4))
    for start, end, rate in PIPES:
        K[end, start] += rate
        K[start, start] -= rate
    return K


NO_PIPE = (true_rates() == 0) & ~np.eye(4, dtype=bool)


@dataclass(frozen=True)
class Measurements:
    """`states[run, step, compartment]`: known exactly at step 0, measured with noise from then on."""

    states: Array

    @classmethod
    def random(cls) -> Measurements:
        """Trajectories of the true model from random first states of total one."""
        numbers = np.random.default_rng(0)
        first = numbers.dirichlet(np.ones(4), RUNS)
        powers = np.array([expm(true_rates() * STEP * step) for step in range(STEPS + 1)])
        states = np.einsum("sij,rj->rsi", powers, first)
        states[:, 1:] += numbers.normal(0, NOISE, states[:, 1:].shape)
        return cls(states)

    def residuals(self, K: Array) -> Array:
        """Measured minus predicted, by NumPy and SciPy."""
        powers = np.array([expm(K * STEP * step) for step in range(1, STEPS + 1)])
        gap: Array = self.states[:, 1:] - np.einsum("sij,rj->rsi", powers, self.states[:, 0])
        return gap.ravel()


class Rates(nn.Module):
    """The model that is learnt: K, and what it predicts."""

    def __init__(self) -> None:
        super().__init__()
        self.K = nn.Parameter(torch.zeros(4, 4, dtype=torch.float64))

    def forward(self, first: Tensor) -> Tensor:
        """The states at all steps after the first."""
        times = STEP * torch.arange(1, STEPS + 1, dtype=torch.float64)
        powers = torch.linalg.matrix_exp(self.K * times[:, None, None])
        return torch.einsum("sij,rj->rsi", powers, first)


def fit(data: Measurements, *, rules: bool) -> Array:
    """Least squares with L-BFGS from K = 0."""
    model = Rates()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )
    if rules:
        K = affinet.weights(model).K
        affinet.project(model, optimizer, [K.sum(dim=0) == 0, families.fix(K, where=NO_PIPE)])
    states = torch.from_numpy(data.states)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = (model(states[:, 0]) - states[:, 1:]).square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found: Array = model.K.detach().numpy()
    return found


def fit_rates(data: Measurements) -> Array:
    """The same optimum by SciPy, from a parametrization of its own: one unknown for each pipe."""

    def assembled(rates: Array) -> Array:
        K = np.zeros((4, 4))
        for (start, end, _), rate in zip(PIPES, rates, strict=True):
            K[end, start] += rate
            K[start, start] -= rate
        return K

    found = least_squares(lambda rates: data.residuals(assembled(rates)), np.full(6, 0.1), xtol=1e-15, ftol=1e-15)
    return assembled(found.x)


def predicted(K: Array, first: Array, times: Array) -> Array:
    """States at the given times."""
    states: Array = np.array([expm(K * time) @ first for time in times])
    return states


def draw(fits: dict[str, Array], data: Measurements, path: Path) -> None:
    """One trajectory and its prediction, and the total mass that both models predict."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
    times, first = np.linspace(0, 25, 200), data.states[0, 0]
    curves = predicted(fits["with rules"], first, times)
    truth = predicted(true_rates(), first, times)
    for k, colour in enumerate(colours):
        left.plot(times, truth[:, k], "--", color="black", linewidth=0.8, label=None if k else "the truth")
        left.plot(times, curves[:, k], color=colour, linewidth=2, label=f"compartment {k + 1}")
        left.plot(STEP * np.arange(STEPS + 1), data.states[0, :, k], ".", color=colour)
    left.set(xlabel="time", ylabel="amount", title="measured (dots), and with the rules (lines)")
    left.legend(frameon=False, fontsize=8, ncols=3, loc="upper right")
    left.set_ylim(-0.04, 0.72)
    long = np.linspace(0, 60, 300)
    for (name, K), colour in zip(fits.items(), ("#0072B2", "#D55E00"), strict=True):
        right.plot(long, predicted(K, first, long).sum(axis=1), color=colour, linewidth=2, label=name)
    right.axvspan(0, STEP * STEPS, color="black", alpha=0.07, linewidth=0)
    right.text(STEP * STEPS / 2, 0.955, "data", ha="center", color="#555555")
    right.set(xlabel="time", ylabel="total amount", ylim=(0.95, 1.08), title="mass, in the data and long after")
    right.legend(frameon=False, loc="upper center")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Fit both ways, compare with SciPy, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    data = Measurements.random()
    fits = {"with rules": fit(data, rules=True), "without rules": fit(data, rules=False)}
    K = fits["with rules"]
    first = data.states[0, 0]
    mass = {name: float(predicted(k, first, np.array([60.0])).sum()) for name, k in fits.items()}
    errors = {name: float(np.abs(k - true_rates()).max()) for name, k in fits.items()}
    assert np.abs(K.sum(axis=0)).max() < 1e-15
    assert (K[NO_PIPE] == 0).all()
    assert abs(mass["with rules"] - 1) < 1e-12
    assert abs(mass["without rules"] - 1) > 0.01
    assert np.abs(K - fit_rates(data)).max() < 1e-6
    assert K[~NO_PIPE & ~np.eye(4, dtype=bool)].min() > 0

    print("               mass after 10 times the data's span   largest error of a rate   rates without a pipe")
    for name, k in fits.items():
        strangers = np.abs(k[NO_PIPE]).max()
        shown = "0" if strangers == 0 else f"up to {strangers:.2f}"
        print(f"{name:<14}{mass[name]:>38.4f}{errors[name]:>26.3f}{shown:>25}")
    print("with rules: mass is kept to 1e-12, and K is that of SciPy's least squares over the six pipes to 1e-6")
    if arguments.figure:
        draw(fits, data, arguments.figure)


if __name__ == "__main__":
    main()
