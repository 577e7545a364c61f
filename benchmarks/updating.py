"""What `handle.update` to a new mask costs, beside multiplying the weights by a mask: python -m benchmarks.updating."""

from __future__ import annotations

from statistics import median
from time import process_time

import torch

import affinet
from affinet import families

SIZE, TURNS = 3000, 9


def masks(kind: str) -> list[torch.Tensor]:
    """Which entries are zero: 99 in 100 at random, or two in each four."""
    draw = torch.Generator().manual_seed(0)
    numbers = [torch.rand(SIZE, SIZE, generator=draw) for _ in range(TURNS)]
    if kind == "1 %":
        return [part < 0.99 for part in numbers]
    order = [part.view(SIZE, -1, 4).argsort(dim=2).argsort(dim=2) for part in numbers]
    return [(places < 2).view(SIZE, SIZE) for places in order]


def measured(kind: str) -> tuple[float, float]:
    """Median process times of an update and of a product with a bool mask, turn by turn."""
    layer = torch.nn.Linear(SIZE, SIZE, bias=False)
    w = affinet.weights(layer)
    first, *others = masks(kind)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    handle = affinet.project(layer, optimizer, families.fix(w.weight, where=first))
    updates, products = [], []
    for mask in others:
        start = process_time()
        handle.update(families.fix(w.weight, where=mask))
        updates.append(process_time() - start)
        numbers, kept = torch.randn(SIZE, SIZE), ~mask
        start = process_time()
        numbers.mul_(kept)
        products.append(process_time() - start)
    return median(updates), median(products)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind in ("1 %", "2:4"):
        update, product = measured(kind)
        times = f"update {1e3 * update:6.1f} ms   mul_(bool mask) {1e3 * product:6.1f} ms"
        print(f"{kind:4} {times}   {update / product:.2f} ×")
