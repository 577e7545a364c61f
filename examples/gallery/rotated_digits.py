"""A digit network that gives the same answer for an image and its three quarter turns.

A small convolutional network learns handwritten digits. Its channels come in fours, one for each direction; the rules
say that turning the image turns the maps and moves the four channels on by one, and that the scores stay. What is left
are the group convolutions of Cohen & Welling (2016). The same network without rules learns from the same upright
images, or from images turned at random; then all are asked about turned ones.

    python examples/gallery/rotated_digits.py --figure docs/gallery/rotated_digits.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import affinet
from affinet import Constraint, families

FIRST, SECOND, EPOCHS = 8, 16, 12
WAYS = ("without rules", "without rules, turned", "with rules")
TURNS = ("upright", "90°", "180°", "270°")
Indices = NDArray[np.int64]


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images of 8 × 8 with values from 0 to 1, for training and for testing, and their classes."""
    bunch = load_digits()
    images = bunch.images[:, None] / 16.0
    x, test_x, y, test_y = train_test_split(images, bunch.target, test_size=0.3, random_state=0, stratify=bunch.target)
    return torch.tensor(x).float(), torch.tensor(test_x), torch.tensor(y), torch.tensor(test_y)


def network() -> nn.Sequential:
    """Two convolutions with pooling between, and a linear layer on the 2 × 2 that are left of the image."""
    return nn.Sequential(
        *(nn.Conv2d(1, 4 * FIRST, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4 * FIRST, 4 * SECOND, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(4 * SECOND * 2 * 2, 10)),
    )


def on_places(side: int) -> Indices:
    """A quarter turn of a square, as a permutation of its places."""
    places: Indices = np.rot90(np.arange(side**2).reshape(side, side)).ravel()
    return places


def on_channels(count: int) -> Indices:
    """What the turn does to `count` times four directions: each becomes the next."""
    return np.arange(4 * count).reshape(count, 4)[:, [3, 0, 1, 2]].ravel()


def on_both(count: int, side: int) -> Indices:
    """The turn of squares of four directions: channels and places at once."""
    return (on_channels(count)[:, None] * side**2 + on_places(side)).ravel()


def rules_of(model: nn.Sequential) -> list[Constraint]:
    """Turn the input of a layer, and its output is turned; turn that of the last, and its output stays."""
    w = affinet.weights(model)
    kernels, more = w[0].weight.reshape(4 * FIRST, 9), w[3].weight.reshape(4 * SECOND, 4 * FIRST * 9)
    first, second = [on_channels(FIRST)], [on_channels(SECOND)]
    return [
        families.equivariant(kernels, inputs=[on_places(3)], outputs=first),
        families.equivariant(w[0].bias, outputs=first),
        families.equivariant(more, inputs=[on_both(FIRST, 3)], outputs=second),
        families.equivariant(w[3].bias, outputs=second),
        families.equivariant(w[7].weight, inputs=[on_both(SECOND, 2)], outputs=[np.arange(10)]),
    ]


def turned(x: Tensor) -> list[Tensor]:
    """The images as they are and after one, two and three quarter turns."""
    return [torch.rot90(x, turns, (2, 3)) for turns in range(4)]


@dataclass(frozen=True)
class Trained:
    """A plain network after training, in float64, and how many numbers were trained."""

    model: nn.Sequential
    numbers: int

    @torch.no_grad()
    def scores(self, x: Tensor) -> Tensor:
        """For each turn, the scores of every image."""
        return torch.stack([self.model(images) for images in turned(x)])

    def accuracies(self, x: Tensor, y: Tensor) -> list[float]:
        """For each turn, the share of images whose largest score is their class."""
        return [float(right) for right in (self.scores(x).argmax(dim=2) == y).double().mean(dim=1)]

    def change(self, x: Tensor) -> float:
        """The largest change of a score under a turn, over the largest score."""
        scores = self.scores(x)
        return float((scores - scores[0]).abs().max() / scores.abs().max())


def train(x: Tensor, y: Tensor, way: str) -> Trained:
    """The network with or without rules, on images as they are or turned at random."""
    torch.manual_seed(0)
    model = network()
    if way == "with rules":
        affinet.reparametrize(model, rules_of(model), basis="free", restore_variance=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            images = x[batch]
            if way.endswith("turned"):
                turns = torch.randint(4, (len(batch),))
                images = torch.stack(turned(images))[turns, torch.arange(len(batch))]
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), y[batch]).backward()
            optimizer.step()
    numbers = sum(p.numel() for p in model.parameters())
    if way == "with rules":
        affinet.bake(model)
    return Trained(model.double(), numbers)


