"""A dense layer under the rule that it is a convolution is nn.Conv2d: the same outputs, the same training.

The first layer of a digit network is dense, 64 pixels to 8 maps of 64. `families.convolution` leaves of its 32,768
weights the 72 of eight 3 × 3 kernels. With the kernels of an nn.Conv2d copied in, both networks are trained on the same
batches, in float64, and stay the same network. The dense layer without rules learns beside them.

    python examples/gallery/dense_convolution.py --figure docs/gallery/dense_convolution.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import affinet
from affinet import families

MAPS, STEPS, EXAMPLES = 8, 400, 200
LAST = (64 * MAPS + 1) * 10


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Few images of 8 × 8 for training, many for testing, with values from 0 to 1, and their classes."""
    bunch = load_digits()
    images = bunch.images[:, None] / 16.0
    x, test_x, y, test_y = train_test_split(
        images, bunch.target, train_size=EXAMPLES, random_state=0, stratify=bunch.target
    )
    return torch.tensor(x), torch.tensor(test_x), torch.tensor(y), torch.tensor(test_y)


class Convolutional(nn.Module):
    """What is usually written."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, MAPS, 3, padding=1, bias=False, dtype=torch.float64)
        self.last = nn.Linear(64 * MAPS, 10, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """A score for each digit."""
        scores: Tensor = self.last(torch.relu(self.first(x).flatten(1)))
        return scores

    def kernels(self) -> Tensor:
        """A copy of the kernels."""
        return self.first.weight[:, 0].detach().clone()


class Dense(nn.Module):
    """The same with a dense first layer; with the weights of a convolutional network, where one is given."""

    def __init__(self, other: Convolutional | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(64, 64 * MAPS, bias=False, dtype=torch.float64)
        self.last = nn.Linear(64 * MAPS, 10, dtype=torch.float64)
        if other:
            with torch.no_grad():
                self.first.weight.copy_(matrix_of(other.first.weight))
            self.last.load_state_dict(other.last.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """A score for each digit."""
        scores: Tensor = self.last(torch.relu(self.first(x.flatten(1))))
        return scores

    def kernels(self) -> Tensor:
        """A copy of what the outputs in row 4 and column 4 see of their neighbours: the kernels, if it has any."""
        return self.first.weight.detach().reshape(MAPS, 8, 8, 8, 8)[:, 4, 4, 3:6, 3:6].clone()


@torch.no_grad()
def matrix_of(kernels: Tensor) -> Tensor:
    """The matrix of a convolution, by torch: column j is what it makes of an image with a one at pixel j."""
    images = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
    return nn.functional.conv2d(images, kernels, padding=1).flatten(1).T


def from_symmetry() -> None:
    """Check that translations leave 64 numbers of 64 × 64, and with zeros outside 3 × 3 a circular convolution."""
    torch.manual_seed(0)
    layer = nn.Linear(64, 64, bias=False).double()
    places = np.arange(64).reshape(8, 8)
    shifts = [np.roll(places, 1, axis).ravel() for axis in (0, 1)]
    weight = affinet.weights(layer).weight
    gaps = np.stack([np.abs(np.subtract.outer(at, at)) for at in np.divmod(np.arange(64), 8)])
    far = np.minimum(gaps, 8 - gaps).max(axis=0) > 1
    commutes = families.equivariant(weight, inputs=shifts, outputs=shifts)
    handle = affinet.reparametrize(layer, [commutes, families.fix(weight, where=far)])
    handle.bake()
    kernel = layer.weight.detach().reshape(8, 8, 8, 8)[4, 4, 3:6, 3:6]
    x = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="circular")
    convolved = nn.functional.conv2d(padded, kernel[None, None]).flatten(1)
    assert float((layer(x.flatten(1)) - convolved).detach().abs().max()) < 1e-12
    assert (affinet.plan(commutes).free, handle.plan.free) == (64, 9)


@dataclass(frozen=True)
class Course:
    """A network in training: the loss and the kernels after every step."""

    model: Convolutional | Dense
    losses: list[float] = field(default_factory=list)
    kernels: list[Tensor] = field(default_factory=list)

    def learn(self, x: Tensor, y: Tensor) -> None:
        """SGD with momentum, on all images at each step."""
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)
        for _ in range(STEPS):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(self.model(x), y)
            loss.backward()
            optimizer.step()
            self.losses.append(loss.item())
            self.kernels.append(self.model.kernels())


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of images whose largest output is their class."""
    return float((model(x).argmax(dim=1) == y).double().mean())


