"""Six ways to keep linear equations during training, four optimizers, two convex problems whose optimum is known.

    project after    step, then move the weights to the nearest feasible point
    gradient only    project the gradient, step, and leave the weights where they land
    update only      step, then project the change of the weights
    sandwich         affinet.project: project the gradient, step, project the weights
    metric           affinet.project(metric="optimizer"): step, then project in the metric of the optimizer's own steps
    reparametrized   train v in w = w0 + N v; the columns of N are an orthonormal basis of what the equations leave free

The sandwich and the metric are affinet's, the other four are written out below. Within one optimizer all six start at
the same feasible weights and share their settings and a learning rate that decays to zero along a cosine.

    python examples/why_not_just_project.py --figure docs/why_not_just_project.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import affinet
from affinet import families

STEPS = 2000
ROUNDING = 1e-14
"""Below this share of the first gap, curves and table show rounding only."""

Make = Callable[[Iterable[nn.Parameter]], Optimizer]


def make_muon(parameters: Iterable[nn.Parameter]) -> Optimizer:
    """Muon takes matrices only; it came with torch 2.9."""
    return torch.optim.Muon(list(parameters), lr=0.05, weight_decay=0.0)


OPTIMIZERS: dict[str, Make] = {
    "SGD, momentum 0.9": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.02),
    "Muon": make_muon,
}
if not hasattr(torch.optim, "Muon"):
    del OPTIMIZERS["Muon"]
WITH_METRIC = ("Adam", "RMSprop")


@dataclass(frozen=True)
class Problem:
    """Minimise `f(w) = w·Hw/2 − c·w` subject to `A w = b`; w is a matrix of `shape`, flattened."""

    name: str
    shape: tuple[int, int]
    H: Tensor
    c: Tensor
    A: Tensor
    b: Tensor

    def loss(self, weights: Tensor) -> Tensor:
        """The number to be made small."""
        w = weights.flatten()
        return w @ self.H @ w / 2 - self.c @ w

    def optimum(self) -> Tensor:
        """The constrained optimum, from its optimality conditions `H w − c = Aᵀν`, `A w = b`."""
        corner = torch.zeros(len(self.b), len(self.b), dtype=torch.float64)
        conditions = torch.cat([torch.cat([self.H, self.A.T], dim=1), torch.cat([self.A, corner], dim=1)])
        solution: Tensor = torch.linalg.solve(conditions, torch.cat([self.c, self.b]))
        return solution[: len(self.c)]


def quadratic() -> Problem:
    """A random quadratic of a 4 × 6 matrix under four random equations."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factor = normal(24, 24)
    H = torch.eye(24, dtype=torch.float64) + factor @ factor.T / 24
    return Problem("random quadratic", (4, 6), H, normal(24), normal(4, 24), normal(4))


def diabetes() -> Problem:
    """Progression of diabetes by ridge regression, a row of nine weights for each sex, six equations.

    Features are centred and in the units of a clinic, so that their spreads differ (0.3 to 4.4): age in decades,
    body mass index, blood pressure in cmHg, three kinds of cholesterol in mmol/l, their ratio, the logarithm of
    triglycerides, blood sugar in mmol/l; progression is in its own spread.
    """
    from sklearn.datasets import load_diabetes

    table, progression = load_diabetes(return_X_y=True, scaled=False)
    women = table[:, 1] == 2
    units = np.array([10, 1, 10, 38.67, 38.67, 38.67, 1, 1, 18])
    features = (table - table.mean(axis=0))[:, [0, 2, 3, 4, 5, 6, 7, 8, 9]] / units
    rows = torch.from_numpy(np.hstack([features * ~women[:, None], features * women[:, None]]))
    y = torch.from_numpy((progression - progression.mean()) / progression.std())
    H = rows.T @ rows / len(y) + 0.1 * torch.eye(18, dtype=torch.float64)

    A = torch.zeros(6, 2, 9, dtype=torch.float64)
    for equation, feature in enumerate((0, 1, 2, 8)):  # age, mass, pressure, sugar: the same weight for both sexes
        A[equation, 0, feature], A[equation, 1, feature] = 1.0, -1.0
    A[4, 0], A[5, 1] = 1.0, 1.0  # the weights of each sex sum to one
    b = torch.tensor([0.0, 0, 0, 0, 1, 1], dtype=torch.float64)
    return Problem("diabetes, unequal scales", (2, 9), H, rows.T @ y / len(y), A.reshape(6, 18), b)


