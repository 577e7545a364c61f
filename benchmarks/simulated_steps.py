"""`python -m benchmarks.simulated_steps`: what rules on models of 7 and 70 billion weights send and take, by processes.

From shapes alone: nothing is trained, and the table is the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import affinet

PROCESSES = [8, 64, 512, 4096]
TOKENS = 4096
"""Tokens that a process sees in a step."""
OPERATIONS = 4e14
"""Operations a second of one process: two fifths of the 989 TFLOP/s of an H100 in bfloat16."""
RATES = ((25.0, 10.0), (3.0, 50.0))
"""Gigabytes a second and microseconds a message: a port of 200 Gb/s, and one of 25 Gb/s."""


@dataclass(frozen=True)
class Model:
    """A transformer: `layers` blocks of `width`, with `hidden` numbers in their MLP, and `words` in its vocabulary."""

    name: str
    layers: int
    width: int
    hidden: int
    words: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The matrices."""
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("embed", "head"), (self.words, self.width))
        for layer in range(self.layers):
            square = (self.width, self.width)
            shapes |= {f"{layer}.{name}": square for name in ("query", "key", "value", "output")}
            shapes |= {f"{layer}.{name}": (self.hidden, self.width) for name in ("gate", "up")}
            shapes[f"{layer}.down"] = (self.width, self.hidden)
        return shapes


MODELS = (Model("7 B", 32, 4096, 11_008, 32_000), Model("70 B", 80, 8192, 28_672, 128_256))


def rules(model: Model, w: Any) -> dict[str, list[Any]]:
    """Kinds of rules, by name."""
    layers = range(model.layers)
    return {
        "head == embed": [w["head"] == w["embed"]],
        "row sums of every `up`": [w[f"{layer}.up"].sum(dim=1) == 0 for layer in layers],
        "every `value` >= 0": [w[f"{layer}.value"] >= 0 for layer in layers],
        "column sums of every `down`": [w[f"{layer}.down"].sum(dim=0) == 0 for layer in layers],
        "`key == query.T` in every layer": [w[f"{layer}.key"] == w[f"{layer}.query"].T for layer in layers],
    }


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.2g}"


def main() -> None:
    """Print the table of docs/performance.md."""
    print("| model, rules | processes | MB a step | messages | at 25 GB/s, 10 µs | at 3 GB/s, 50 µs |")
    print("|---|---|---|---|---|---|")
    for model in MODELS:
        shapes = model.shapes()
        weights = sum(rows * columns for rows, columns in shapes.values())
        step = 6 * weights * TOKENS / OPERATIONS
        for name, kind in rules(model, affinet.weights(shapes)).items():
            plan = affinet.plan(kind)
            fast, slow = (
                affinet.simulate(plan, PROCESSES, itemsize=2, gigabytes_per_second=rate, microseconds=latency)
                for rate, latency in RATES
            )
            if not any(sharded.bytes_a_step for sharded in fast.meshes):
                print(f"| {model.name}, {name} | {PROCESSES[0]:,} to {PROCESSES[-1]:,} | 0 | 0 | – | – |")
                continue
            for sharded, *seconds in zip(fast.meshes, fast.seconds, slow.seconds, strict=True):
                shares = " | ".join(f"{_short(1e3 * each)} ms, {_short(100 * each / step)} %" for each in seconds)
                sent = f"{_short(sharded.bytes_a_step / 1e6)} | {sharded.messages_a_step}"
                print(f"| {model.name}, {name} | {sharded.mesh[0]:,} | {sent} | {shares} |")


if __name__ == "__main__":
    main()
