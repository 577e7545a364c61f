"""A linear autoencoder whose decoder is its encoder transposed finds the principal components.

8 hidden units on the handwritten digits of scikit-learn, in float64. The rule is `decoder.weight == encoder.weight.T`;
that the rows of the encoder become orthonormal and span the principal components is found, not said.

    python examples/gallery/tied_autoencoder.py --figure docs/gallery/tied_autoencoder.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor, nn

import affinet

HIDDEN, STEPS = 8, 15
Array = NDArray[np.float64]


class Autoencoder(nn.Module):
    """Linear both ways, without biases: the data has mean zero."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(inputs, HIDDEN, bias=False, dtype=torch.float64)
        self.decoder = nn.Linear(HIDDEN, inputs, bias=False, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstruction of every row."""
        rows: Tensor = self.decoder(self.encoder(x))
        return rows


@dataclass(frozen=True)
class Fitted:
    """A trained autoencoder, and its error after every step."""

    model: Autoencoder
    errors: list[float]


def train(data: Tensor) -> Fitted:
    """Minimise the mean squared error of an image under the rule, with L-BFGS."""
    torch.manual_seed(0)
    model = Autoencoder(data.shape[1])
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=10, line_search_fn="strong_wolfe")
    w = affinet.weights(model)
    affinet.project(model, optimizer, w.decoder.weight == w.encoder.weight.T)

    def loss() -> Tensor:
        error: Tensor = (model(data) - data).square().sum(dim=1).mean()
        return error

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    errors = []
    for _ in range(STEPS):
        optimizer.step(closure)
        errors.append(loss().item())
    return Fitted(model, errors)


def draw(images: Array, reconstructed: dict[str, Array], fitted: Fitted, optimum: float, path: Path) -> None:
    """How the error goes down to PCA's, and what is reconstructed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.3), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.5])
    above = [max(error / optimum - 1, 1e-16) for error in fitted.errors]
    left.semilogy(range(10, 10 * len(above) + 1, 10), above, color="#0072B2", linewidth=2)
    left.set(xlabel="iterations of L-BFGS", ylabel="error / PCA's error − 1", title="down to the PCA optimum")
    left.grid(alpha=0.3)
    shown = [int(np.flatnonzero(load_digits().target == digit)[3]) for digit in range(8)]
    rows = [("image", images), *reconstructed.items()]
    tiles = np.concatenate([np.concatenate(list(values[shown].reshape(-1, 8, 8)), axis=1) for _, values in rows])
    right.imshow(tiles, cmap="gray_r", vmin=0, vmax=16)
    right.set_xticks([])
    right.set_yticks([3.5, 11.5, 19.5], [name for name, _ in rows])
    right.tick_params(length=0)
    right.hlines([7.5, 15.5], -0.5, 63.5, color="#D55E00", linewidth=1)
    right.set_title(f"{HIDDEN} numbers for an image of 64")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, compare with PCA, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    images = np.asarray(load_digits().data, np.float64)
    mean = images.mean(axis=0)
    data = torch.from_numpy(images - mean)
    fitted = train(data)
    encoder, decoder = fitted.model.encoder.weight.detach(), fitted.model.decoder.weight.detach()

    pca = PCA(HIDDEN, svd_solver="full").fit(images)
    by_pca = pca.inverse_transform(pca.transform(images))
    optimum = float(np.square(images - by_pca).sum(axis=1).mean())
    cosines = np.linalg.svd(encoder.numpy() @ pca.components_.T, compute_uv=False)
    excess, length = fitted.errors[-1] / optimum - 1, float((encoder @ encoder.T - torch.eye(HIDDEN)).abs().max())
    assert torch.equal(decoder, encoder.T)
    assert abs(excess) < 1e-10
    assert length < 1e-6
    assert cosines.min() > 1 - 1e-6

    print(f"mean squared error of an image, PCA by scikit-learn   {optimum:.6f}")
    print(f"mean squared error of an image, tied autoencoder      {fitted.errors[-1]:.6f}")
    print("relative difference                                   under 1e-10")
    print("the decoder is the encoder transposed                 bit for bit")
    print("rows of the encoder are orthonormal                   to 1e-6")
    print("they span the principal components                    to 1e-6")
    if arguments.figure:
        by_model = fitted.model(data).detach().numpy() + mean
        draw(images, {"PCA": by_pca, "autoencoder": by_model}, fitted, optimum, arguments.figure)


if __name__ == "__main__":
    main()