@dataclass(frozen=True)
class Set:
    """The feasible set of a problem, and a start in it."""

    problem: Problem
    pseudo_inverse: Tensor = field(init=False)
    basis: Tensor = field(init=False)
    """`N` (weights, free): orthonormal columns that span the null space of A."""

    def __post_init__(self) -> None:
        A = self.problem.A
        object.__setattr__(self, "pseudo_inverse", torch.linalg.pinv(A))
        object.__setattr__(self, "basis", torch.linalg.svd(A)[2][len(A) :].T.contiguous())

    def nearest(self, w: Tensor) -> Tensor:
        """`Π(w)`."""
        flat = w.flatten()
        return (flat - self.pseudo_inverse @ (self.problem.A @ flat - self.problem.b)).reshape(w.shape)

    def tangent(self, vector: Tensor) -> Tensor:
        """`P v`."""
        flat = vector.flatten()
        return (flat - self.pseudo_inverse @ (self.problem.A @ flat)).reshape(vector.shape)

    def start(self) -> nn.Parameter:
        """The feasible weights nearest to zero."""
        return nn.Parameter(self.nearest(torch.zeros(self.problem.shape, dtype=torch.float64)))


@dataclass(frozen=True)
class Training:
    """One way to train: what comes before and after `optimizer.step()`, and how to get at the weights."""

    optimizer: Optimizer
    weights: Callable[[], Tensor]
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None


def project_after(feasible: Set, make: Make) -> Training:
    """`w ← Π(step(w))`."""
    w = feasible.start()

    def after() -> None:
        w.data = feasible.nearest(w.data)

    return Training(make([w]), lambda: w, after=after)


def gradient_only(feasible: Set, make: Make) -> Training:
    """`g ← P g`, then the step."""
    w = feasible.start()

    def before() -> None:
        assert w.grad is not None
        w.grad.copy_(feasible.tangent(w.grad))

    return Training(make([w]), lambda: w, before=before)


def update_only(feasible: Set, make: Make) -> Training:
    """`w ← w + P(step(w) − w)`."""
    w = feasible.start()
    old = w.detach().clone()

    def before() -> None:
        old.copy_(w.data)

    def after() -> None:
        w.data = old + feasible.tangent(w.data - old)

    return Training(make([w]), lambda: w, before=before, after=after)


def by_affinet(feasible: Set, make: Make, metric: Literal["euclidean", "optimizer"] = "euclidean") -> Training:
    """The library: one line, and the loop stays as it is."""
    model = nn.Module()
    model.w = feasible.start()
    optimizer, rule = make(model.parameters()), families.linear([affinet.weights(model).w], *equations(feasible))
    affinet.project(model, optimizer, rule, metric=metric)
    return Training(optimizer, lambda: model.get_parameter("w"))


def reparametrized(feasible: Set, make: Make) -> Training:
    """`w = w0 + N v`. v is one column, which is how Muon takes it for a matrix."""
    w0 = feasible.start().detach().flatten()
    v = nn.Parameter(torch.zeros(feasible.basis.shape[1], 1, dtype=torch.float64))
    return Training(make([v]), lambda: (w0 + feasible.basis @ v[:, 0]).reshape(feasible.problem.shape))


def equations(feasible: Set) -> tuple[Tensor, Tensor]:
    """`A`, `b`."""
    return feasible.problem.A, feasible.problem.b


RECIPES: dict[str, Callable[[Set, Make], Training]] = {
    "project after": project_after,
    "update only": update_only,
    "gradient only": gradient_only,
    "sandwich": by_affinet,
    "metric": lambda feasible, make: by_affinet(feasible, make, "optimizer"),
    "reparametrized": reparametrized,
}


@dataclass(frozen=True)
class Curve:
    """The loss gap after every step as a share of the first gap, and how far the last weights are off the equations.

    The gap is that of the nearest feasible point, since off the equations a loss below the optimum is no success.
    """

    gaps: list[float]
    violation: float


def train(problem: Problem, recipe: Callable[[Set, Make], Training], make: Make) -> Curve:
    """`STEPS` steps."""
    feasible, optimum = Set(problem), problem.optimum()

    def gap(weights: Tensor) -> float:
        # The gap of a quadratic at a feasible point, without the cancellation of a difference of two losses.
        off = feasible.nearest(weights.detach()).flatten() - optimum
        return float(off @ problem.H @ off / 2)

    training = recipe(feasible, make)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(training.optimizer, STEPS)
    gaps = [gap(training.weights())]
    for _ in range(STEPS):
        training.optimizer.zero_grad()
        problem.loss(training.weights()).backward()
        training.before()
        training.optimizer.step()
        training.after()
        schedule.step()
        gaps.append(gap(training.weights()))
    last = training.weights().detach().flatten()
    return Curve([value / gaps[0] for value in gaps], float((problem.A @ last - problem.b).abs().max()))