def draw(before: Tensor, after: Tensor, courses: dict[str, Course], path: Path) -> None:
    """The block of one map in the dense matrix, without and with the rule, and the three trainings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.15])
    for panel, matrix, title in ((left, before, "without rules"), (middle, after, "with the rule")):
        block = matrix.detach().reshape(MAPS, 64, 64)[0]
        largest = float(block.abs().max())
        panel.imshow(block, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="nearest")
        panel.set_xticks(np.arange(0, 65, 8) - 0.5, [])
        panel.set_yticks(np.arange(0, 65, 8) - 0.5, [])
        panel.grid(color="black", alpha=0.15, linewidth=0.6)
        panel.tick_params(length=0)
        panel.set_title(f"dense weights of a map, {title}", fontsize=9)
        panel.set(xlabel="64 pixels", ylabel="64 outputs")
    styles = (("#D55E00", "-", 2.0), ("#56B4E9", "-", 6.0), ("black", ":", 2.0))
    for (name, course), (colour, line, width) in zip(courses.items(), styles, strict=True):
        right.semilogy(range(1, STEPS + 1), course.losses, line, color=colour, linewidth=width, label=name)
    right.set(xlabel="steps of SGD", ylabel="loss", title="training")
    right.legend(frameon=False, fontsize=8)
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train all three, compare them, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    x, test_x, y, test_y = digits()
    convolution, dense = Convolutional(), Dense()
    tied = Dense(convolution)
    rule = families.convolution(affinet.weights(tied).first.weight, size=(8, 8), kernel_size=3, padding=1)
    handle = affinet.reparametrize(tied, rule, basis="free")
    with torch.no_grad():
        outputs = float((tied(test_x) - convolution(test_x)).abs().max())
    courses = {
        "dense, without rules": Course(dense),
        "nn.Conv2d": Course(convolution),
        "dense, with the rule": Course(tied),
    }
    for course in courses.values():
        course.learn(x, y)
    numbers = {name: sum(p.numel() for p in course.model.parameters()) for name, course in courses.items()}
    handle.bake()
    apart = max(
        float((own - other).abs().max())
        for own, other in zip(courses["dense, with the rule"].kernels, courses["nn.Conv2d"].kernels, strict=True)
    )
    found = {name: accuracy(course.model, test_x, test_y) for name, course in courses.items()}
    with torch.no_grad():
        off = float((tied.first.weight - matrix_of(convolution.first.weight)).abs().max())
    assert handle.moved["first.weight"] < 1e-15  # the matrix of a convolution satisfies the rule already
    assert max(outputs, off, apart) < 1e-12
    assert numbers["dense, with the rule"] == numbers["nn.Conv2d"]
    assert found["dense, with the rule"] == found["nn.Conv2d"]
    from_symmetry()

    print(f"                        first layer   last layer   accuracy on {len(test_x):,} test images")
    for name, accurate in found.items():
        print(f"{name:<22}{numbers[name] - LAST:>13,}{LAST:>13,}{100 * accurate:>18.0f}%")
    print(f"with the rule: first outputs, and kernels after each of {STEPS} steps, are those of nn.Conv2d to 1e-12")
    print("from symmetry: translations leave 64 of 4,096 numbers, seeing only neighbours 9, a circular nn.Conv2d")
    if arguments.figure:
        draw(dense.first.weight, tied.first.weight, courses, arguments.figure)


if __name__ == "__main__":
    main()
