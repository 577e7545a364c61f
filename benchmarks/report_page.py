"""Time the page of rules on a model of 124 million numbers, the size of GPT-2 small, without prices and with them.

python -m benchmarks.report_page
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import TypeVar

import torch
from torch import nn

import affinet
from affinet import Constraint

WIDTH, WORDS, PLACES, BLOCKS = 768, 50_257, 1024, 12


class Block(nn.Module):
    """The weights of a block of GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.fc, self.out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)


class Model(nn.Module):
    """The weights of GPT-2 small."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(WORDS, WIDTH), nn.Embedding(PLACES, WIDTH)
        self.h, self.ln_f = nn.ModuleList(Block() for _ in range(BLOCKS)), nn.LayerNorm(WIDTH)


def rules_of(model: nn.Module) -> list[Constraint]:
    """Sums, bounds, ties and fixed entries."""
    w = affinet.weights(model)
    rules = [(w.wte.weight.sum(dim=1) == 0).named("centred embeddings"), (w.wpe.weight >= -0.5).named("bounded places")]
    for k in range(BLOCKS):
        block = w.h[k]
        rules.append((block.fc.bias == 0).named(f"no bias {k}"))
        if k < 6:
            rules.append((block.fc.weight.sum(dim=1) == 0).named(f"zero sums {k}"))
        if k < 4:
            queries, keys = block.attn.weight[:WIDTH], block.attn.weight[WIDTH : 2 * WIDTH]
            rules.append((queries == keys).named(f"queries are keys {k}"))
        if k < 3:
            rules.append((block.out.weight <= 0.02).named(f"small {k}"))
    return rules


def main() -> None:
    """Attach the rules, take two steps, and print how long pages and prices take, and how large they are."""
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, rules_of(model))
    watch = handle.watch()

    def step() -> None:
        optimizer.zero_grad()
        torch.stack([p.square().mean() for p in model.parameters()]).sum().backward()
        optimizer.step()

    step()
    print(f"{sum(p.numel() for p in model.parameters()):,} numbers, {handle.plan.size:,} of them in rules")
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        timed("handle.html(path), no gradients captured", lambda: handle.html(page, history=watch.history))
        handle.capture()
        step()
        report = timed("handle.report()", handle.report)
        timed("handle.report().html(path), the page alone", lambda: report.html(page, history=watch.history))
        print(f"the page has {page.stat().st_size / 1e3:,.0f} kB")
        timed("handle.html(path) with prices", lambda: handle.html(page, history=watch.history))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB of memory at most")


T = TypeVar("T")


def timed(name: str, call: Callable[[], T]) -> T:
    """What a call returns; its wall and CPU time are printed."""
    wall, cpu = perf_counter(), process_time()
    result = call()
    print(f"{name}: {perf_counter() - wall:.1f} s, {process_time() - cpu:.1f} s of CPU time")
    return result


if __name__ == "__main__":
    main()
