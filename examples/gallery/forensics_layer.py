"""The constrained first layer of image forensics: the centre of every kernel is −1, the rest sums to 1.

A network tells how small patches of two photographs were edited: not at all, median filter, blur, noise, or resampling.
Its first layer predicts each pixel from its neighbours and keeps the error, so that what the picture shows matters
less than how its pixels hang together. Both photographs are those that scikit-learn brings along; the network learns
from their left halves and is asked about their right ones.

    python examples/gallery/forensics_layer.py --figure docs/gallery/forensics_layer.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

import affinet

SIZE, PATCHES, EPOCHS, KERNELS = 32, 300, 20, 8
EDITS = ("original", "median", "blur", "noise", "resampled")
Array = NDArray[np.float64]


class Detector(nn.Module):
    """A first layer of 5 × 5 kernels, the mean size of what each leaves of a patch, and a small classifier of these."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, KERNELS, 5, bias=False)
        self.classifier = nn.Sequential(
            nn.BatchNorm1d(KERNELS), nn.Linear(KERNELS, 32), nn.ReLU(), nn.Linear(32, len(EDITS))
        )

    def forward(self, x: Tensor) -> Tensor:
        """A score for each edit."""
        sizes = (self.first(x).abs().mean(dim=(2, 3)) + 1e-4).log()
        scores: Tensor = self.classifier(sizes)
        return scores


def edited(image: Array, edit: str, numbers: np.random.Generator) -> Array:
    """A grey image with values from 0 to 1 after one edit, rounded to 256 levels as a file would."""
    match edit:
        case "median":
            image = ndimage.median_filter(image, 5)
        case "blur":
            image = ndimage.gaussian_filter(image, 1.1)
        case "noise":
            image = image + numbers.normal(0, 2 / 255, image.shape)
        case "resampled":
            image = ndimage.zoom(image, 1.5, order=1)[: image.shape[0], : image.shape[1]]
    rounded: Array = np.round(np.clip(image, 0, 1) * 255) / 255
    return rounded


