"""`python -m benchmarks.processes`: steps under rules over two processes with gloo, as ratios to steps without rules.

Two float32 matrices of 1024² are held by rows, each half by one process. A step is that of Adam with given gradients,
with rules and without in turns, in one run, as medians of the CPU time of a process, and of wall time, which includes
waiting for messages. One process that has both matrices does the same. Transposed layers are compared with what one
would write for them by hand, and with their bytes alone.
`python -m benchmarks` runs it as `processes`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

import affinet
from affinet import families

N, WARM, TURNS, PROCESSES = 1024, 5, 40, 2
SHAPES = {"a": (N, N), "b": (N, N)}
RULES: dict[str, Callable[[Any], Any]] = {
    "row sums": lambda w: w.a.sum(dim=1) == 1,
    "column sums": lambda w: w.a.sum(dim=0) == 1,
    "a tie": lambda w: w.a[0, 1] == w.b[N - 1, 2],
    "3 dense equations": lambda w: families.linear(
        [w.a, w.b], np.random.default_rng(0).standard_normal((3, 2 * N * N)), np.zeros(3)
    ),
    "transposed layers": lambda w: w.a == w.b.T,
    "not negative": lambda w: w.a >= 0,
    "rows of probabilities": lambda w: families.simplex(w.a, dim=1),
}
SENT = 2 * 2 * (N // PROCESSES) ** 2 * (PROCESSES - 1) * 4
"""Bytes that a process sends in a step for transposed layers: the entries that cross, for gradients and for weights."""
Ratios = dict[str, tuple[float, float, float]]
"""Rule → milliseconds of CPU time of a step without rules; and how often that a step under the rule takes, in CPU time
and in wall time."""


def main() -> None:
    """Print the ratio of each rule in one process and over two, and the bytes that a process sends."""
    for line in table():
        print(line)


def table() -> list[str]:
    """The lines of a table in Markdown."""
    alone, shared = measured(1), measured(PROCESSES)
    lines = ["| rule | one process | two processes | in wall time | a process sends |", "|---|---|---|---|---|"]
    for name, rule in RULES.items():
        sent = affinet.plan(rule(affinet.weights(SHAPES))).sharded(PROCESSES).bytes_a_step
        ratios = " | ".join(f"{ratio:.2f} ×" for ratio in (alone[name][1], *shared[name][1:]))
        lines.append(f"| {name} | {ratios} | {sent:,} B |")
    by_hand = [f"| {name} | – | {shared[name][1]:.2f} × | {shared[name][2]:.2f} × | {SENT:,} B |" for name in BY_HAND]
    without = [median(ratios[name][0] for name in RULES) for ratios in (alone, shared)]
    return [
        *lines,
        *by_hand,
        "",
        f"A step without rules takes {without[0]:.1f} ms of CPU time, over two {without[1]:.1f} ms each.",
    ]


def measured(world: int) -> Ratios:
    """The ratios of the slowest of `world` processes. Fails with what a process wrote."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "benchmarks.processes", folder, str(world)]
        processes = [
            subprocess.Popen([*command, str(rank)], env=environment, stderr=subprocess.PIPE, text=True)
            for rank in range(world)
        ]
        errors = [process.communicate()[1] for process in processes]
        if any(process.returncode for process in processes):
            raise RuntimeError("\n".join(errors))
        ratios = [json.loads((Path(folder) / f"ratios{rank}").read_text()) for rank in range(world)]
    return {name: max((each[name] for each in ratios), key=lambda pair: pair[1]) for name in ratios[0]}


def _on_rank(folder: Path, world: int, rank: int) -> None:
    """Measure in one of the processes, and write what was found."""
    torch.set_num_threads(1)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timedelta(minutes=5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ratios = {name: _ratio(rule, world) for name, rule in RULES.items()}
        if world == PROCESSES:
            ratios |= {name: _ratio(None, world, swap) for name, swap in BY_HAND.items()}
    (folder / f"ratios{rank}").write_text(json.dumps(ratios))
    dist.barrier()
    dist.destroy_process_group()


def _ratio(
    rule: Callable[[Any], Any] | None, world: int, swap: Callable[[Tensor, Tensor], None] | None = None
) -> tuple[float, float, float]:
    """Milliseconds of a step without rules, and the ratios to it of one under a rule, or between two swaps by hand."""
    taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    trainings = {under_rules: _training(rule if under_rules else None, world) for under_rules in taken}
    for turn in range(WARM + TURNS):
        for under_rules, (parameters, optimizer) in trainings.items():
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            dist.barrier()
            began = time.process_time(), time.perf_counter()
            if swap is not None and under_rules:
                swap(*(parameter.grad.to_local() for parameter in parameters))
            optimizer.step()
            if swap is not None and under_rules:
                swap(*(parameter.detach().to_local() for parameter in parameters))
            if turn >= WARM:
                taken[under_rules].append((time.process_time() - began[0], time.perf_counter() - began[1]))
    free, ruled = ([median(times) for times in zip(*taken[side], strict=True)] for side in (False, True))
    return free[0] * 1e3, ruled[0] / free[0], ruled[1] / free[1]


def _bytes_alone(a: Tensor, b: Tensor) -> None:
    """Send as many bytes as transposed layers need, and do nothing with them."""
    half = len(a)
    sizes = [0 if peer == dist.get_rank() else 2 * half * half for peer in range(PROCESSES)]
    dist.all_to_all_single(torch.empty(sum(sizes)), torch.empty(sum(sizes)), sizes, sizes)


def _pairs_by_hand(a: Tensor, b: Tensor) -> None:
    """What one would write for `a == b.T` of two matrices that two processes hold by rows, in torch's operations."""
    half, own = len(a), dist.get_rank()
    here, there = (slice(k * half, (k + 1) * half) for k in (own, 1 - own))
    sizes = [0 if peer == own else 2 * half * half for peer in range(PROCESSES)]
    given, received = torch.stack([a[:, there], b[:, there]]), torch.empty(2, half, half)
    dist.all_to_all_single(received.view(-1), given.view(-1), sizes, sizes)
    mean = (a[:, here] + b[:, here].T).mul_(0.5)
    a[:, here], b[:, here] = mean, mean.T
    a[:, there].add_(received[1].T).mul_(0.5)
    b[:, there].add_(received[0].T).mul_(0.5)


BY_HAND: dict[str, Callable[[Tensor, Tensor], None]] = {
    "the bytes of transposed layers alone": _bytes_alone,
    "transposed layers by hand": _pairs_by_hand,
}


def _training(rule: Callable[[Any], Any] | None, world: int) -> tuple[list[Any], torch.optim.Optimizer]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    torch.manual_seed(0)
    net = nn.Module()
    for name, shape in SHAPES.items():
        numbers = torch.randn(shape) / N
        if world > 1:
            mesh = init_device_mesh("cpu", (world,))
            numbers = distribute_tensor(numbers, mesh, [Shard(0)], src_data_rank=None)
        net.register_parameter(name, nn.Parameter(numbers))
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    if rule is not None:
        affinet.project(net, optimizer, rule(affinet.weights(net)))
    return list(net.parameters()), optimizer


if __name__ == "__main__":
    if len(sys.argv) > 1:
        _on_rank(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
