"""A layer that learns a new task and forgets nothing of the old one.

A linear layer on 1,500 fixed random features tells the digits 0 to 4. Then it learns 5 to 9, from images of these
alone. The rule `W Φ_old == W_old Φ_old` keeps its ten outputs on every old training image as they were; the directions
that no old image uses are free for the new task. Without the rule the same training forgets the old digits.

    python examples/gallery/continual_learning.py --figure docs/gallery/continual_learning.png
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import affinet

FEATURES, STEPS, SHRINK = 1500, 20, 3e-5


@dataclass(frozen=True)
class Task:
    """Features of images of some of the digits, and the ten outputs wanted: one for the class, zero else."""

    train: Tensor
    wanted: Tensor
    test: Tensor
    classes: Tensor


def tasks() -> tuple[Task, Task]:
    """The digits 0 to 4 and the digits 5 to 9, as random ReLU features."""
    bunch = load_digits()
    x, test_x, y, test_y = (
        torch.tensor(part) for part in train_test_split(bunch.data / 16.0, bunch.target, test_size=0.3, random_state=0)
    )
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(64, FEATURES, generator=generator, dtype=torch.float64) * 3 / 8
    shifts = torch.randn(FEATURES, generator=generator, dtype=torch.float64) / 2

    def features(images: Tensor) -> Tensor:
        active: Tensor = torch.relu(images @ directions + shifts)
        scaled: Tensor = active / FEATURES**0.5
        return scaled

    def of(kept: Tensor, test_kept: Tensor) -> Task:
        wanted = nn.functional.one_hot(y[kept], 10).double()
        return Task(features(x[kept]), wanted, features(test_x[test_kept]), test_y[test_kept])

    return of(y < 5, test_y < 5), of(y >= 5, test_y >= 5)


def loss_of(layer: nn.Linear, task: Task) -> Tensor:
    """Squared error, and a little of the squared weights, so that there is one optimum."""
    error = (layer(task.train) - task.wanted).square().sum() / len(task.train)
    loss: Tensor = error + SHRINK * layer.weight.square().sum()
    return loss


@dataclass(frozen=True)
class Course:
    """A layer in training, and its accuracy on the tests of both tasks after every ten iterations."""

    layer: nn.Linear
    both: tuple[Task, Task]
    seen: list[tuple[float, float]] = field(default_factory=list)

    def learn(self, task: Task, old: Tensor | None = None) -> None:
        """L-BFGS on one task; with `old`, the outputs on these features are kept."""
        optimizer = torch.optim.LBFGS(
            self.layer.parameters(), max_iter=10, history_size=100, tolerance_change=0, line_search_fn="strong_wolfe"
        )
        if old is not None:
            weight = affinet.weights(self.layer).weight
            affinet.project(self.layer, optimizer, weight @ old.T == self.layer.weight.detach() @ old.T)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = loss_of(self.layer, task)
            loss.backward()
            return loss

        for _ in range(STEPS):
            optimizer.step(closure)
            self.seen.append((accuracy(self.layer, self.both[0]), accuracy(self.layer, self.both[1])))


@torch.no_grad()
def accuracy(layer: nn.Linear, task: Task) -> float:
    """The share of test images whose largest of all ten outputs is their digit."""
    return float((layer(task.test).argmax(dim=1) == task.classes).double().mean())


def solved(old: Task, new: Task, before: Tensor) -> Tensor:
    """The optimum of the new task under the rule: `W = before + Vᵀ Nᵀ`, N orthonormal with `Φ_old N = 0`."""
    basis = torch.linalg.qr(old.train.T, mode="complete")[0][:, len(old.train) :]
    features = new.train @ basis
    gap = (new.wanted - new.train @ before.T) / len(new.train)
    normal = features.T @ features / len(new.train) + SHRINK * torch.eye(basis.shape[1], dtype=torch.float64)
    V: Tensor = torch.linalg.solve(normal, features.T @ gap - SHRINK * basis.T @ before.T)
    W: Tensor = before + (basis @ V).T
    return W


def draw(courses: dict[str, Course], path: Path) -> None:
    """Accuracy on both tasks, while one and then the other is learnt."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.7), layout="constrained")
    for panel, (name, course) in zip(figure.subplots(1, 2, sharey=True), courses.items(), strict=True):
        old, new = (100 * torch.tensor(values) for values in zip(*course.seen, strict=True))
        iterations = range(10, 10 * len(old) + 1, 10)
        panel.plot(iterations, old, color="#0072B2", linewidth=2.5, label="digits 0 to 4")
        panel.plot(iterations, new, color="#D55E00", linewidth=2.5, label="digits 5 to 9")
        panel.axvline(10 * STEPS, color="black", linewidth=0.8, linestyle=":")
        for place, told in ((5 * STEPS, "learns 0 to 4"), (15 * STEPS, "learns 5 to 9")):
            panel.text(place, 108, told, ha="center", color="#555555")
        panel.set(title=name, xlabel="iterations of L-BFGS", ylim=(-4, 116), xlim=(0, 20 * STEPS))
        panel.set_yticks([0, 25, 50, 75, 100])
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("test accuracy (%)")
    figure.axes[0].legend(frameon=False, loc="center left")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Learn both ways, compare with the closed form, and print the figures; draw them where a picture is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    old, new = tasks()
    layer = nn.Linear(FEATURES, 10, bias=False, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    first = Course(layer, (old, new))
    first.learn(old)
    before = layer.weight.detach()
    outputs = old.train @ before.T
    courses = {}
    for name in ("without rules", "with the rule"):
        course = Course(copy.deepcopy(layer), (old, new), list(first.seen))
        course.learn(new, old.train if name == "with the rule" else None)
        courses[name] = course
    kept = courses["with the rule"].layer.weight.detach()
    exact = solved(old, new, before)
    change = {
        name: float((old.train @ course.layer.weight.detach().T - outputs).abs().max())
        for name, course in courses.items()
    }
    distance = float((kept - exact).abs().max() / exact.abs().max())
    assert change["with the rule"] < 1e-12
    assert change["without rules"] > 0.5
    assert distance < 1e-3
    assert min(courses["with the rule"].seen[-1]) > 0.9
    assert courses["without rules"].seen[-1][0] < 0.1

    print("                            test accuracy, 0 to 4   5 to 9   largest change of an old output")
    rows = {"after 0 to 4": first} | {f"then 5 to 9, {name}": course for name, course in courses.items()}
    for row, course in rows.items():
        figures = "{:>22.0f}%{:>8.0f}%".format(*(100 * value for value in course.seen[-1]))
        moved = change.get(row.removeprefix("then 5 to 9, "))
        shown = "" if moved is None else "under 1e-12" if moved < 1e-12 else f"{moved:.1f}"
        print(f"{row:<26}{figures}{shown:>34}".rstrip())
    print("with the rule: the optimum in closed form, to 0.1% of the largest weight")
    if arguments.figure:
        draw(courses, arguments.figure)


if __name__ == "__main__":
    main()