def patches(*, left: bool) -> tuple[Tensor, Tensor]:
    """Patches at random places of one half of each photograph, for every edit the same number, and their edits."""
    numbers = np.random.default_rng(0 if left else 1)
    found, kinds = [], []
    for photograph in load_sample_images().images:
        grey = photograph.astype(float).mean(axis=2) / 255
        half = grey[:, : grey.shape[1] // 2] if left else grey[:, grey.shape[1] // 2 :]
        for kind, edit in enumerate(EDITS):
            image = edited(half, edit, numbers)
            for _ in range(PATCHES):
                row, column = (int(numbers.integers(0, n - SIZE)) for n in image.shape)
                found.append(image[row : row + SIZE, column : column + SIZE])
                kinds.append(kind)
    return torch.tensor(np.array(found), dtype=torch.float32)[:, None], torch.tensor(kinds)


def train(x: Tensor, y: Tensor, *, constrained: bool) -> Detector:
    """The detector, with or without the two rules on its first layer."""
    torch.manual_seed(0)
    model = Detector()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    kernels = affinet.weights(model).first.weight
    if constrained:
        affinet.project(model, optimizer, [kernels[:, :, 2, 2] == -1, kernels.sum(dim=(2, 3)) == 0])
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
    return model


@torch.no_grad()
def accuracies(model: nn.Module, x: Tensor, y: Tensor) -> list[float]:
    """The share of patches told rightly, for each edit."""
    model.eval()
    right = model(x).argmax(dim=1) == y
    return [float(right[y == kind].double().mean()) for kind in range(len(EDITS))]


def residual(kernel: Array, image: Array) -> Array:
    """The first layer's answer to an image, by SciPy."""
    answer: Array = ndimage.correlate(image, kernel, mode="nearest")[2:-2, 2:-2]
    return answer


def draw(models: dict[str, Detector], found: dict[str, list[float]], path: Path) -> None:
    """A piece of a photograph through a kernel of each network, and the accuracies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=[1, 1, 1.5])
    grey = load_sample_images().images[1].astype(float).mean(axis=2) / 255
    piece = grey[120:312, 200:392]
    panels = {(0, 0): ("a piece of a photograph", piece)}
    for place, (name, model) in zip(((0, 1), (1, 1)), models.items(), strict=True):
        kernel = model.first.weight.detach().double().numpy()[0, 0]
        panels[place] = (f"through kernel 1,\n{name}", residual(kernel, piece))
    for place, (title, picture) in panels.items():
        panel = figure.add_subplot(grid[place])
        low, high = np.quantile(picture, [0.01, 0.99])
        panel.imshow(picture, cmap="gray", vmin=low, vmax=high)
        panel.set_title(title, fontsize=9)
        panel.axis("off")
    panel = figure.add_subplot(grid[1, 0])
    kernel = models["with rules"].first.weight.detach().double().numpy()[0, 0]
    rest = np.where(np.arange(25).reshape(5, 5) == 12, np.nan, kernel)
    largest = np.nanmax(np.abs(rest))
    panel.imshow(rest, cmap="PuOr", vmin=-largest, vmax=largest)
    for row, column in np.ndindex(5, 5):
        colour = "white" if abs(np.nan_to_num(rest)[row, column]) > 0.6 * largest else "black"
        number = "−1" if (row, column) == (2, 2) else f"{kernel[row, column]:.1f}".replace("-", "−")
        panel.text(column, row, number, ha="center", va="center", fontsize=7, color=colour)
    panel.set_title("kernel 1, with rules:\nthe rest sums to 1", fontsize=9)
    panel.axis("off")
    bars = figure.add_subplot(grid[:, 2])
    for k, ((name, values), colour) in enumerate(zip(found.items(), ("#D55E00", "#0072B2"), strict=True)):
        bars.barh(np.arange(len(EDITS)) + 0.2 - 0.4 * k, np.array(values) * 100, 0.38, color=colour, label=name)
    bars.axvline(100 / len(EDITS), color="black", linewidth=0.8, linestyle=":")
    bars.text(100 / len(EDITS) + 1, -0.62, "guessing", fontsize=8, va="center")
    bars.set_yticks(range(len(EDITS)), EDITS)
    bars.invert_yaxis()
    bars.set(xlabel="patches told rightly (%)", xlim=(0, 100), ylim=(4.6, -0.8))
    bars.legend(frameon=False, loc="upper right")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train both, check the kernels, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    (x, y), (test_x, test_y) = patches(left=True), patches(left=False)
    models = {"without rules": train(x, y, constrained=False), "with rules": train(x, y, constrained=True)}
    found = {name: accuracies(model, test_x, test_y) for name, model in models.items()}
    kernels = models["with rules"].first.weight.detach().double().numpy()[:, 0]
    rest = kernels.sum(axis=(1, 2)) - kernels[:, 2, 2]
    flat = max(float(np.abs(residual(kernel, np.full((SIZE, SIZE), 0.7))).max()) for kernel in kernels)
    by_scipy = [residual(kernel, test_x[0, 0].double().numpy()) for kernel in kernels]
    with torch.no_grad():
        answers = models["with rules"].first(test_x[:1])[0].double().numpy()
    means = {name: float(np.mean(values)) for name, values in found.items()}
    assert (kernels[:, 2, 2] == -1).all()
    assert np.abs(rest - 1).max() < 1e-6
    assert flat < 1e-6
    assert np.abs(answers - by_scipy).max() < 1e-5
    assert means["with rules"] > max(0.6, means["without rules"] + 0.2)

    print("patches told rightly " + "".join(f"{edit:>11}" for edit in EDITS) + f"{'all':>8}")
    for name, values in found.items():
        figures = "".join(f"{100 * value:>10.0f}%" for value in values)
        print(f"{name:<21}{figures}{100 * means[name]:>7.0f}%")
    print("with rules: centres are -1 exactly; the rest of each kernel sums to 1, and even patches give 0, to 1e-6")
    if arguments.figure:
        draw(models, found, arguments.figure)


if __name__ == "__main__":
    main()
