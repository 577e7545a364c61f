"""A network that reads the market and mixes long-only portfolios, which are its weights.

Ten assets whose returns depend on a regime that can only be seen through noise. A network reads two signals and mixes
two portfolios; its weights and the portfolios are trained together. Portfolios are rows that are not negative and sum
to one. For the trained reader the best portfolios are a quadratic program, which quadprog solves.

    python examples/gallery/portfolio.py --figure docs/gallery/portfolio.png
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np
import quadprog
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import affinet
from affinet import families

ASSETS, DAYS, RISK, STEPS = 10, 600, 2.0, 1500
Array = NDArray[np.float64]


class Allocator(nn.Module):
    """Signals in, shares of the assets out: a mixture of two portfolios."""

    def __init__(self) -> None:
        super().__init__()
        self.reader = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2), nn.Softmax(dim=1))
        self.portfolios = nn.Parameter(torch.full((2, ASSETS), 1 / ASSETS))

    def forward(self, signals: Tensor) -> Tensor:
        """The share of each asset on each day."""
        shares: Tensor = self.reader(signals) @ self.portfolios
        return shares


def market() -> tuple[Tensor, Tensor]:
    """Two signals, of which the first follows the regime, and the assets' returns in percent, day by day."""
    draw = np.random.default_rng(0)
    stressed = np.cumsum(draw.random(DAYS) < 0.02) % 2
    means = np.stack([draw.normal(0.05, 0.06, ASSETS), draw.normal(-0.02, 0.08, ASSETS)])
    spreads = [
        own * np.eye(ASSETS) + common * draw.normal(size=(ASSETS, 2)) @ draw.normal(size=(2, ASSETS))
        for own, common in ((0.3, 0.1), (0.6, 0.25))
    ]
    returns = np.stack([means[k] + spreads[k] @ draw.normal(size=ASSETS) for k in stressed])
    signals = np.stack([stressed + 0.4 * draw.normal(size=DAYS), draw.normal(size=DAYS)], axis=1)
    return torch.tensor(signals), torch.tensor(returns)


def loss_of(model: Allocator, signals: Tensor, returns: Tensor) -> Tensor:
    """Minus the mean gain, plus the risk: half the aversion times the mean square of the gain."""
    gains = (model(signals) * returns).sum(dim=1)
    loss: Tensor = RISK / 2 * gains.square().mean() - gains.mean()
    return loss


def train(model: Allocator, signals: Tensor, returns: Tensor, *, clamp: bool = False) -> list[float]:
    """Train what is not frozen, with the rules or by the usual recipe; the loss after every step."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if not clamp:
        affinet.project(model, optimizer, families.simplex(affinet.weights(model).portfolios, dim=1))
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss_of(model, signals, returns).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            if clamp:
                model.portfolios.clamp_(min=0.0)
                model.portfolios.div_(model.portfolios.sum(dim=1, keepdim=True))
            losses.append(float(loss_of(model, signals, returns)))
    return losses


def by_quadratic_programming(model: Allocator, signals: Tensor, returns: Tensor) -> tuple[Array, float]:
    """The best portfolios for the reader of a model, and their loss."""
    mixing = model.reader(signals).detach().numpy()
    features = (mixing[:, :, None] * returns.numpy()[:, None, :]).reshape(DAYS, -1)
    conditions = np.concatenate([np.kron(np.eye(2), np.ones(ASSETS)), np.eye(2 * ASSETS)])
    rhs = np.concatenate([np.ones(2), np.zeros(2 * ASSETS)])
    square, linear = RISK * features.T @ features / DAYS, features.mean(axis=0)
    solution = quadprog.solve_qp(square, linear, conditions.T, rhs, 2)
    return np.array(solution[0]).reshape(2, ASSETS), float(solution[1])


def draw(trained: Array, clamped: Array, gaps: dict[str, Array], path: Path) -> None:
    """Both portfolios, after either recipe, and the loss beyond the optimum."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplot_mosaic([["first", "gaps"], ["second", "gaps"]], width_ratios=[1.2, 1])
    places = np.arange(ASSETS)
    for k, panel in enumerate((axes["first"], axes["second"])):
        panel.bar(places - 0.2, trained[k], width=0.38, color="#0072B2", label="affinet = quadprog")
        panel.bar(places + 0.2, clamped[k], width=0.38, color="#D55E00", label="clamp, then divide by the sum")
        panel.set(ylabel=f"portfolio {k + 1}", xticks=places)
    panel.set(xlabel="asset")
    axes["first"].legend(frameon=False)
    panel = axes["gaps"]
    for (name, values), colour in zip(gaps.items(), ("#0072B2", "#D55E00"), strict=True):
        panel.semilogy(np.maximum(values, 1e-17), color=colour, label=name)
    panel.set(xlabel="step", ylabel="loss beyond the optimum", ylim=(1e-17, 1))
    panel.legend(frameon=False)
    panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train, compare with the quadratic program and with the usual recipe, print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    signals, returns = market()
    together = Allocator()
    losses = train(together, signals, returns)
    best, least = by_quadratic_programming(together, signals, returns)
    assert losses[-1] - least < 1e-8 * abs(least) + 1e-10
    assert np.abs(together.portfolios.detach().numpy() - best).max() < 1e-3
    assert ((together.portfolios.detach().numpy() == 0) == (best < 1e-10)).all()

    # The reader stays as it is from here, so that all that follow have the same optimum.
    together.reader.requires_grad_(False)
    torch.nn.init.constant_(together.portfolios, 1 / ASSETS)
    runs = {name: copy.deepcopy(together) for name in ("affinet", "clamp, then divide by the sum")}
    gaps = {name: np.array(train(run, signals, returns, clamp=name != "affinet")) - least for name, run in runs.items()}
    found, clamped = (run.portfolios.detach().numpy() for run in runs.values())
    ours, theirs = gaps.values()
    assert abs(ours[-1]) < 1e-12
    assert np.abs(found - best).max() < 1e-8
    assert ((found == 0) == (best < 1e-10)).all()
    assert theirs[-1] > 1e-3

    print("                                   loss   assets held   farthest from quadprog")
    for name, weights, gap in zip(
        (*gaps, "quadprog"), (found, clamped, best), (ours[-1], theirs[-1], 0.0), strict=True
    ):
        held, distance = (weights > 1e-10).sum(axis=1), np.abs(weights - best).max()
        off = "under 1e-8" if distance < 1e-8 else f"{distance:.2f}"
        print(f"{name:<29}{least + gap:>10.4f}{f'{held[0]} and {held[1]}':>14}{off:>25}")
    if arguments.figure:
        draw(found, clamped, gaps, arguments.figure)


if __name__ == "__main__":
    main()
