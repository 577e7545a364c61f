"""A recurrent network with an orthogonal recurrent matrix remembers across a long delay.

The copy task of Hochreiter and Schmidhuber: a few symbols, sixty blanks, then a signal at which the symbols are to be
repeated. Five networks see the same data: one with tanh, a linear recurrence, one that is orthogonal at
the start only, one under the rule `orthogonal`, and one with the parametrization of torch.

    python examples/gallery/orthogonal_rnn.py --figure docs/gallery/orthogonal_rnn.png
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

SYMBOLS, LENGTH, DELAY, HIDDEN, BATCH, STEPS = 4, 4, 60, 32, 32, 200
TIMES = LENGTH + DELAY + LENGTH
BLANK, SIGNAL = SYMBOLS, SYMBOLS + 1
TANH, USUAL, START = "tanh", "linear", "linear, orthogonal at the start"
RULE, TORCH = "linear, orthogonal (affinet)", "linear, orthogonal (torch)"
Array = NDArray[np.float64]


class Recurrent(nn.Module):
    """One recurrent layer, with the start of nn.RNN, and a linear layer that reads its state."""

    def __init__(self, *, squash: bool) -> None:
        super().__init__()
        self.into = nn.Linear(SYMBOLS + 2, HIDDEN, bias=False)
        self.recurrent = nn.Linear(HIDDEN, HIDDEN, bias=False)
        self.out = nn.Linear(HIDDEN, SYMBOLS + 1)
        self.squash = squash

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Scores of the symbols at every time, and the states: (times, batch, …)."""
        driven, matrix, state = self.into(x), self.recurrent.weight.T, torch.zeros(x.shape[1], HIDDEN)
        states = []
        for drive in driven.unbind(0):
            state = torch.addmm(drive, state, matrix)
            state = state.tanh() if self.squash else state
            states.append(state)
        return self.out(torch.stack(states)), states


@dataclass(frozen=True)
class Outcome:
    """What a trained network recalls, the lengths of its gradients, and its recurrent matrix."""

    recalled: list[float]
    gradients: Array
    matrix: Tensor


def sequences(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs as indicators of symbols, and the symbols to be said: (times, count, …)."""
    symbols = torch.randint(SYMBOLS, (LENGTH, count), generator=generator)
    heard = torch.full((TIMES, count), BLANK)
    heard[:LENGTH], heard[LENGTH + DELAY - 1] = symbols, SIGNAL
    wanted = torch.full((TIMES, count), BLANK)
    wanted[-LENGTH:] = symbols
    return nn.functional.one_hot(heard, SYMBOLS + 2).float(), wanted


def loss_of(scores: Tensor, wanted: Tensor) -> Tensor:
    """The cross entropy at every time."""
    return nn.functional.cross_entropy(scores.flatten(0, 1), wanted.flatten())


def train(name: str) -> Outcome:
    """Train one of the networks networks by Adam; all see the same sequences."""
    torch.manual_seed(0)
    model = Recurrent(squash=name == TANH)
    if name == START:
        nn.init.orthogonal_(model.recurrent.weight)
    if name == TORCH:
        nn.utils.parametrizations.orthogonal(model.recurrent)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    if name == RULE:
        affinet.project(model, optimizer, families.orthogonal(affinet.weights(model).recurrent.weight))
    draws = torch.Generator().manual_seed(1)
    unseen, answers = sequences(100, torch.Generator().manual_seed(2))
    recalled = []
    for step in range(STEPS):
        heard, wanted = sequences(BATCH, draws)
        optimizer.zero_grad()
        loss_of(model(heard)[0], wanted).backward()
        optimizer.step()
        schedule.step()
        if step % 20 == 19:
            with torch.no_grad():
                said = model(unseen)[0][-LENGTH:].argmax(dim=2)
            recalled.append(float((said == answers[-LENGTH:]).float().mean()))
    scores, states = model(unseen)
    at_the_end = nn.functional.cross_entropy(scores[-LENGTH:].flatten(0, 1), answers[-LENGTH:].flatten())
    gradients = torch.autograd.grad(at_the_end, states)
    lengths = np.array([gradient.norm().item() for gradient in gradients])
    return Outcome(recalled, lengths, model.recurrent.weight.detach())


def draw(outcomes: dict[str, Outcome], path: Path) -> None:
    """How much is recalled while they train, and how the gradient fares on its way back through time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    styles = {
        TANH: ("0.5", "-"),
        USUAL: ("black", "-"),
        START: ("#D55E00", "-"),
        RULE: ("#0072B2", "-"),
        TORCH: ("#E69F00", "--"),
    }
    for name, outcome in outcomes.items():
        colour, style = styles[name]
        left.plot(range(20, STEPS + 1, 20), outcome.recalled, color=colour, linestyle=style, linewidth=1.8)
        relative = outcome.gradients / outcome.gradients[-LENGTH - 1]
        right.semilogy(relative, color=colour, linestyle=style, label=name, linewidth=1.8)
    left.axhline(1 / SYMBOLS, color="black", linewidth=0.8, linestyle=":")
    left.text(20, 1 / SYMBOLS + 0.01, "guessing")
    left.set(xlabel="step", ylabel="symbols recalled", ylim=(0, 1.02))
    right.set(xlabel="time in the sequence", ylabel="gradient, relative to the end of the delay")
    right.set_ylim(1e-9, 1e2)
    right.legend(frameon=False, loc="lower left")
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train all five, print what they recall and the gradients; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    outcomes = {name: train(name) for name in (TANH, USUAL, START, RULE, TORCH)}
    matrix = outcomes[RULE].matrix.double()
    assert float((matrix @ matrix.T - torch.eye(HIDDEN)).abs().max()) < 1e-5
    assert outcomes[RULE].recalled[-1] > 0.8 > 0.5 > outcomes[TANH].recalled[-1]
    # From the end of the delay to its beginning the gradient is multiplied by the recurrent matrix sixty times.
    kept = {name: outcome.gradients[LENGTH] / outcome.gradients[-LENGTH - 1] for name, outcome in outcomes.items()}
    assert abs(kept[RULE] - 1) < 1e-3

    print("                                 recalled   gradient kept across the delay   singular values")
    for name, outcome in outcomes.items():
        values = torch.linalg.svdvals(outcome.matrix)
        spread = f"{values.min():.2f} to {values.max():.2f}"
        print(f"{name:<33}{outcome.recalled[-1]:>8.0%}{kept[name]:>33.3g}{spread:>18}")
    if arguments.figure:
        draw(outcomes, arguments.figure)


if __name__ == "__main__":
    main()
