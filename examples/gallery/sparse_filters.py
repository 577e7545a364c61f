"""Filters with a budget of magnitude are sparse: exact zeros, chosen by the data.

Two receivers record one signal, each with four echoes of it and with noise. Two filters of 60 taps learn which echoes
they are, from 150 samples; the magnitudes of each may add up to 2 at most. The solution is that of the lasso, which
scikit-learn's path of solutions gives independently.

    python examples/gallery/sparse_filters.py --figure docs/gallery/sparse_filters.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import lars_path
from torch import Tensor, nn

import affinet
from affinet import families

FILTERS, TAPS, SAMPLES, BUDGET, NOISE, STEPS = 2, 60, 150, 2.0, 0.5, 800
Array = NDArray[np.float64]


def echoes() -> Array:
    """The true filters: four taps each, whose magnitudes add up to the budget."""
    truth = np.zeros((FILTERS, TAPS))
    truth[0, [3, 11, 24, 47]] = 1.0, -0.5, 0.3, 0.2
    truth[1, [6, 19, 30, 52]] = 0.8, 0.6, -0.4, 0.2
    return truth


def recordings() -> tuple[Tensor, Tensor]:
    """The signal (1, 1, time) and what the receivers recorded (1, filters, samples)."""
    draw = np.random.default_rng(1)
    signal = draw.normal(size=SAMPLES + TAPS - 1)
    windows = np.lib.stride_tricks.sliding_window_view(signal, TAPS)
    heard = echoes() @ windows.T + NOISE * draw.normal(size=(FILTERS, SAMPLES))
    return torch.tensor(signal)[None, None], torch.tensor(heard)[None]


def train(signal: Tensor, heard: Tensor, *, budget: bool) -> Array:
    """The filters of least squares, with or without the budget."""
    model = nn.Conv1d(1, FILTERS, TAPS, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if budget:
        affinet.project(model, optimizer, families.l1_ball(affinet.weights(model).weight, BUDGET, dim=2))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (0.5 * (model(signal) - heard).square().sum() / SAMPLES).backward()
        optimizer.step()
        schedule.step()
    return model.weight.detach().numpy()[:, 0].copy()


def by_lasso_path(signal: Tensor, heard: Tensor) -> Array:
    """The filters from scikit-learn's path of the lasso, which is linear between its corners, at the budget."""
    windows = np.lib.stride_tricks.sliding_window_view(signal.numpy()[0, 0], TAPS)
    filters = []
    for recording in heard.numpy()[0]:
        _, _, corners = lars_path(windows, recording, method="lasso")
        magnitudes = np.abs(corners).sum(axis=0)
        after = int(np.argmax(magnitudes >= BUDGET))
        share = (BUDGET - magnitudes[after - 1]) / (magnitudes[after] - magnitudes[after - 1])
        filters.append((1 - share) * corners[:, after - 1] + share * corners[:, after])
    return np.stack(filters)


def draw(plain: Array, sparse: Array, path: Path) -> None:
    """The taps of both filters: the truth, and what was learnt with and without the budget."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.4), layout="constrained")
    taps = np.arange(TAPS)
    for panel, truth, free, bounded in zip(
        figure.subplots(FILTERS, 1, sharex=True), echoes(), plain, sparse, strict=True
    ):
        panel.axhline(0, color="black", linewidth=0.6)
        panel.vlines(taps, 0, free, color="#E69F00", linewidth=2, label="without the budget")
        kept = bounded != 0
        panel.vlines(taps[kept] + 0.3, 0, bounded[kept], color="#0072B2", linewidth=3, label="with the budget")
        heard = truth != 0
        panel.plot(taps[heard] + 0.3, truth[heard], "_", color="black", markersize=10, label="truth")
        panel.set(ylabel="weight")
    panel.set(xlabel="tap")
    figure.axes[0].legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Learn both ways, compare with the lasso, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    signal, heard = recordings()
    plain, sparse = train(signal, heard, budget=False), train(signal, heard, budget=True)
    lasso = by_lasso_path(signal, heard)
    truth = echoes()
    assert np.abs(sparse - lasso).max() < 1e-9
    assert ((sparse == 0) == (lasso == 0)).all()
    assert np.abs(np.abs(sparse).sum(axis=1) - BUDGET).max() < 1e-14
    assert (sparse[truth != 0] != 0).all()
    assert (plain != 0).all()

    print("                     taps that are not 0   sum of magnitudes   distance from the truth")
    for name, filters in (("truth", truth), ("without the budget", plain), ("with the budget", sparse)):
        counts, sums = (filters != 0).sum(axis=1), np.abs(filters).sum(axis=1)
        both = " and ".join(str(count) for count in counts)
        print(f"{name:<19}{both:>21}{f'{sums[0]:.1f} and {sums[1]:.1f}':>20}{np.linalg.norm(filters - truth):>26.2f}")
    if arguments.figure:
        draw(plain, sparse, arguments.figure)


if __name__ == "__main__":
    main()
