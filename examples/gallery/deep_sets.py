"""Deep Sets from its symmetry alone: permuting the inputs permutes the outputs, and nothing else is said.

A network learns how widely twenty numbers are spread. Its layers are dense; the rules say that the hidden one commutes
with two permutations that generate all others, and that the output does not change under them. affinet finds what is
left, λ I + γ 11ᵀ for every channel: the layer of Zaheer et al. (2017). The same network without rules learns from the
same sets, as they are or shuffled anew at every step.

    python examples/gallery/deep_sets.py --figure docs/gallery/deep_sets.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import affinet
from affinet import families

SET, CHANNELS, STEPS, SEEDS = 20, 8, 500, 2
SIZES = (20, 60, 200)
WAYS = ("without rules", "without rules, shuffled", "with rules")
GENERATORS = (np.array([1, 0, *range(2, SET)]), np.roll(np.arange(SET), 1))
"""A swap of two and a turn of all: together they generate every permutation."""
Array = NDArray[np.float64]


def sets(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sets of normal numbers, each of a centre and a width of its own, and their mean distances from the mean."""
    numbers = np.random.default_rng(seed)
    rows = numbers.normal(0, 1, (count, 1)) + numbers.uniform(0.2, 2, (count, 1)) * numbers.normal(size=(count, SET))
    spread = np.abs(rows - rows.mean(axis=1, keepdims=True)).mean(axis=1)
    return torch.from_numpy(rows), torch.from_numpy(spread)


