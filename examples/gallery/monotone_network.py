"""A network whose output never falls when one input grows: weights that are not negative, and a proof.

A risk that rises with debt and depends on age in a way that nobody knows, from 60 noisy samples. In one network the
weights that lead from debt to the output are not negative. That it is monotone is checked on a grid and by its
derivative; that the rule costs no more than it must, by SciPy's bounded least squares for the last layer.

    python examples/gallery/monotone_network.py --figure docs/gallery/monotone_network.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import lsq_linear
from torch import Tensor, nn

import affinet

HIDDEN, SAMPLES, NOISE, STEPS = 16, 60, 0.25, 3000
Array = NDArray[np.float64]


def truth(x: Tensor) -> Tensor:
    """The risk at (debt, age) in [-1, 1]²: a slow step in debt, whose height depends on age."""
    debt, age = x.unbind(dim=-1)
    return (0.6 + 0.3 * torch.sin(3.0 * age)) * torch.tanh(2.0 * debt) + 0.3 * age.square()


def samples() -> tuple[Tensor, Tensor]:
    """Places and noisy values."""
    draw = np.random.default_rng(0)
    x = torch.tensor(draw.uniform(-1.0, 1.0, size=(SAMPLES, 2)))
    return x, truth(x) + NOISE * torch.tensor(draw.normal(size=SAMPLES))


def network() -> nn.Sequential:
    """Two hidden layers of tanh, which increases."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))


def train(x: Tensor, y: Tensor, *, monotone: bool) -> nn.Sequential:
    """Least squares, with or without the rules."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if monotone:
        w = affinet.weights(model)
        affinet.project(model, optimizer, [w[0].weight[:, 0] >= 0, w[2].weight >= 0, w[4].weight >= 0])
    for _ in range(STEPS):
        optimizer.zero_grad()
        (model(x)[:, 0] - y).square().mean().backward()
        optimizer.step()
        schedule.step()
    return model


def slopes(model: nn.Sequential, x: Tensor) -> Array:
    """The derivative by debt, by hand from the weights: `W₃ diag(σ'₂) W₂ diag(σ'₁) w₁`."""
    (w1, b1), (w2, b2), (w3, _) = (
        (layer.weight.detach().numpy(), layer.bias.detach().numpy()) for layer in model if isinstance(layer, nn.Linear)
    )
    first = np.tanh(x.numpy() @ w1.T + b1)
    second = np.tanh(first @ w2.T + b2)
    slope: Array = ((1 - second**2) * (((1 - first**2) * w1[:, 0]) @ w2.T)) @ w3[0]
    return slope


def grid(count: int, size: float = 1.0) -> Tensor:
    """(count, count, 2) places: debt grows along the first axis, age along the second."""
    line = torch.linspace(-size, size, count)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), dim=-1)


@torch.no_grad()
def share_falling(model: nn.Sequential, places: Tensor) -> float:
    """The share of steps to more debt on which the output falls by more than rounding."""
    values = model(places.reshape(-1, 2)).reshape(places.shape[:2])
    return float((values.diff(dim=0) < -1e-14).double().mean())


@torch.no_grad()
def least_squares_of_last_layer(model: nn.Sequential, x: Tensor, y: Tensor) -> tuple[float, float]:
    """The mean squared error as trained, and with the best last layer that is not negative."""
    features = np.concatenate([model[:4](x).numpy(), np.ones((len(x), 1))], axis=1)
    lower = np.append(np.zeros(HIDDEN), -np.inf)
    solved = lsq_linear(features, y.numpy(), bounds=(lower, np.inf), method="bvls", tol=1e-14)
    return float((model(x)[:, 0] - y).square().mean()), 2.0 * float(solved.cost) / len(x)


@torch.no_grad()
def draw(models: dict[str, nn.Sequential], x: Tensor, y: Tensor, path: Path) -> None:
    """The outputs against debt, for several ages; where the derivative is negative."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    debt = torch.linspace(-1, 1, 200)
    for column, (name, model) in enumerate(models.items()):
        top, bottom = panels[:, column]
        for age, colour in ((-0.5, "#E69F00"), (0.0, "#009E73"), (0.5, "#0072B2")):
            places = torch.stack([debt, torch.full_like(debt, age)], dim=1)
            top.plot(debt, model(places), color=colour, label=f"age {age:+.1f}".replace("-", "−"))
            top.plot(debt, truth(places), "--", color=colour, linewidth=0.8)
        top.set(title=name, ylim=(-1.6, 1.9))
        places = grid(120)
        falling = slopes(model, places.reshape(-1, 2)).reshape(120, 120) < 0
        bottom.imshow(falling.T, origin="lower", extent=(-1, 1, -1, 1), cmap="Reds", vmin=0, vmax=1.6, aspect="auto")
        bottom.plot(*x.T, ".", color="black", markersize=3)
        bottom.set(xlabel="debt", ylabel="age", xticks=[-1, -0.5, 0, 0.5, 1])
    panels[0, 0].set_ylabel("risk (dashed: the truth)")
    panels[0, 1].legend(frameon=False, loc="upper left")
    panels[1, 0].set_title("red: the output falls as debt grows", fontsize=10)
    panels[1, 1].set_title("nowhere", fontsize=10)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train both, examine them, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    x, y = samples()
    models = {"without rules": train(x, y, monotone=False), "monotone": train(x, y, monotone=True)}
    plain, monotone = models.values()
    far = grid(201, size=50.0).reshape(-1, 2)
    assert share_falling(monotone, grid(401)) == 0
    assert slopes(monotone, grid(401).reshape(-1, 2)).min() >= 0
    assert slopes(monotone, far).min() >= 0
    assert slopes(plain, grid(401).reshape(-1, 2)).min() < -0.1
    leaf = grid(21).reshape(-1, 2).requires_grad_()
    derivative = torch.autograd.grad(monotone(leaf).sum(), leaf)[0][:, 0].numpy()
    np.testing.assert_allclose(derivative, slopes(monotone, leaf.detach()), rtol=1e-9, atol=1e-12)
    reached, best = least_squares_of_last_layer(monotone, x, y)
    assert reached <= best * (1 + 1e-3)

    places = grid(101).reshape(-1, 2)
    print("                 error on the samples   error on the truth   falls on   least derivative")
    for name, model in models.items():
        with torch.no_grad():
            errors = [float((model(a)[:, 0] - b).square().mean().sqrt()) for a, b in ((x, y), (places, truth(places)))]
        falls, least = share_falling(model, grid(401)), slopes(model, grid(401).reshape(-1, 2)).min()
        print(f"{name:<15}{errors[0]:>22.2f}{errors[1]:>21.2f}{falls:>11.0%}{max(least, -99.0):>19.2f}")
    zeros = sum(int((layer.weight == 0).sum()) for layer in monotone if isinstance(layer, nn.Linear))
    print(f"{zeros} weights of the monotone network are 0")
    if arguments.figure:
        draw(models, x, y, arguments.figure)


if __name__ == "__main__":
    main()
