"""Wavelet filters learnt from data: Daubechies' D4 and D6, found from signals alone.

A filter of 4 or 6 taps is to leave as little as it can in the details of given signals, and stay the filter of an
orthonormal wavelet. Signals made of pieces of lines and parabolas lead to the filters that Daubechies published.

    python examples/gallery/learnt_wavelets.py --figure docs/gallery/learnt_wavelets.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

import affinet
from affinet import families

SIGNALS, LENGTH = 64, 32
Array = NDArray[np.float64]
# Daubechies, Comm. Pure Appl. Math. 41, 1988, section 4.
D4 = np.array([1 + sqrt(3), 3 + sqrt(3), 3 - sqrt(3), 1 - sqrt(3)]) / (4 * sqrt(2))
A, B = sqrt(10), sqrt(5 + 2 * sqrt(10))
D6 = np.array([1 + A + B, 5 + A + 3 * B, 10 - 2 * A + 2 * B, 10 - 2 * A - 2 * B, 5 + A - 3 * B, 1 + A - B])
D6 = D6 / (16 * sqrt(2))


class LowPass(nn.Module):
    """The low-pass filter of a wavelet; its high-pass filter has the same taps, reversed and with alternating signs."""

    def __init__(self, taps: int) -> None:
        super().__init__()
        self.taps = nn.Parameter(1 / sqrt(taps) + 0.2 * torch.randn(taps))

    def forward(self, signals: Tensor) -> Tensor:
        """The details of every signal, one for every two samples."""
        signs = torch.tensor([(-1.0) ** k for k in range(len(self.taps))])
        return nn.functional.conv1d(signals[:, None], (self.taps.flip(0) * signs)[None, None], stride=2)[:, 0]


@dataclass(frozen=True)
class Fitted:
    """A trained filter, the energy of its details, and all filters on the way."""

    taps: Array
    energy: float
    path: Array


def polynomials(degree: int) -> Tensor:
    """Signals that are polynomials of a degree, with random coefficients."""
    coefficients = np.random.default_rng(0).normal(size=(SIGNALS, degree + 1))
    powers = np.linspace(-1.0, 1.0, LENGTH) ** np.arange(degree + 1)[:, None]
    return torch.tensor(coefficients @ powers)


def photograph() -> Tensor:
    """Pieces of rows of a photograph, without their means."""
    image = load_sample_image("china.jpg").mean(axis=2)[::16, :640] / 255
    pieces = image.reshape(-1, LENGTH)
    return torch.tensor(pieces - pieces.mean(axis=1, keepdims=True))


def train(taps: int, signals: Tensor, seed: int, steps: int) -> Fitted:
    """Minimise the energy of the details under the rule, by Adam."""
    torch.manual_seed(seed)
    model = LowPass(taps)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    handle = affinet.project(model, optimizer, families.wavelet(affinet.weights(model).taps))
    path = [model.taps.detach().numpy().copy()]
    for _ in range(steps):
        optimizer.zero_grad()
        model(signals).square().mean().backward()
        optimizer.step()
        schedule.step()
        path.append(model.taps.detach().numpy().copy())
    assert max(handle.violation().values()) < 1e-14
    return Fitted(path[-1], model(signals).square().mean().item(), np.array(path))


def on_the_circle(angles: Array) -> Array:
    """All filters of 4 taps, by one angle (Pollen, J. AMS 3, 1990): (angles, 4)."""
    s, c = np.sin(angles), np.cos(angles)
    return np.stack([1 + c + s, 1 - c + s, 1 - c - s, 1 + c - s], axis=1) / (2 * sqrt(2))


def energies(filters: Array, signals: Tensor) -> Array:
    """The energy of the details that each of several filters leaves."""
    model = LowPass(filters.shape[1])
    values = []
    for taps in filters:
        model.taps.data = torch.tensor(taps)
        values.append(model(signals).square().mean().item())
    return np.array(values)


def draw(fitted: dict[str, Fitted], signals: Tensor, path: Path) -> None:
    """The energy along the closed curve of filters of 4 taps with the training on it; the taps beside the published."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, *bars = figure.subplots(1, 3, width_ratios=[1.7, 1, 1.2])
    angles = np.linspace(-np.pi, np.pi, 721)
    left.plot(angles, energies(on_the_circle(angles), signals), color="0.6", linewidth=1.5)
    steps = fitted["D4"].path
    places = np.arctan2(steps[:, 1] - steps[:, 2], steps[:, 0] - steps[:, 1])
    heights = energies(steps, signals)
    left.plot(places, heights, ".", color="#0072B2", markersize=4, label="training")
    left.plot(places[0], heights[0], "o", color="#0072B2", markersize=7, label="start")
    left.plot(places[-1], heights[-1], "*", color="#D55E00", markersize=13, label="end: D4")
    left.set(xlabel="angle on the curve of filters of 4 taps", ylabel="energy of the details")
    left.legend(frameon=False, loc="upper left")
    for panel, (name, published) in zip(bars, {"D4": D4, "D6": D6}.items(), strict=True):
        panel.axhline(0, color="black", linewidth=0.8)
        panel.bar(range(len(published)), fitted[name].taps, color="#0072B2", width=0.6, label="learnt")
        panel.plot(range(len(published)), published, "_", color="black", markersize=22, label="published")
        panel.set(title=name, xlabel="tap", ylim=(-0.2, 0.95))
    bars[-1].legend(frameon=False)
    figure.savefig(path, dpi=120)


def report(name: str, fitted: Fitted, published: Array, signals: Tensor) -> None:
    """Print the energies of a learnt and of the published filter, and how far their taps are from each other."""
    distance = min(np.abs(fitted.taps - filters).max() for filters in (published, published[::-1]))
    near = "under 1e-7" if distance < 1e-7 else f"{distance:.3f}"
    least = "under 1e-15" if fitted.energy < 1e-15 else f"{fitted.energy:.3g}"
    known = energies(published[None], signals)[0]
    print(f"{name:<32}{least:>12}{'under 1e-15' if known < 1e-15 else f'{known:.3g}':>22}{near:>20}")


def main() -> None:
    """Learn both filters, compare with the published ones, print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    lines, parabolas, rows = polynomials(1), polynomials(2), photograph()
    fitted = {"D4": train(4, lines, 0, 300), "D6": train(6, parabolas, 3, 400)}
    other, of_rows = train(6, parabolas, 0, 200), train(4, rows, 0, 150)
    for name, published in (("D4", D4), ("D6", D6)):
        assert np.abs(fitted[name].taps - published).max() < 1e-7
    # A scan of the whole curve has no better filter than training found on the photograph.
    scan = energies(on_the_circle(np.linspace(-np.pi, np.pi, 721)), rows)
    assert of_rows.energy <= scan.min()

    print("                              energy learnt      energy published   distance of taps")
    report("lines, 4 taps", fitted["D4"], D4, lines)
    report("parabolas, 6 taps", fitted["D6"], D6, parabolas)
    report("parabolas, 6 taps, other start", other, D6, parabolas)
    report("rows of a photograph, 4 taps", of_rows, D4, rows)
    if arguments.figure:
        draw(fitted, lines, arguments.figure)


if __name__ == "__main__":
    main()
