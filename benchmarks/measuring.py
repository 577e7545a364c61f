"""Timing on a machine that others share: sides take turns within one run, and medians are compared."""

from __future__ import annotations

import gc
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")
Call = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Seconds of repeated calls: their median and quartiles."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        """The spread of at least one time."""
        low, median, high = (
            statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else (seconds[0],) * 3
        )
        return cls(median, low, high, len(seconds))


@dataclass(frozen=True)
class Effort:
    """How long to look: about `seconds` for all sides together, at least `least` and at most `most` rounds.

    Calls so slow that the first rounds take four times as long are not repeated `least` times.
    """

    seconds: float
    least: int = 3
    most: int = 400

    def scaled(self, factor: float) -> Effort:
        """The same with less time."""
        return Effort(self.seconds * factor, self.least, max(self.least, int(self.most * factor)))


def settled(device: torch.device) -> Callable[[], None]:
    """What to wait for before looking at the clock."""
    if device.type == "cuda":
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


def by_turns(
    sides: Mapping[str, Call], effort: Effort, *, block: int = 1, before: Call | None = None, settle: Call | None = None
) -> dict[str, Spread]:
    """Seconds of one call of each side.

    Sides take turns in blocks of `block` calls, the order reversed every other round, so that a disturbance or a
    drift of the clock meets all of them; of a block of three or more the first call, which finds the caches filled by
    another side, is left out. `before` runs untimed ahead of every call, `settle` ahead of every look at the clock.
    """
    settle = settle or (lambda: None)
    before = before or (lambda: None)
    times: dict[str, list[float]] = {name: [] for name in sides}
    began, rounds = time.perf_counter(), 0
    while rounds < effort.most:
        elapsed = time.perf_counter() - began
        if elapsed > effort.seconds * (4 if rounds < effort.least else 1) and rounds:
            break
        order = list(sides)[:: 1 if rounds % 2 == 0 else -1]
        for name in order:
            call = sides[name]
            taken = []
            for _ in range(block):
                before()
                settle()
                start = time.perf_counter()
                call()
                settle()
                taken.append(time.perf_counter() - start)
            times[name] += taken[1:] if block >= 3 else taken
        rounds += 1
    return {name: Spread.of(taken) for name, taken in times.items()}


def repeated(call: Callable[[], T], effort: Effort) -> tuple[T, Spread]:
    """What the last call returned, and the seconds of each: of three at least, so that the median is not the first.

    The first finds caches and memory cold. A call of more than `effort.seconds` is not repeated.
    """
    times: list[float] = []
    while True:
        gc.collect()
        start = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - start)
        enough = sum(times) > effort.seconds and (len(times) >= effort.least or times[0] > effort.seconds)
        if len(times) >= effort.most or enough:
            return found, Spread.of(times)
        del found


def traced(build: Callable[[], T]) -> tuple[T, int, int]:
    """What `build` returns, the bytes that it still holds, and the peak on the way, as tracemalloc counts them.

    NumPy reports its arrays to tracemalloc; arrays that were there before and are only referred to are not counted.
    """
    gc.collect()
    tracemalloc.start()
    try:
        found = build()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return found, kept, peak


def extra_memory(call: Call, device: torch.device) -> int | None:
    """By how many bytes the memory in use grows at most while `call` runs, temporaries included.

    On CUDA the allocator's own count; on Linux resident memory (pages that the allocator had kept for reuse do not
    show, so that small figures are low); elsewhere None.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        start = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - start
    reset = Path("/proc/self/clear_refs")
    try:
        reset.write_text("5")  # from now on VmHWM is the peak since here: proc(5)
        start = _resident("VmRSS")
        call()
        return _resident("VmHWM") - start
    except OSError:
        return None


def _resident(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
