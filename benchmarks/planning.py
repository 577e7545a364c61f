"""Planning time and memory on shapes alone: medians of repeated runs, and the peak that tracemalloc sees."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import torch

import affinet

RUNS = 5


def measured(label: str, build: Callable[[], affinet.Plan], milliseconds: float, megabytes: float | None) -> None:
    """Print the median time to say and plan the rules, the memory that is kept and the peak, and the targets."""
    build()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        build()
        times.append((time.perf_counter() - start) * 1e3)
    tracemalloc.start()
    plan = build()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    limit = f"{milliseconds:,.0f} ms" + (f", {megabytes:g} MB" if megabytes else "")
    print(
        f"{label:46s} {statistics.median(times):9.2f} ms   kept {kept / 1e6:8.3f} MB   peak {peak / 1e6:8.3f} MB"
        f"   (target {limit})   {plan!r}"
    )


def rows_of_a_matrix() -> affinet.Plan:
    """`W.sum(dim=1) == 1` on 4096 × 11008."""
    w = affinet.weights({"W": (4096, 11008)})
    return affinet.plan(w["W"].sum(dim=1) == 1)


def symmetric() -> affinet.Plan:
    """`W == W.T` on 4096²."""
    w = affinet.weights({"W": (4096, 4096)})
    return affinet.plan(w["W"] == w["W"].T)


def random_ties() -> Callable[[], affinet.Plan]:
    """1,000,000 random ties over 2,000,000 entries."""
    i, j = np.random.default_rng(0).integers(0, 2_000_000, (2, 1_000_000))

    def build() -> affinet.Plan:
        w = affinet.weights({"W": (2_000_000,)})
        return affinet.plan(w["W"][i] == w["W"][j])

    return build


class Layer(torch.nn.Module):
    """The matrices of one decoder layer of a 7-billion-parameter language model."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("q", "k", "v", "o"):
            setattr(self, name, torch.nn.Linear(4096, 4096, bias=False))
        self.gate, self.up = (torch.nn.Linear(4096, 11008, bias=False) for _ in range(2))
        self.down = torch.nn.Linear(11008, 4096, bias=False)


def language_model() -> Callable[[], affinet.Plan]:
    """Row and column sums (zero) of every matrix of a 7 B layout on the `meta` device."""
    with torch.device("meta"):
        model = torch.nn.ModuleDict(
            {
                "embed": torch.nn.Embedding(32000, 4096),
                "layers": torch.nn.ModuleList(Layer() for _ in range(32)),
                "head": torch.nn.Linear(4096, 32000, bias=False),
            }
        )

    def build() -> affinet.Plan:
        return affinet.plan([w.sum(dim=axis) == 0 for w in affinet.weights(model) for axis in (0, 1)])

    return build


def main() -> None:
    """All workloads in one run."""
    print(f"numpy {np.__version__}, torch {torch.__version__}; medians of {RUNS} runs, saying the rules included")
    measured("W.sum(dim=1) == 1, 4096 x 11008", rows_of_a_matrix, 10, 1)
    measured("W == W.T, 4096 x 4096", symmetric, 10, 1)
    measured("1,000,000 random ties", random_ties(), 1500, None)
    measured("7 B on meta, rows and columns of every matrix", language_model(), 3000, 20)


if __name__ == "__main__":
    main()