STYLES: dict[str, tuple[str, str, float, str]] = {  # colours: Okabe and Ito, told apart by the colour-blind
    "project after": ("project after", "#E69F00", 5.0, "-"),
    "update only": ("update only", "#000000", 1.3, ":"),
    "gradient only": ("gradient only", "#CC79A7", 2.0, "-"),
    "sandwich": ("affinet.project (sandwich)", "#0072B2", 4.0, "-"),
    "metric": ('affinet.project(metric="optimizer")', "#009E73", 2.2, "-"),
    "reparametrized": ("reparametrized", "#D55E00", 1.5, "--"),
}


def draw(curves: dict[str, dict[str, dict[str, Curve]]], path: Path) -> None:
    """A row of panels for each problem, a column for each optimizer, one legend below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.8), layout="constrained")
    panels = figure.subplots(len(curves), len(OPTIMIZERS), sharex=True, sharey=True, squeeze=False)
    for row, (problem, by_optimizer) in zip(panels, curves.items(), strict=True):
        for panel, by_recipe in zip(row, by_optimizer.values(), strict=True):
            for recipe, curve in by_recipe.items():
                _, colour, width, dash = STYLES[recipe]
                panel.loglog(*smoothed(curve.gaps), dash, color=colour, linewidth=width, label=recipe)
            panel.set(xlim=(1, STEPS), ylim=(ROUNDING, 30), yticks=[1e-12, 1e-8, 1e-4, 1])
            panel.grid(alpha=0.3)
            panel.minorticks_off()
        row[0].set_ylabel(f"{problem}\nloss gap / first loss gap", fontsize=12)
    for top, bottom, optimizer in zip(panels[0], panels[-1], OPTIMIZERS, strict=True):
        top.set_title(optimizer, fontsize=13)
        bottom.set_xlabel("step", fontsize=12)
    lines = {line.get_label(): line for panel in panels.flat for line in panel.get_lines()}
    names = [label for label, *_ in STYLES.values()]
    figure.legend(
        [lines[name] for name in STYLES], names, loc="outside lower center", ncols=6, fontsize=10.5, columnspacing=1.4
    )
    figure.savefig(path, dpi=110)


def smoothed(gaps: list[float]) -> tuple[list[float], list[float]]:
    """Steps and geometric means of the gaps over spans of 6 %: the noise of late steps would fill a panel."""
    spans = np.unique(np.geomspace(1, len(gaps), 130).astype(int))
    values = np.log(np.maximum(gaps, ROUNDING / 100))
    pairs = list(pairwise(spans))
    middles = [float(np.sqrt(start * (end - 1))) for start, end in pairs]
    return middles, [float(np.exp(values[start:end].mean())) for start, end in pairs]


def in_words(curve: Curve) -> str:
    """One figure of the last gap, and the violation where it is more than rounding."""
    gap = f"{curve.gaps[-1]:.0e}" if curve.gaps[-1] > ROUNDING else "rounding"
    return gap if curve.violation < 1e-10 else f"{gap}, off by {curve.violation:.0e}"


def table(curves: dict[str, dict[str, Curve]]) -> str:
    """Last gaps, a line for each recipe."""
    lines = ["".join([f"{'':16}", *(f"{name:>24}" for name in curves)])]
    for recipe in RECIPES:
        found = [in_words(by[recipe]) if recipe in by else "–" for by in curves.values()]
        lines.append("".join([f"{recipe:16}", *(f"{text:>24}" for text in found)]))
    return "\n".join(lines)


def main() -> None:
    """Train every way, print a table for each problem, draw the figure where one is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the curves (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # two dozen weights leave a second thread nothing to do
    curves: dict[str, dict[str, dict[str, Curve]]] = {}
    for problem in (quadratic(), diabetes()):
        curves[problem.name] = {
            optimizer: {
                name: train(problem, recipe, make)
                for name, recipe in RECIPES.items()
                if name != "metric" or optimizer in WITH_METRIC
            }
            for optimizer, make in OPTIMIZERS.items()
        }
        print(f"{problem.name}: loss gap after {STEPS} steps as a share of the first; off by: the largest violation")
        print(table(curves[problem.name]) + "\n")
    if arguments.figure:
        draw(curves, arguments.figure)


if __name__ == "__main__":
    main()