def draw(trained: dict[str, Trained], image: Tensor, found: dict[str, list[float]], path: Path) -> None:
    """One image and its turns with the scores that two networks give them, and all accuracies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.6), layout="constrained")
    grid = figure.add_gridspec(3, 5, width_ratios=[1, 1, 1, 1, 3.2], height_ratios=[1, 1, 1])
    for turn, picture in enumerate(turned(image[None])):
        panel = figure.add_subplot(grid[0, turn])
        panel.imshow(picture[0, 0], cmap="gray_r")
        panel.set_title(TURNS[turn], fontsize=9)
        panel.axis("off")
    for row, (name, colour) in enumerate((("without rules", "#D55E00"), ("with rules", "#0072B2")), start=1):
        shares = trained[name].scores(image[None])[:, 0].softmax(dim=1)
        for turn, share in enumerate(shares):
            panel = figure.add_subplot(grid[row, turn])
            panel.bar(range(10), share, color=colour)
            panel.set(ylim=(0, 1.05), yticks=[])
            panel.set_xticks(range(10), [str(digit) for digit in range(10)], fontsize=7)
            if not turn:
                panel.set_ylabel(f"probability,\n{name}", fontsize=9)
    bars = figure.add_subplot(grid[:, 4])
    for k, ((name, values), colour) in enumerate(zip(found.items(), ("#D55E00", "#E69F00", "#0072B2"), strict=True)):
        bars.bar(np.arange(4) + 0.27 * (k - 1), np.array(values) * 100, 0.25, color=colour, label=name)
    bars.set_xticks(range(4), TURNS)
    bars.set_title("all 540 test images", fontsize=10)
    bars.set(ylabel="test accuracy (%)", ylim=(0, 128), yticks=range(0, 101, 20))
    bars.legend(frameon=False, loc="upper right", fontsize=9)
    bars.grid(alpha=0.3, axis="y")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train three ways, turn the test images, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    x, test_x, y, test_y = digits()
    trained = {way: train(x, y, way) for way in WAYS}
    found = {way: network.accuracies(test_x, test_y) for way, network in trained.items()}
    changes = {way: network.change(test_x) for way, network in trained.items()}
    kernels = trained["with rules"].model.get_parameter("0.weight").detach().reshape(FIRST, 4, 3, 3)
    for direction in range(4):
        assert torch.equal(kernels[:, direction], torch.rot90(kernels[:, 0], direction, (1, 2)))
    assert changes["with rules"] < 1e-12
    assert max(found["with rules"]) == min(found["with rules"]) > 0.88
    assert found["without rules"][0] > 0.96
    assert max(found["without rules"][1:]) < 0.6
    assert changes["without rules, turned"] > 0.1

    print("test accuracy            numbers" + "".join(f"{turn:>9}" for turn in TURNS) + "   largest change of a score")
    for way, values in found.items():
        figures = "".join(f"{100 * value:>8.0f}%" for value in values)
        told = "under 1e-12" if changes[way] < 1e-12 else f"{changes[way]:.1f}"
        print(f"{way:<23}{trained[way].numbers:>9,}{figures}{told:>28}")
    print("with rules: the four kernels of a channel are quarter turns of one, bit for bit")
    if arguments.figure:
        draw(trained, test_x[int(np.flatnonzero(test_y == 3)[0])], found, arguments.figure)


if __name__ == "__main__":
    main()
