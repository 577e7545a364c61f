"""A training step under `reparametrize` beside the same step under `project`: time, and numbers of optimizer state.

The layer is 2,000 × 2,000 in 10,000 classes of equal weights (or its rows sum to one), trained by Adam on one batch;
sides take turns. The last lines time the sums over the classes alone, in the ways that torch and numba offer.

    python -m benchmarks.reparametrize
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn, optim

import affinet
from affinet import families
from affinet.kernels.bases.operations import Constant
from affinet.kernels.torch.bases.summing import class_sums
from benchmarks.measuring import Call, Effort, by_turns

SIZE, CLASSES, BATCH = 2_000, 10_000, 32
PATTERN = np.random.default_rng(0).integers(0, CLASSES, (SIZE, SIZE))
RULES: dict[str, Callable[[affinet.Expression], affinet.Constraint]] = {
    f"{CLASSES:,} classes": lambda w: families.share(w, PATTERN),
    "rows sum to one": lambda w: w.sum(dim=1) == 1,
    "symmetric": families.symmetric,
}
SIDES = ("no rules", "project", "orthonormal", "free", "projection")


def stepper(side: str, rules: str) -> tuple[Call, int]:
    """One training step of a side, and how many numbers the optimizer keeps beside the weights."""
    torch.manual_seed(0)
    layer = nn.Linear(SIZE, SIZE, bias=False)
    weight = affinet.weights(layer).weight
    if side in ("orthonormal", "free", "projection"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", affinet.LongStepsWarning)  # nothing is trained far
            affinet.reparametrize(layer, RULES[rules](weight), basis=side)  # type: ignore[arg-type]
    optimizer = optim.Adam(layer.parameters(), lr=1e-4)
    if side == "project":
        affinet.project(layer, optimizer, RULES[rules](weight))
    x = torch.randn(BATCH, SIZE)

    def step() -> None:
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        optimizer.step()

    step()
    state = sum(t.numel() for kept in optimizer.state.values() for t in kept.values() if t.ndim)
    return step, state


def sums() -> dict[str, Call]:
    """Ways to sum 4,000,000 numbers over 10,000 classes."""
    class_of = torch.from_numpy(PATTERN.ravel())
    g = torch.randn(class_of.numel())
    order = torch.argsort(class_of, stable=True)
    counts = torch.bincount(class_of, minlength=CLASSES)
    known = Constant(PATTERN.ravel())

    def zeros(dtype: torch.dtype) -> Tensor:
        return torch.zeros(CLASSES, dtype=dtype)

    return {
        "class_sums (compiled where numba is)": lambda: class_sums(g, known, CLASSES),
        "scatter_add, float64": lambda: zeros(torch.float64).scatter_add_(0, class_of, g.double()),
        "index_add, float64": lambda: zeros(torch.float64).index_add_(0, class_of, g.double()),
        "index_add, float32": lambda: zeros(torch.float32).index_add_(0, class_of, g),
        "sorted, segment_reduce, float64": lambda: torch.segment_reduce(
            g.index_select(0, order).double(), "sum", lengths=counts, unsafe=True
        ),
    }


def main() -> None:
    """Print a line for each side of each kind of rules, then one for each way to sum."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; median of a step, quartiles, state of Adam")
    for rules in RULES:
        made = {side: stepper(side, rules) for side in SIDES}
        spreads = by_turns({side: call for side, (call, _) in made.items()}, Effort(12.0), block=5)
        projected = spreads["project"].median
        for side, spread in spreads.items():
            print(
                f"{rules:16} {side:12} {spread.median * 1e3:8.1f} ms ({spread.low * 1e3:.1f}–{spread.high * 1e3:.1f}), "
                f"{spread.median / projected:5.2f} × project, {made[side][1]:>10,} numbers of state",
                flush=True,
            )
    for name, spread in by_turns(sums(), Effort(6.0), block=5).items():
        print(f"{name:38} {spread.median * 1e3:8.1f} ms")


if __name__ == "__main__":
    main()
