"""Local fields and shared weights on few images, as in LeCun's networks of 1989.

Digits stand at random places of a slightly larger image. Five networks learn from 320 of them: without a hidden layer,
with a dense one, with zeros outside fields of 5 × 5 pixels, with weights shared between the fields of each quarter of a
map, and of the whole map. The biases are not shared, as there. All but the first are the same dense network under other
rules.

    python examples/gallery/local_weights.py --figure docs/gallery/local_weights.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import affinet
from affinet import Constraint, Expression, families

SIDE, FIELD, MAPS, EXAMPLES, STEPS, SEEDS = 10, 5, 4, 320, 150, 6
UNITS = SIDE - FIELD + 1
HIDDEN = MAPS * UNITS**2
WAYS = ("no hidden layer", "dense", "local", "local, shared by quarters", "local, shared")
Integers = NDArray[np.int64]


def digits() -> tuple[Tensor, Tensor]:
    """All images of 8 × 8, each at a random place of 10 × 10, with values from 0 to 1, and their classes."""
    bunch = load_digits()
    numbers = np.random.default_rng(0)
    images = np.zeros((len(bunch.images), SIDE, SIDE))
    for image, digit in zip(images, bunch.images, strict=True):
        row, column = numbers.integers(0, SIDE - 8 + 1, 2)
        image[row : row + 8, column : column + 8] = digit / 16.0
    return torch.tensor(images.reshape(-1, SIDE**2)).float(), torch.tensor(bunch.target)


def fields(parts: int) -> tuple[Integers, Integers]:
    """For every hidden unit and pixel: which number of the kernels stands there, and 1 inside of the unit's field.

    A map of units is cut into `parts` × `parts`, each with a kernel of its own.
    """
    shape = (MAPS, UNITS, UNITS, SIDE, SIDE)
    marks, inside = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, i, j, row, column in np.ndindex(MAPS, UNITS, UNITS, FIELD, FIELD):
        part = (i * parts // UNITS) * parts + j * parts // UNITS
        place = number, i, j, i + row, j + column
        marks[place] = ((number * parts**2 + part) * FIELD + row) * FIELD + column
        inside[place] = 1
    return marks.reshape(HIDDEN, -1), inside.reshape(HIDDEN, -1)


def rule_of(weight: Expression, way: str) -> Constraint:
    """Zeros outside the fields, and equal numbers where they are shared."""
    marks, inside = fields(2 if way.endswith("quarters") else 1)
    if way == "local":
        return families.fix(weight, where=inside == 0)
    return families.share(weight, marks, inside)


class Network(nn.Module):
    """Dense, with one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(SIDE**2, HIDDEN)
        self.output = nn.Linear(HIDDEN, 10)

    def forward(self, x: Tensor) -> Tensor:
        """A score for each digit."""
        scores: Tensor = self.output(torch.tanh(self.hidden(x)))
        return scores


