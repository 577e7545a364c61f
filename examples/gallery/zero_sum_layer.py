"""A first layer whose rows sum to zero does not see how bright an image is.

Two classifiers of handwritten digits, from the same seed on the same batches. In one every row of the first layer's
weights sums to zero, so that adding a number to all pixels changes nothing; then pixels of the test images are made
brighter and darker than any image of the training.

    python examples/gallery/zero_sum_layer.py --figure docs/gallery/zero_sum_layer.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import affinet

SHIFTS = np.linspace(-1.0, 1.0, 21)
EPOCHS = 30


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images with pixels from 0 (paper) to 1 (ink), for training and for testing, and their classes."""
    bunch = load_digits()
    parts = train_test_split(bunch.data / 16.0, bunch.target, test_size=0.3, random_state=0, stratify=bunch.target)
    train_x, test_x, train_y, test_y = parts
    return (
        torch.tensor(train_x, dtype=torch.float32),
        torch.tensor(test_x, dtype=torch.float32),
        torch.tensor(train_y),
        torch.tensor(test_y),
    )


def train(x: Tensor, y: Tensor, *, zero_sum: bool) -> nn.Sequential:
    """A network of one hidden layer, with or without the rule."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    if zero_sum:
        affinet.project(model, optimizer, affinet.weights(model)[0].weight.sum(dim=1) == 0)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of images whose largest output is their class."""
    return float((model(x).argmax(dim=1) == y).double().mean())


@torch.no_grad()
def change(model: nn.Module, x: Tensor) -> float:
    """The largest change of any output under any of the shifts, over the largest output."""
    before = model(x)
    after = [model(x + float(shift)) for shift in SHIFTS]
    return max(float((outputs - before).abs().max()) for outputs in after) / float(before.abs().max())


def draw(curves: dict[str, list[float]], image: Tensor, path: Path) -> None:
    """Accuracy against the shift, and what the shifts do to an image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=[3.4, 1])
    for (name, values), colour in zip(curves.items(), ("#D55E00", "#0072B2"), strict=True):
        top.plot(SHIFTS, np.array(values) * 100, "o-", color=colour, linewidth=2, markersize=4, label=name)
    top.axvline(0, color="black", linewidth=0.8, linestyle=":")
    top.set(ylabel="test accuracy (%)", ylim=(0, 103), xlim=(-1.07, 1.07))
    top.set(xlabel="number added to every pixel (ink is 1, paper is 0)")
    top.legend(frameon=False, loc="lower right")
    top.grid(alpha=0.3)
    shifts = (-1.0, -0.5, 0.0, 0.5, 1.0)
    gap = np.full((8, 7), np.nan)
    tiles = [part for shift in shifts for part in (image.reshape(8, 8).numpy() + shift, gap)][:-1]
    bottom.imshow(np.concatenate(tiles, axis=1), cmap="gray_r", vmin=-1, vmax=2)
    bottom.set_xticks(
        [3.5 + 15 * k for k in range(5)], [f"{shift:+g}".replace("-", "−") if shift else "as it is" for shift in shifts]
    )
    bottom.set_yticks([])
    bottom.tick_params(length=0)
    for side in bottom.spines.values():
        side.set_visible(False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train both, shift the test images, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    x, test_x, y, test_y = digits()
    models = {"without rules": train(x, y, zero_sum=False), "rows sum to zero": train(x, y, zero_sum=True)}
    curves = {
        name: [accuracy(model, test_x + float(shift), test_y) for shift in SHIFTS] for name, model in models.items()
    }
    plain, zero = curves.values()
    middle = len(SHIFTS) // 2
    changes = {name: change(model, test_x) for name, model in models.items()}
    assert changes["rows sum to zero"] < 1e-5
    assert max(zero) - min(zero) < 0.002  # a tie between two outputs may be decided by rounding
    assert min(zero[middle], plain[middle]) > 0.95
    assert max(plain[0], plain[-1]) < 0.7

    print("                     accuracy on 540 test images           largest change of")
    print("                     as they are   +0.5 a pixel   +1 a pixel   an output, relative")
    for name, values in curves.items():
        figures = [100 * values[k] for k in (middle, middle + 5, middle + 10)]
        told = "under 1e-5" if changes[name] < 1e-5 else f"{changes[name]:.1f}"
        print(f"{name:<18}" + "".join(f"{figure:>12.0f}%" for figure in figures) + f"{told:>20}")
    if arguments.figure:
        draw(curves, test_x[1], arguments.figure)


if __name__ == "__main__":
    main()