class Network(nn.Module):
    """Dense: every channel has a number for each element, and the output sees them all."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(SET, CHANNELS * SET, dtype=torch.float64)
        self.output = nn.Linear(CHANNELS * SET, 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """A number for every set, one a row."""
        answers: Tensor = self.output(torch.relu(self.hidden(x)))[:, 0]
        return answers


def free_numbers(model: Network) -> affinet.Reparametrization:
    """Say the symmetry, and train what it leaves."""
    w = affinet.weights(model)
    hidden = [families.direct_sum(*[p] * CHANNELS) for p in GENERATORS]
    rules = [
        families.equivariant(w.hidden.weight, inputs=GENERATORS, outputs=hidden),
        families.equivariant(w.hidden.bias, outputs=hidden),
        families.equivariant(w.output.weight, inputs=hidden),
    ]
    return affinet.reparametrize(model, rules)


@dataclass(frozen=True)
class Trained:
    """A plain network after training, how many numbers were trained, and its error on new sets."""

    model: Network
    numbers: int
    error: float


def train(way: str, count: int, seed: int) -> Trained:
    """Adam on all sets at once, with a learning rate that falls to zero."""
    x, y = sets(count, seed)
    torch.manual_seed(seed)
    model = Network()
    handle = free_numbers(model) if way == "with rules" else None
    # The best of 3e-3, 1e-2, 3e-2, 1e-1 for each: an orthonormal basis shares a step out among all that is tied.
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-1 if handle else 1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        shown = x.gather(1, torch.rand(x.shape).argsort(dim=1)) if way.endswith("shuffled") else x
        optimizer.zero_grad()
        (model(shown) - y).square().mean().backward()
        optimizer.step()
        schedule.step()
    numbers = sum(p.numel() for p in model.parameters())
    if handle:
        handle.bake()
    test_x, test_y = sets(5000, 1000)
    with torch.no_grad():
        error = float((model(test_x) - test_y).square().mean().sqrt())
    return Trained(model, numbers, error)


def left_by_numpy() -> int:
    """How many numbers an equivariant n × n layer has, by a dense singular value decomposition of `P W − W P = 0`."""
    eye = np.eye(SET)
    equations = np.concatenate([np.kron(eye[p], eye) - np.kron(eye, eye[p].T) for p in GENERATORS])
    assert np.abs(equations @ np.stack([eye.ravel(), np.ones(SET**2)], axis=1)).max() == 0  # I and 11ᵀ are in it
    return SET**2 - int(np.linalg.matrix_rank(equations))


def scalars(model: Network) -> tuple[Tensor, Tensor]:
    """λ and γ of every channel, read from two entries of each."""
    blocks = model.hidden.weight.detach().reshape(CHANNELS, SET, SET)
    return blocks[:, 0, 0] - blocks[:, 0, 1], blocks[:, 0, 1]


@torch.no_grad()
def parts(model: Network, x: Tensor) -> Tensor:
    """What each channel adds to the answer for each set, from λ, γ, one bias and one output weight a channel."""
    own, shared = scalars(model)
    bias, out = model.hidden.bias.reshape(CHANNELS, SET)[:, 0], model.output.weight.reshape(CHANNELS, SET)[:, 0]
    seen = own * x[:, :, None] + shared * x.sum(dim=1)[:, None, None] + bias
    added: Tensor = torch.relu(seen).sum(dim=1) * out
    return added


@torch.no_grad()
def change(model: nn.Module, x: Tensor) -> float:
    """The largest change of an output when the elements of each set are permuted at random."""
    shuffled = x.gather(1, torch.rand(x.shape, generator=torch.Generator().manual_seed(0)).argsort(dim=1))
    return float((model(shuffled) - model(x)).abs().max())


def draw(errors: dict[str, Array], models: dict[str, Network], path: Path) -> None:
    """Two layers, the error against the number of sets, and what was learnt."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.9), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=[0.75, 1.6, 1.3])
    for row, name in enumerate(("without rules", "with rules")):
        panel = figure.add_subplot(grid[row, 0])
        blocks = models[name].hidden.weight.detach().reshape(CHANNELS, SET, SET)
        block = blocks[int(blocks.square().sum(dim=(1, 2)).argmax())].numpy()
        panel.imshow(block, cmap="PuOr", vmin=-np.abs(block).max(), vmax=np.abs(block).max())
        panel.set_title(f"weights of a channel,\n{name}", fontsize=9)
        panel.set_xticks([])
        panel.set_yticks([])
    middle, right = figure.add_subplot(grid[:, 1]), figure.add_subplot(grid[:, 2])
    for (name, values), colour in zip(errors.items(), ("#D55E00", "#E69F00", "#0072B2"), strict=True):
        middle.loglog(SIZES, values.mean(axis=1), "o-", color=colour, linewidth=2, label=name)
        middle.loglog(SIZES, values, ".", color=colour, alpha=0.5, markersize=4)
    middle.set(xlabel="sets to learn from", ylabel="error on new sets", title="error against data")
    middle.set_xticks(SIZES, [str(size) for size in SIZES])
    middle.set_xticks([], minor=True)
    middle.set_ylim(top=1.5)
    middle.legend(frameon=False, loc="upper right", fontsize=9)
    own, shared = (values.numpy() for values in scalars(models["with rules"]))
    limit = 1.15 * max(np.abs(own).max(), SET * np.abs(shared).max())
    right.plot([-limit, limit], [limit, -limit], ":", color="black", label="λ x − λ mean(x)")
    weights = parts(models["with rules"], sets(1000, 2000)[0]).std(dim=0).numpy()
    right.scatter(own, SET * shared, 8 + 250 * weights / weights.max(), color="#0072B2", alpha=0.7)
    right.set(xlabel="λ", ylabel=f"{SET} γ", xlim=(-limit, limit), ylim=(-limit, limit), title="the mean was found")
    right.legend(frameon=False, fontsize=9)
    for panel in (middle, right):
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train all ways on more and more sets, check the layer, and print; draw where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    weight = affinet.weights({"layer": (SET, SET)}).layer
    left = affinet.plan(families.equivariant(weight, inputs=GENERATORS, outputs=GENERATORS)).free
    runs = {way: [[train(way, size, seed) for seed in range(SEEDS)] for size in SIZES] for way in WAYS}
    errors = {way: np.array([[run.error for run in row] for row in rows]) for way, rows in runs.items()}
    models = {way: rows[-1][0].model for way, rows in runs.items()}
    x = sets(1000, 2000)[0]
    model = models["with rules"]
    with torch.no_grad():
        by_hand = float((parts(model, x).sum(dim=1) + model.output.bias - model(x)).abs().max())
    means = {way: values.mean(axis=1) for way, values in errors.items()}
    assert left == left_by_numpy() == 2
    assert by_hand < 1e-12
    own, shared = (values[parts(model, x).std(dim=0).argsort()[-2:]] for values in scalars(model))
    assert float(own.prod()) < 0
    assert float((1 + SET * shared / own).abs().max()) < 0.1  # both of the largest channels see x − mean(x)
    assert change(model, x) < 1e-12
    assert change(models["without rules, shuffled"], x) > 0.05
    assert (means["with rules"] < means["without rules, shuffled"] / 3).all()
    assert (means["without rules, shuffled"] < means["without rules"]).all()

    print(f"an equivariant layer of {SET} × {SET} has {left} numbers, as a dense decomposition counts too")
    print("error on new sets, mean of 2   numbers" + "".join(f"{f'{size} sets':>11}" for size in SIZES))
    for way, values in means.items():
        print(f"{way:<28}{runs[way][0][0].numbers:>10,}" + "".join(f"{value:>11.3f}" for value in values))
    print("with rules: permuting a set changes no answer, and λ I + γ 11ᵀ by hand gives the same, to 1e-12")
    if arguments.figure:
        draw(errors, models, arguments.figure)


if __name__ == "__main__":
    main()
