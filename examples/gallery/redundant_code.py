"""An encoder that makes 12 numbers of 8 and a decoder that undoes it exactly: `decoder @ encoder == I`.

The 12 numbers are sent over a noisy channel. Each row of the encoder has length one, which limits the power, and the
noise in the decoded numbers is made as small as it can be. The least value is known: encoders that reach it are
unit-norm tight frames.

    python examples/gallery/redundant_code.py --figure docs/gallery/redundant_code.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor, nn

import affinet
from affinet import families

NOISE = 0.3
Array = NDArray[np.float64]


class Code(nn.Module):
    """A linear encoder and a linear decoder, with random weights."""

    def __init__(self, numbers: int, sent: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(numbers, sent, bias=False)
        self.decoder = nn.Linear(sent, numbers, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """The decoded rows, without noise."""
        decoded: Tensor = self.decoder(self.encoder(rows))
        return decoded


def matrices(model: Code) -> tuple[Tensor, Tensor]:
    """The encoder and the decoder as matrices."""
    return model.encoder.weight.detach(), model.decoder.weight.detach()


def schedule_of(model: nn.Module, steps: int) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LRScheduler]:
    """Adam with a rate that falls to zero."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)


def train_exact(numbers: int, sent: int, steps: int) -> tuple[Code, Tensor, list[float]]:
    """Minimise the noise that the decoder lets through, `|D|²`, under both rules; also the first encoder and losses."""
    model = Code(numbers, sent)
    optimizer, schedule = schedule_of(model, steps)
    w = affinet.weights(model)
    rules = [
        families.product(w.decoder.weight, w.encoder.weight, np.eye(numbers)),
        families.unit_norm(w.encoder.weight, dim=1),
    ]
    handle = affinet.project(model, optimizer, rules)
    first, losses = matrices(model)[0].clone(), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model.decoder.weight.square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    assert max(handle.violation().values()) < 1e-13
    return model, first, losses


def train_on_data(rows: Tensor, sent: int, steps: int) -> Code:
    """Minimise the error of noisy reconstructions of `rows`; only the lengths of the encoder's rows are ruled."""
    model = Code(rows.shape[1], sent)
    optimizer, schedule = schedule_of(model, steps)
    affinet.project(model, optimizer, families.unit_norm(affinet.weights(model).encoder.weight, dim=1))
    for _ in range(steps):
        optimizer.zero_grad()
        error = (model(rows) - rows).square().sum(dim=1).mean()
        (error + NOISE**2 * model.decoder.weight.square().sum()).backward()
        optimizer.step()
        schedule.step()
    return model


def by_pseudo_inverse(numbers: int, sent: int, steps: int) -> float:
    """The same optimum by hand: normalised rows, and their pseudo-inverse for a decoder, inside the network."""
    torch.manual_seed(0)
    free = nn.Linear(numbers, sent, bias=False)
    optimizer, schedule = schedule_of(free, steps)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.linalg.pinv(nn.functional.normalize(free.weight, dim=1)).square().sum()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return float(losses[-1])


def errors(model: Code, rows: Tensor) -> tuple[float, float]:
    """The mean squared error of reconstructions of `rows`, without noise and with it."""
    encoder, decoder = matrices(model)
    without = float((rows @ (decoder @ encoder).T - rows).square().sum(dim=1).mean())
    return without, without + NOISE**2 * float(decoder.square().sum())


def draw(first: Tensor, last: Tensor, losses: list[float], least: float, path: Path) -> None:
    """Encoders of two numbers as arrows before and after, and the noise that is let through beyond the least."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    *planes, right = figure.subplots(1, 3, width_ratios=[1, 1, 1.5])
    circle = np.linspace(0, 2 * np.pi, 200)
    for panel, encoder, title in zip(planes, (first, last), ("start", "trained"), strict=True):
        panel.plot(np.cos(circle), np.sin(circle), color="0.8")
        axes, values, _ = np.linalg.svd(np.linalg.inv(encoder.numpy().T @ encoder.numpy()))
        ellipse = axes @ np.diag(np.sqrt(values)) @ np.stack([np.cos(circle), np.sin(circle)])
        panel.fill(*ellipse, color="#D55E00", alpha=0.25, linewidth=0)
        for x, y in encoder.numpy():
            panel.annotate("", (x, y), (0, 0), arrowprops={"arrowstyle": "->", "color": "#0072B2", "linewidth": 1.6})
        panel.set(title=title, xlim=(-1.25, 1.25), ylim=(-1.25, 1.25), aspect="equal")
        panel.axis("off")
    right.semilogy(np.maximum(np.array(losses) / least - 1, 1e-16), color="#0072B2", linewidth=1.8)
    right.set(xlabel="step", ylabel="noise let through, beyond the least", title="12 numbers for 8")
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, compare with the theory and with training without the rule, print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    digits = torch.tensor(load_digits().data[:500] / 16).reshape(-1, 8)
    others = 1 - digits
    model, _, losses = train_exact(8, 12, 150)
    encoder, _ = matrices(model)
    least = 8 * 8 / 12
    assert abs(losses[-1] / least - 1) < 1e-6
    assert float((encoder.T @ encoder - 12 / 8 * torch.eye(8)).abs().max()) < 1e-3
    assert abs(by_pseudo_inverse(8, 12, 150) / least - 1) < 1e-4
    without = train_on_data(digits, 12, 150)

    print("mean squared error of          rows of digits            the negatives")
    print("                           clean     noisy        clean     noisy")
    for name, trained in (("decoder @ encoder == I", model), ("trained on digits", without)):
        values = (*errors(trained, digits), *errors(trained, others))
        print(f"{name:<24}" + "".join(f"{'under 1e-20' if v < 1e-20 else f'{v:.3f}':>12}" for v in values))
    print(f"noise let through, as a multiple of its own: {losses[-1]:.6f}, the least possible: {least:.6f}")
    if arguments.figure:
        plane, first, _ = train_exact(2, 7, 100)
        draw(first, matrices(plane)[0], losses, least, arguments.figure)


if __name__ == "__main__":
    main()