def train(x: Tensor, y: Tensor, way: str, seed: int) -> tuple[nn.Module, int]:
    """A plain network after training with Adam on all images at once, and how many numbers were trained."""
    torch.manual_seed(seed)
    model = nn.Linear(SIDE**2, 10) if way == "no hidden layer" else Network()
    ruled = way.startswith("local")
    if ruled:
        rule = rule_of(affinet.weights(model).hidden.weight, way)
        affinet.reparametrize(model, rule, basis="free", restore_variance=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    numbers = sum(p.numel() for p in model.parameters())
    if ruled:
        affinet.bake(model)
    return model, numbers


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of images whose largest output is their class."""
    return float((model(x).argmax(dim=1) == y).double().mean())


@torch.no_grad()
def by_torch(model: Network, x: Tensor) -> Tensor:
    """What a network with shared weights computes, by conv2d with the kernels that stand in its dense layer."""
    kernels = model.hidden.weight.reshape(MAPS, UNITS, UNITS, SIDE, SIDE)[:, 2, 3, 2 : 2 + FIELD, 3 : 3 + FIELD]
    maps = nn.functional.conv2d(x.reshape(-1, 1, SIDE, SIDE), kernels[:, None])
    scores: Tensor = model.output(torch.tanh(maps.flatten(1) + model.hidden.bias))
    return scores


def draw(models: dict[str, Network], x: Tensor, found: dict[str, NDArray[np.float64]], path: Path) -> None:
    """Images, what units of a map see, and the accuracies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.9), layout="constrained")
    grid = figure.add_gridspec(2, 5, width_ratios=[1, 1, 1, 1, 3.6], height_ratios=[0.45, 1])
    for k in range(4):
        panel = figure.add_subplot(grid[0, k])
        panel.imshow(x[k].reshape(SIDE, SIDE), cmap="gray_r")
        panel.set_xticks([])
        panel.set_yticks([])
    for k, way in enumerate(WAYS[1:]):
        panel = figure.add_subplot(grid[1, k])
        units = models[way].hidden.weight.detach().reshape(MAPS, UNITS, UNITS, SIDE, SIDE)[0, :, ::2].double().numpy()
        units = np.pad(units, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
        tiles = np.concatenate([np.concatenate(list(row), axis=1) for row in units])
        largest = np.nanmax(np.abs(tiles))
        panel.imshow(tiles, cmap="PuOr", vmin=-largest, vmax=largest, interpolation="nearest")
        panel.set_title(way.removeprefix("local, "), fontsize=9)
        panel.axis("off")
    bars = figure.add_subplot(grid[:, 4])
    for k, (way, values) in enumerate(found.items()):
        bars.barh(k, 100 * values.mean(), 0.6, color="#0072B2" if way.startswith("local") else "#D55E00", alpha=0.75)
        bars.plot(100 * values, np.full(len(values), k), "k.", markersize=4)
    bars.set_yticks(range(len(WAYS)), [way.replace(", ", ",\n") for way in WAYS], fontsize=9)
    bars.invert_yaxis()
    bars.set(xlabel="test accuracy (%), each seed a dot", xlim=(0, 80))
    bars.grid(alpha=0.3, axis="x")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train all on several choices of images, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    x, y = digits()
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    models: dict[str, Network] = {}
    numbers: dict[str, int] = {}
    for seed in range(SEEDS):
        seen, rest = (
            torch.tensor(part)
            for part in train_test_split(np.arange(len(x)), train_size=EXAMPLES, random_state=seed, stratify=y)
        )
        for way in WAYS:
            model, numbers[way] = train(x[seen], y[seen], way, seed)
            found[way].append(accuracy(model, x[rest], y[rest]))
            if isinstance(model, Network):
                models[way] = model
    shared = models["local, shared"].double()
    with torch.no_grad():
        apart = float((by_torch(shared, x.double()) - shared(x.double())).abs().max())
    scores = {way: np.array(values) for way, values in found.items()}
    kernel, others = FIELD**2, HIDDEN + (HIDDEN + 1) * 10
    assert apart < 1e-12
    assert numbers["local"] == HIDDEN * kernel + others
    assert numbers["local, shared by quarters"] == 4 * MAPS * kernel + others
    assert numbers["local, shared"] == MAPS * kernel + others
    for worse, better in (("no hidden layer", "dense"), ("dense", "local"), ("local", "local, shared by quarters")):
        assert scores[worse].mean() < scores[better].mean()
    assert (scores["dense"] < scores["local, shared"]).all()  # for every choice of images

    print(f"trained on {EXAMPLES} images        links  free numbers   test accuracy, mean of {SEEDS}   standard error")
    for way, values in scores.items():
        links = {"no hidden layer": 10 * SIDE**2, "dense": HIDDEN * (SIDE**2 + 10)}.get(way, HIDDEN * (kernel + 10))
        error = values.std(ddof=1) / SEEDS**0.5
        print(f"{way:<25}{links:>12,}{numbers[way]:>14,}{100 * values.mean():>25.1f}%{100 * error:>16.1f}")
    print("shared: the same scores by conv2d, to 1e-12")
    if arguments.figure:
        draw(models, x, scores, arguments.figure)


if __name__ == "__main__":
    main()
