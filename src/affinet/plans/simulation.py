"""Simulate what rules cost in a step on machines of any size: bytes, messages and their time, from shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2, prod
from typing import Any

from affinet.analysis.summary import format_table
from affinet.errors import AttachError
from affinet.plans.plan import Plan
from affinet.plans.sharded_plan import Placements, ShardedPlan


@dataclass(frozen=True, eq=False)
class Simulation:
    """Steps of one plan on meshes of several sizes; `print` shows a table.

    `gigabytes_per_second` is what a process can send, `microseconds` how long a message takes from one to another.
    """

    meshes: tuple[ShardedPlan, ...]
    gigabytes_per_second: float
    microseconds: float

    @property
    def seconds(self) -> tuple[float, ...]:
        """For each mesh, how long the messages of a step take where nothing is computed meanwhile.

        An all-reduce of b bytes by n processes takes 2 b / bandwidth and 2 log₂ n times the latency (ring and tree), an
        all-to-all b / bandwidth and n − 1 times the latency.
        """
        return tuple(map(self._seconds, self.meshes))

    def _seconds(self, sharded: ShardedPlan) -> float:
        hops = float(sum(each.own_messages for each in sharded.traffic) * _tree(prod(sharded.mesh)))
        hops += sum(map(_tree, sharded.presence_messages))
        for message in sharded.messages:
            sizes = [sharded.mesh[dimension] for dimension in message.dimensions]
            hops += sum(map(_tree, sizes)) if message.operation == "all_reduce" else sizes[0] - 1
        sent = sum(each.bytes_sent(sharded.itemsize) * (1 if each.way == "swaps" else 2) for each in sharded.traffic)
        sent += 2 * sharded.presence_bytes
        return sent / (self.gigabytes_per_second * 1e9) + hops * self.microseconds * 1e-6

    def __str__(self) -> str:
        lines: list[tuple[str, ...]] = [("processes", "bytes a step", "messages", "milliseconds")]
        for sharded, seconds in zip(self.meshes, self.seconds, strict=True):
            processes = " × ".join(f"{size:,}" for size in sharded.mesh)
            lines.append(
                (processes, f"{sharded.bytes_a_step:,}", f"{sharded.messages_a_step:,}", f"{1e3 * seconds:.3g}")
            )
        rates = f"At {self.gigabytes_per_second:g} GB/s a process, {self.microseconds:g} µs a message."
        return "\n".join([*format_table(lines), rates])


def simulate(
    plan: Plan,
    mesh: Any,
    placements: Placements | Mapping[str, Placements] | None = None,
    *,
    itemsize: int = 4,
    gigabytes_per_second: float = 25.0,
    microseconds: float = 10.0,
) -> Simulation:
    """What the rules of a plan send in a step, and how long that takes, where weights are split over processes.

    `mesh`, `placements` and `itemsize` are those of `plan.sharded`; a list of meshes, `[8, 64, 512]`, gives a line for
    each. `gigabytes_per_second` is what one process can send (the default is one 200 Gb/s port), `microseconds` the
    time of one message without content. Nothing is sent and no weights are needed. Raises AttachError for other values.
    """
    if not isinstance(plan, Plan):
        raise AttachError(f"affinet.simulate takes a plan, affinet.plan(rules), and not {type(plan).__name__}.")
    for name, value in (("gigabytes_per_second", gigabytes_per_second), ("microseconds", microseconds)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise AttachError(f"{name} is {value!r:.40}, and has to be a number above zero.")
    meshes: Sequence[Any] = mesh if isinstance(mesh, list) and mesh else [mesh]
    sharded = tuple(plan.sharded(each, placements, itemsize=itemsize) for each in meshes)
    return Simulation(sharded, float(gigabytes_per_second), float(microseconds))


def _tree(processes: int) -> int:
    """How often messages follow one another in an all-reduce over a tree, up and down."""
    return 2 * ceil(log2(processes)) if processes > 1 else 0
