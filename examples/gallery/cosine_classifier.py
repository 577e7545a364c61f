"""A classifier whose class vectors have length one: scores are cosines.

Handwritten digits of scikit-learn, with images scaled to length one. The class vectors are trained by Adam under the
rule `unit_norm`, by Adam with a division by the length after each step, and with the division inside the network.
L-BFGS computes the reference.

    python examples/gallery/cosine_classifier.py --figure docs/gallery/cosine_classifier.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

import affinet
from affinet import families

IMAGES, SCALE, STEPS = 600, 8.0, 400
RULE, AFTER, INSIDE = "unit_norm (affinet)", "divide after the step", "divide inside the network"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Digits:
    """Images of length one, without the mean image, and their digits."""

    images: Tensor
    digits: Tensor

    def loss(self, vectors: Tensor) -> Tensor:
        """The cross entropy of scores that are cosines times a scale."""
        return nn.functional.cross_entropy(SCALE * self.images @ vectors.T, self.digits)

    def accuracy(self, vectors: Tensor) -> float:
        """The share of images whose nearest class vector is that of their digit."""
        return float(((self.images @ vectors.T).argmax(dim=1) == self.digits).double().mean())


@dataclass(frozen=True)
class Trained:
    """Class vectors of length one, and the loss after every step."""

    vectors: Tensor
    losses: Array


def digits() -> tuple[Digits, Digits]:
    """Images to train on, and others."""
    loaded = load_digits()
    images, labels = torch.tensor(loaded.data / 16), torch.tensor(loaded.target)
    images = nn.functional.normalize(images - images.mean(dim=0), dim=1)
    return Digits(images[:IMAGES], labels[:IMAGES]), Digits(images[IMAGES:], labels[IMAGES:])


def train(data: Digits, recipe: str) -> Trained:
    """Train class vectors by Adam, from one start for every recipe."""
    torch.manual_seed(0)
    model = nn.Linear(data.images.shape[1], 10, bias=False)
    with torch.no_grad():
        model.weight.copy_(nn.functional.normalize(torch.randn_like(model.weight), dim=1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if recipe == RULE:
        affinet.project(model, optimizer, families.unit_norm(affinet.weights(model).weight, dim=1))
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        data.loss(nn.functional.normalize(model.weight, dim=1) if recipe == INSIDE else model.weight).backward()
        optimizer.step()
        schedule.step()
        if recipe == AFTER:
            with torch.no_grad():
                model.weight.div_(model.weight.norm(dim=1, keepdim=True))
        losses.append(data.loss(nn.functional.normalize(model.weight.detach(), dim=1)).item())
    return Trained(nn.functional.normalize(model.weight.detach(), dim=1), np.array(losses))


def by_lbfgs(data: Digits, start: Tensor) -> tuple[Tensor, float]:
    """The optimum near `start`: vectors divided by their length inside the loss, which L-BFGS brings to rounding."""
    free = nn.Parameter(start.clone())
    optimizer = torch.optim.LBFGS(
        [free], max_iter=500, line_search_fn="strong_wolfe", tolerance_grad=1e-13, tolerance_change=0
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = data.loss(nn.functional.normalize(free, dim=1))
        value.backward()
        return value

    for _ in range(5):
        optimizer.step(closure)
    vectors = nn.functional.normalize(free.detach(), dim=1)
    return vectors, data.loss(vectors).item()


def draw(trained: dict[str, Trained], least: float, path: Path) -> None:
    """The loss beyond the optimum against steps, and the class vectors of two recipes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    for (name, run), colour in zip(trained.items(), ("#0072B2", "#D55E00", "0.5"), strict=True):
        left.semilogy(np.maximum(run.losses - least, 1e-13), color=colour, linewidth=1.8, label=name)
    left.set(xlabel="step", ylabel="loss beyond the optimum", ylim=(1e-13, 10))
    left.legend(frameon=False, loc="lower left")
    left.grid(alpha=0.3)
    rows = []
    for name in (RULE, AFTER):
        images = trained[name].vectors.numpy().reshape(2, 5, 8, 8)
        rows += [np.concatenate(list(half), axis=1) for half in images]
    right.imshow(np.concatenate(rows), cmap="RdBu_r", vmin=-0.5, vmax=0.5)
    right.set_xticks([])
    right.set_yticks([7.5, 23.5], [RULE.replace(" (", "\n("), AFTER.replace(" the", "\nthe")])
    right.tick_params(length=0)
    right.hlines([15.5], -0.5, 39.5, color="black", linewidth=1)
    right.set_title("class vectors")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train three ways, compare with L-BFGS, print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    data, unseen = digits()
    trained = {recipe: train(data, recipe) for recipe in (RULE, AFTER, INSIDE)}
    best, least = by_lbfgs(data, trained[INSIDE].vectors)
    assert abs(trained[RULE].losses[-1] - least) < 1e-9
    assert float((trained[RULE].vectors - best).abs().max()) < 1e-4
    assert trained[AFTER].losses[-1] > 1.5 * least

    print("                               loss   beyond the optimum   accuracy on other images")
    for name, run in trained.items():
        gap = run.losses[-1] - least
        beyond = "under 1e-9" if gap < 1e-9 else f"{gap:.1e}"
        print(f"{name:<25}{run.losses[-1]:>10.5f}{beyond:>21}{unseen.accuracy(run.vectors):>27.1%}")
    print(f"{'L-BFGS':<25}{least:>10.5f}{'':>21}{unseen.accuracy(best):>27.1%}")
    if arguments.figure:
        draw(trained, least, arguments.figure)


if __name__ == "__main__":
    main()
