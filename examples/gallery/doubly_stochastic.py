"""Attention that mixes tokens without loss: doubly stochastic matrices as weights, with exact zeros.

Digits are sequences of eight tokens, their rows. Two heads, for the left and the right half of a row, have mixed the
tokens, each by an average of two permutations, and noise came on top. Learn the mixing from 300 pairs, under the rule
that it is doubly stochastic; by Sinkhorn's normalisation; and by rows of a softmax, as in attention.

    python examples/gallery/doubly_stochastic.py --figure docs/gallery/doubly_stochastic.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import quadprog
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

import affinet
from affinet import families

HEADS, TOKENS, SEQUENCES, NOISE, STEPS = 2, 8, 300, 0.3, 1500
Array = NDArray[np.float64]


class Mixing(nn.Module):
    """Each head mixes the tokens of its channels with one matrix: (sequences, heads, tokens, channels)."""

    def __init__(self, read: Callable[[Tensor], Tensor], start: float) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.full((HEADS, TOKENS, TOKENS), start, dtype=torch.float64))
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        """The mixed tokens."""
        mixed: Tensor = self.read(self.mix) @ x
        return mixed


def sinkhorn(scores: Tensor) -> Tensor:
    """Divide rows and columns of exponentials by their sums in turn, 30 times, in logarithms."""
    for _ in range(30):
        scores = scores - scores.logsumexp(dim=-1, keepdim=True)
        scores = scores - scores.logsumexp(dim=-2, keepdim=True)
    return scores.exp()


def sequences() -> tuple[Tensor, Tensor, Array]:
    """Tokens, noisy mixed tokens, and the matrices that mixed them."""
    draw = np.random.default_rng(0)
    images = load_digits().images[:SEQUENCES] / 16.0
    tokens = images.reshape(SEQUENCES, TOKENS, HEADS, 8 // HEADS).swapaxes(1, 2)
    first, second = (np.stack([np.eye(TOKENS)[draw.permutation(TOKENS)] for _ in range(HEADS)]) for _ in range(2))
    mixing = 0.7 * first + 0.3 * second
    return torch.tensor(tokens), torch.tensor(mixing @ tokens + NOISE * draw.normal(size=tokens.shape)), mixing


def train(model: Mixing, x: Tensor, y: Tensor, *, rules: bool, rate: float) -> Array:
    """The mixing matrices of least squares."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if rules:
        affinet.project(model, optimizer, families.transport(affinet.weights(model).mix, rows=1, columns=1))
    for _ in range(STEPS):
        optimizer.zero_grad()
        (0.5 * (model(x) - y).square().sum() / len(x)).backward()
        optimizer.step()
        schedule.step()
    return model.read(model.mix).detach().numpy().copy()


def by_quadratic_programming(x: Tensor, y: Tensor) -> Array:
    """The best doubly stochastic matrices from quadprog, head by head."""
    matrices = []
    for head in range(HEADS):
        tokens, mixed = (values[:, head].swapaxes(0, 1).reshape(TOKENS, -1).numpy() for values in (x, y))
        square, linear = np.kron(np.eye(TOKENS), tokens @ tokens.T), (mixed @ tokens.T).ravel()
        rows, columns = (np.kron(*pair) for pair in _sums())
        conditions = np.concatenate([rows, columns[:-1], np.eye(TOKENS**2)])  # the last column follows from the rest
        rhs = np.concatenate([np.ones(2 * TOKENS - 1), np.zeros(TOKENS**2)])
        solution = quadprog.solve_qp(square, linear, conditions.T, rhs, 2 * TOKENS - 1)
        matrices.append(np.array(solution[0]).reshape(TOKENS, TOKENS))
    return np.stack(matrices)


def _sums() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    one, each = np.ones((1, TOKENS)), np.eye(TOKENS)
    return (each, one), (one, each)


def draw(matrices: dict[str, Array], path: Path) -> None:
    """The matrices of both heads; a dot where an entry is zero exactly."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.8), layout="constrained")
    panels = figure.subplots(HEADS, len(matrices))
    for column, (name, values) in enumerate(matrices.items()):
        for head in range(HEADS):
            panel = panels[head, column]
            panel.imshow(values[head], cmap="Blues", vmin=0, vmax=0.8)
            zeros = np.argwhere(values[head] == 0)
            panel.plot(zeros[:, 1], zeros[:, 0], ".", color="0.7", markersize=2)
            panel.set(xticks=[], yticks=[])
        panels[0, column].set_title(name, fontsize=10)
    for head in range(HEADS):
        panels[head, 0].set_ylabel(f"head {head + 1}")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Learn the mixing in three ways, compare, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    x, y, truth = sequences()
    best = by_quadratic_programming(x, y)
    learnt = {
        "affinet": train(Mixing(lambda mix: mix, 1 / TOKENS), x, y, rules=True, rate=0.02),
        "Sinkhorn": train(Mixing(sinkhorn, 0.0), x, y, rules=False, rate=0.05),
        "softmax of rows": train(Mixing(lambda mix: mix.softmax(dim=-1), 0.0), x, y, rules=False, rate=0.05),
    }
    exact = learnt["affinet"]
    for dim in (1, 2):
        assert np.abs(exact.sum(axis=dim) - 1).max() < 1e-14
    assert exact.min() == 0.0
    assert np.abs(exact - best).max() < 1e-9
    assert ((exact == 0) == (best < 1e-10)).all()
    assert (learnt["Sinkhorn"] > 0).all()
    assert np.abs(learnt["softmax of rows"].sum(axis=1) - 1).max() > 1e-3

    print("                  distance from the optimum   from the truth   exact zeros of 128   columns off by")
    for name, values in learnt.items():
        distances = [float(np.linalg.norm(values - other)) for other in (best, truth)]
        off = float(np.abs(values.sum(axis=1) - 1).max())
        near, columns = (f"{v:.3f}" if v > 1e-6 else "under 1e-6" for v in (distances[0], off))
        print(f"{name:<16}{near:>27}{distances[1]:>17.2f}{(values == 0).sum():>21}{columns:>17}")
    if arguments.figure:
        draw({"truth": truth, **learnt}, arguments.figure)


if __name__ == "__main__":
    main()
