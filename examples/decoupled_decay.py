"""Where AdamW's decoupled weight decay ends under equations: it depends on the noise of the gradients.

Left: a random quadratic of 12 weights under 2 equations, gradients with Gaussian noise of several sizes, AdamW with
`affinet.project` and a learning rate that decays to zero. Its limit is compared with the constrained optimum of f, with
that of f + λ/2 ‖w‖², and with the point that the fixed-point argument of docs/theory.md predicts.
Right: no loss at all, a learning rate that stays. What the equations fix is kept, the rest decays by 1 − ηλ a step.

    python examples/decoupled_decay.py --figure docs/decoupled_decay.png
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import root
from torch import Tensor, nn

import affinet

WEIGHTS, EQUATIONS, COPIES, STEPS = 12, 2, 32, 4000
DECAY = 0.3
NOISE = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Problem:
    """Minimise `w·Hw/2 − c·w` subject to `A w = b`."""

    H: Tensor
    c: Tensor
    A: Tensor
    b: Tensor

    @classmethod
    def random(cls) -> Problem:
        """Normal `A`, `b`, `c`; `H` is the identity plus a Wishart matrix of mean identity."""
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        factor = normal(WEIGHTS, WEIGHTS)
        H = torch.eye(WEIGHTS, dtype=torch.float64) + factor @ factor.T / WEIGHTS
        return cls(H, normal(WEIGHTS), normal(EQUATIONS, WEIGHTS), normal(EQUATIONS))

    def optimum(self, decay: float) -> Tensor:
        """The constrained optimum of `f + decay/2 ‖w‖²`, from `(H + decay) w − c = Aᵀν`, `A w = b`."""
        curvature = self.H + decay * torch.eye(WEIGHTS, dtype=torch.float64)
        corner = torch.zeros(EQUATIONS, EQUATIONS, dtype=torch.float64)
        conditions = torch.cat([torch.cat([curvature, self.A.T], dim=1), torch.cat([self.A, corner], dim=1)])
        solution: Tensor = torch.linalg.solve(conditions, torch.cat([self.c, self.b]))
        return solution[:WEIGHTS]

    def nearest_to_zero(self) -> Tensor:
        """`A⁺b`."""
        point: Tensor = torch.linalg.pinv(self.A) @ self.b
        return point

    def predicted(self, noise: float) -> Tensor:
        """The w with `P(λ w + D⁻¹ P g) = 0`, `A w = b`; D is the size of a noisy projected gradient, entry by entry."""
        basis = torch.linalg.svd(self.A)[2][EQUATIONS:].T
        size = noise * basis.norm(dim=1)

        def rest(v: np.ndarray) -> np.ndarray:
            w = self.nearest_to_zero() + basis @ torch.from_numpy(v)
            along = basis @ (basis.T @ (self.H @ w - self.c))
            found: np.ndarray = (basis.T @ (DECAY * w + along / (along.square() + size.square()).sqrt())).numpy()
            return found

        start = basis.T @ self.optimum(0.0)
        w: Tensor = self.nearest_to_zero() + basis @ torch.from_numpy(root(rest, start.numpy(), tol=1e-10).x)
        return w


def limit(problem: Problem, noise: float) -> Tensor:
    """Where AdamW ends: `COPIES` runs side by side, each with noise of its own, and the mean of their last weights."""
    torch.manual_seed(0)
    model = nn.Module()
    model.w = nn.Parameter(torch.zeros(COPIES, WEIGHTS, dtype=torch.float64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=DECAY)
    affinet.project(model, optimizer, affinet.weights(model).w @ problem.A.T == problem.b)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        gradient = model.w.detach() @ problem.H - problem.c
        model.w.grad = gradient + noise * torch.randn_like(gradient)
        optimizer.step()
        schedule.step()
    return model.get_parameter("w").detach().mean(dim=0)


def shrinking(problem: Problem) -> list[float]:
    """‖w − A⁺b‖ after every step of AdamW without any loss."""
    model = nn.Module()
    model.w = nn.Parameter(torch.ones(WEIGHTS, dtype=torch.float64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03, weight_decay=DECAY)
    affinet.project(model, optimizer, problem.A @ affinet.weights(model).w == problem.b)
    seen = []
    for _ in range(1000):
        model.w.grad = torch.zeros_like(model.w)
        seen.append(float((model.w.detach() - problem.nearest_to_zero()).norm()))
        optimizer.step()
    return seen


def draw(found: dict[float, Tensor], problem: Problem, path: Path) -> None:
    """Distances of the limit against the noise, and the decay of what is free."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
    targets = (
        ("optimum of f", problem.optimum(0.0), "#0072B2", "o"),
        ("optimum of f + λ/2 ‖w‖²", problem.optimum(DECAY), "#D55E00", "s"),
        ("A⁺b, the smallest feasible point", problem.nearest_to_zero(), "#009E73", "^"),
    )
    fine = np.geomspace(NOISE[1], NOISE[-1], 40)
    predicted = [problem.predicted(float(noise)) for noise in fine]
    for name, target, colour, marker in targets:
        left.plot(fine, [float((w - target).norm()) for w in predicted], color=colour, linewidth=1.2)
        places = [noise or NOISE[1] / 4 for noise in found]
        distances = [float((w - target).norm()) for w in found.values()]
        left.plot(places, distances, marker, color=colour, markersize=6, label=name)
    left.set(xscale="log", xlabel="size of the noise in the gradients", ylabel="distance of AdamW's limit")
    left.set_xticks([NOISE[1] / 4, 0.01, 0.1, 1, 10], ["none", "0.01", "0.1", "1", "10"])
    left.set_title(f"λ = {DECAY}; lines: predicted")
    left.minorticks_off()
    left.legend(frameon=False)
    seen = shrinking(problem)
    right.semilogy(seen, color="#0072B2", linewidth=4, alpha=0.5, label="‖w − A⁺b‖ under AdamW")
    powers = seen[0] * (1 - 0.03 * DECAY) ** np.arange(len(seen))
    right.semilogy(powers, "--", color="black", linewidth=1.2, label="(1 − ηλ)ᵏ ‖w₀ − A⁺b‖")
    right.set(xlabel="step k", title="no loss")
    right.legend(frameon=False)
    for panel in (left, right):
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Print the distances for every size of noise; draw the figure where one is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the curves (needs matplotlib)")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    problem = Problem.random()
    found = {noise: limit(problem, noise) for noise in NOISE}
    print("distance of AdamW's limit from")
    print(f"{'noise':>6}{'optimum of f':>16}{'of f + λ/2 ‖w‖²':>18}{'A⁺b':>8}{'the prediction':>17}")
    for noise, w in found.items():
        expected = problem.predicted(noise) if noise else problem.optimum(0.0)
        targets = (problem.optimum(0.0), problem.optimum(DECAY), problem.nearest_to_zero(), expected)
        distances = [float((w - target).norm()) for target in targets]
        print("{:6g}{:16.2f}{:18.2f}{:8.2f}{:17.2f}".format(noise, *distances))
    if arguments.figure:
        draw(found, problem, arguments.figure)


if __name__ == "__main__":
    main()
