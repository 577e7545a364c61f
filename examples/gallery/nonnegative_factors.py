"""Non-negative matrix factorisation is two weights that are not negative, and finds the parts that scikit-learn finds.

600 images of handwritten digits as a product of 10 parts and their amounts, from five starts, with Adam. Each result is
compared with scikit-learn's from the same start, and examined by scikit-learn's solver and by SciPy's NNLS.

    python examples/gallery/nonnegative_factors.py --figure docs/gallery/nonnegative_factors.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import nnls
from sklearn.datasets import load_digits
from sklearn.decomposition import NMF
from torch import Tensor, nn

import affinet

IMAGES, PARTS, STEPS, STARTS = 600, 10, 2000, 5
Array = NDArray[np.float64]


class Product(nn.Module):
    """Every image as a sum of parts: `amounts @ parts`."""

    def __init__(self, amounts: Array, parts: Array) -> None:
        super().__init__()
        self.amounts = nn.Parameter(torch.tensor(amounts))
        self.parts = nn.Parameter(torch.tensor(parts))

    def forward(self) -> Tensor:
        """The reconstructed images: (images, pixels)."""
        images: Tensor = self.amounts @ self.parts
        return images


@dataclass(frozen=True)
class Factors:
    """Two factors, and the loss after every step."""

    amounts: Array
    parts: Array
    losses: list[float]


def loss_of(images: Array, amounts: Array, parts: Array) -> float:
    """Half the sum of squared errors."""
    return 0.5 * float(np.square(images - amounts @ parts).sum())


def train(images: Array, amounts: Array, parts: Array) -> Factors:
    """Adam with the rules `amounts >= 0` and `parts >= 0`."""
    model, target = Product(amounts, parts), torch.tensor(images)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    w = affinet.weights(model)
    affinet.project(model, optimizer, [w.amounts >= 0, w.parts >= 0])
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = 0.5 * (target - model()).square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    return Factors(model.amounts.detach().numpy().copy(), model.parts.detach().numpy().copy(), losses)


def by_scikit_learn(images: Array, amounts: Array, parts: Array) -> tuple[Array, Array]:
    """Coordinate descent from a start to where it stands still."""
    model = NMF(PARTS, init="custom", tol=1e-6, max_iter=20_000)
    found = model.fit_transform(images, W=amounts.copy(), H=parts.copy())
    return found, model.components_


def amounts_by_nnls(images: Array, parts: Array) -> Array:
    """The best amounts of given parts, image by image."""
    return np.stack([nnls(parts.T, image)[0] for image in images])


def draw(parts: Array, runs: list[Factors], others: list[float], path: Path) -> None:
    """The parts as images, and the losses of all starts with where scikit-learn ends from the same starts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplot_mosaic("01234LLLL;56789LLLL")
    for k, part in enumerate(parts):
        panel = axes[str(k)]
        panel.imshow(part.reshape(8, 8), cmap="gray_r", vmin=0)
        panel.set(xticks=[], yticks=[])
    axes["2"].set_title("ten parts (white is 0 exactly)", fontsize=10)
    panel = axes["L"]
    for k, (run, other) in enumerate(zip(runs, others, strict=True)):
        panel.plot(run.losses, color="#0072B2", linewidth=1.2, label="affinet" if k == 0 else None)
        panel.plot([STEPS * 0.9, STEPS], [other, other], color="#D55E00", label="scikit-learn" if k == 0 else None)
    panel.set(ylim=(435, 480), xlabel="step", ylabel="half the sum of squared errors")
    panel.legend(frameon=False)
    panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Factorise from all starts, compare, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    images = load_digits().data[:IMAGES] / 16.0
    runs, others = [], []
    for seed in range(STARTS):
        random = np.random.default_rng(seed)
        size = np.sqrt(images.mean() / PARTS)
        start = size * np.abs(random.normal(size=(IMAGES, PARTS))), size * np.abs(random.normal(size=(PARTS, 64)))
        run = train(images, *start)
        runs.append(run)
        others.append(loss_of(images, *by_scikit_learn(images, *start)))
        reached = loss_of(images, run.amounts, run.parts)
        assert min(run.amounts.min(), run.parts.min()) == 0.0
        assert reached <= 1.02 * others[-1]
        # Neither solver finds anything better next to what was reached.
        assert loss_of(images, amounts_by_nnls(images, run.parts), run.parts) >= reached * (1 - 1e-5)

    losses = [loss_of(images, run.amounts, run.parts) for run in runs]
    best = runs[int(np.argmin(losses))]
    again = loss_of(images, *by_scikit_learn(images, best.amounts, best.parts))
    assert again >= min(losses) * (1 - 1e-4)
    assert min(losses) <= 1.002 * min(others)

    print("half the sum of squared errors, five random starts")
    for name, values in (("affinet, Adam", losses), ("scikit-learn", others)):
        print(f"{name:<15}" + "".join(f"{value:>8.1f}" for value in values) + f"   best {min(values):.1f}")
    shares = [float((factor == 0).mean()) for factor in (best.amounts, best.parts)]
    print(f"zero exactly: {shares[0]:.0%} of the amounts, {shares[1]:.0%} of the parts")
    if arguments.figure:
        draw(best.parts, runs, others, arguments.figure)


if __name__ == "__main__":
    main()
