"""Orthogonal matrices found by training, beside a closed form and beside FastICA.

Procrustes: the rotation that takes one set of points to another, for squared errors (closed form: SciPy) and, with
outliers among the points, for lengths of errors, which have no closed form. Independent components: four signals
are recovered from mixtures by an orthogonal matrix, beside scikit-learn's FastICA with the same contrast.

    python examples/gallery/unmixing.py --figure docs/gallery/unmixing.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import orthogonal_procrustes
from sklearn.decomposition import FastICA
from torch import Tensor, nn

import affinet
from affinet import families

SAMPLES, SIGNALS, POINTS, OUTLIERS, SIZE, STEPS = 2000, 4, 200, 20, 8, 250
NORMAL = 0.374567207491438  # the mean of log cosh of a standard normal number, the reference of the contrast
Array = NDArray[np.float64]


def train(size: int, loss: Callable[[Tensor], Tensor]) -> tuple[Array, list[float]]:
    """The orthogonal matrix that Adam reaches, and the loss at every step."""
    torch.manual_seed(0)
    model = nn.Linear(size, size, bias=False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    affinet.project(model, optimizer, families.orthogonal(affinet.weights(model).weight))
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        value = loss(model.weight)
        value.backward()
        optimizer.step()
        schedule.step()
        losses.append(value.item())
    return model.weight.detach().numpy().copy(), losses


def points() -> tuple[Array, Array, Array]:
    """A rotation, points, and the rotated points with noise; the last ones are replaced by other points."""
    draw = np.random.default_rng(0)
    rotation = np.linalg.qr(draw.normal(size=(SIZE, SIZE)))[0]
    before = draw.normal(size=(POINTS, SIZE))
    after = before @ rotation.T + 0.05 * draw.normal(size=before.shape)
    after[-OUTLIERS:] = 3 * draw.normal(size=(OUTLIERS, SIZE))
    return rotation, before, after


def signals() -> tuple[Array, Array]:
    """Four sources of variance one (a square wave, a sawtooth, a sine, noise), and the matrix that mixes them."""
    draw = np.random.default_rng(0)
    time = np.arange(SAMPLES) / SAMPLES
    sources = np.stack(
        [
            np.sign(np.sin(14 * np.pi * time)),
            2 * (11 * time % 1) - 1,
            np.sin(34 * np.pi * time),
            draw.laplace(size=SAMPLES),
        ]
    )
    sources = sources - sources.mean(axis=1, keepdims=True)
    return sources / sources.std(axis=1, keepdims=True), draw.normal(size=(SIGNALS, SIGNALS))


def whitening(mixtures: Array) -> Array:
    """The matrix that makes the mixtures uncorrelated, with variance one."""
    values, vectors = np.linalg.eigh(np.cov(mixtures, bias=True))
    matrix: Array = (vectors / np.sqrt(values)).T
    return matrix


def contrast(outputs: Tensor) -> Tensor:
    """How far the outputs are from normal: the sum of the distances of their means of log cosh from a normal's."""
    return (outputs.cosh().log().mean(dim=1) - NORMAL).abs().sum()


def amari(product: Array) -> float:
    """Amari's distance of a matrix from a permutation with signs and scales, between 0 and 1 (NIPS 8, 1996)."""
    sizes, count = np.abs(product), len(product)
    rows = (sizes / sizes.max(axis=1, keepdims=True)).sum(axis=1) - 1
    columns = (sizes / sizes.max(axis=0, keepdims=True)).sum(axis=0) - 1
    return float(rows.sum() + columns.sum()) / (2 * count * (count - 1))


def draw(mixtures: Array, outputs: Array, rotation: Array, rotations: dict[str, Array], path: Path) -> None:
    """Mixtures and what they are made of; errors of the entries of both rotations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.1])
    for panel, rows, title in ((left, mixtures, "mixtures"), (middle, outputs, "orthogonal unmixing")):
        for k, row in enumerate(rows):
            panel.plot(row[:500] / np.abs(row).max() - 2 * k, linewidth=0.8, color=f"C{k}")
        panel.set(title=title, yticks=[], xlabel="sample")
    for (name, matrix), colour in zip(rotations.items(), ("#D55E00", "#0072B2"), strict=True):
        right.plot(rotation.ravel(), (matrix - rotation).ravel(), ".", color=colour, label=name)
    right.axhline(0, color="black", linewidth=0.8)
    right.set(title="a rotation from points with outliers", xlabel="entry of the rotation", ylabel="error of the entry")
    right.set_ylim(-0.2, 0.2)
    right.legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Solve three problems, compare with SciPy and scikit-learn, print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    rotation, before, after = points()
    x, y = torch.tensor(before), torch.tensor(after)
    squares, _ = train(SIZE, lambda w: (x @ w.T - y).square().sum(dim=1).mean())
    lengths, _ = train(SIZE, lambda w: (x @ w.T - y).norm(dim=1).mean())
    closed = orthogonal_procrustes(before, after)[0].T
    # Orthogonal matrices have two parts, with determinant 1 and -1: the start must lie in that of the solution.
    assert np.linalg.det(squares) * np.linalg.det(closed) > 0
    assert np.abs(squares - closed).max() < 1e-4

    sources, mixing = signals()
    mixtures = mixing @ sources
    white = whitening(mixtures)
    data = torch.tensor(white @ mixtures)
    unmixing, _ = train(SIGNALS, lambda w: -contrast(w @ data))
    fast = FastICA(whiten=False, fun="logcosh", tol=1e-12, max_iter=1000, random_state=0).fit(data.T.numpy())
    agreement = np.abs(unmixing @ fast.components_.T)
    assert np.abs(agreement - np.round(agreement)).max() < 1e-4

    print("                                             farthest entry from")
    print("                                        the truth    the closed form")
    print(f"Procrustes, squared errors             {np.abs(squares - rotation).max():>10.4f}         under 1e-4")
    print(f"Procrustes, lengths of errors          {np.abs(lengths - rotation).max():>10.4f}               none")
    print("                                   Amari distance           contrast")
    for name, matrix in (("independent components", unmixing), ("FastICA", fast.components_)):
        value = contrast(torch.tensor(matrix) @ data).item()
        print(f"{name:<39}{amari(matrix @ white @ mixing):>10.4f}{value:>19.6f}")
    if arguments.figure:
        rotations = {"squared errors": squares, "lengths of errors": lengths}
        draw(mixtures, unmixing @ data.numpy(), rotation, rotations, arguments.figure)


if __name__ == "__main__":
    main()
