"""The process that hunts on one target with atheris until its time is spent; started by `python -m tests.fuzz`.

It writes each input to the shared file `current` before it is read, so that the process that started it knows which one
was the last when nothing is left of this one.
"""

from __future__ import annotations

import faulthandler
import hashlib
import mmap
import os
import resource
import struct
import sys
import warnings
from pathlib import Path
from random import Random
from typing import Any

LONGEST = 2**16
"""Bytes of an input."""

CURRENT = struct.Struct("<QQQd")
"""What the shared file begins with: inputs so far, bytes held before the first, length of the input that follows, and
seconds of the processor that all inputs have taken."""

LEAKED = 2**28
"""Bytes that the process may grow by until it ends and a new one goes on: atheris keeps every input that it changed."""

CLOCK = "-timeout=1000000"
"""Seconds by the clock, that libFuzzer would end the process after; `judge` stops an input by the processor's time."""


def hunt(name: str, seconds: float, folder: Path) -> None:
    """Read changed inputs until they have taken `seconds` of the processor; never returns."""
    import atheris

    with atheris.instrument_imports(include=["affinet", "tomllib", "scipy.io.matlab"]):
        from tests.fuzz.judging import MEMORY, judge, peak_memory, processor_time
        from tests.fuzz.mutations import of_bytes
        from tests.fuzz.targets import NAMED

    target = NAMED[name]
    path = folder / f"input{target.suffix}"
    shared = mmap.mmap(os.open(folder / "current", os.O_RDWR), CURRENT.size + LONGEST)
    executions, _, _, spent = CURRENT.unpack_from(shared)
    for seed in target.inputs():  # what is loaded late is loaded before memory is measured
        path.write_bytes(seed.read_bytes())
        judge(target, path, 2**62)
    warnings.simplefilter("error")
    base = peak_memory()
    _limit_memory(MEMORY)
    known = {why.read_text().splitlines()[0] for why in folder.glob("findings/*.why")}
    began, parent = processor_time() - spent, os.getppid()

    def one(data: bytes) -> None:
        nonlocal executions
        spent = processor_time() - began
        if spent > seconds or os.getppid() != parent:
            os._exit(0)
        executions += 1
        if executions % 1024 == 0 and _resident() > base + LEAKED:
            os._exit(0)
        CURRENT.pack_into(shared, 0, executions, base, len(data), spent)
        shared[CURRENT.size : CURRENT.size + len(data)] = data
        path.write_bytes(data)
        finding = judge(target, path, base + MEMORY)
        if finding is not None and str(finding) not in known:
            known.add(str(finding))
            keep(folder, target.suffix, data, f"{finding}\n\n{finding.details}")
            if finding.place == "memory":
                os._exit(3)  # the peak of a process never falls

    def change(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        try:
            changed = target.mutate(data, random) if random.random() < 0.6 else atheris.Mutate(data, most)
        except Exception:  # noqa: BLE001  an input that the change of its format cannot read is changed without it
            changed = of_bytes(data, random)
        return changed[: min(most, LONGEST)]

    grown = folder / "grown"
    grown.mkdir(exist_ok=True)
    flags = [CLOCK, "-rss_limit_mb=0", f"-max_len={LONGEST}", "-len_control=0", "-detect_leaks=0", "-verbosity=0"]
    flags.append(f"-artifact_prefix={grown}/")  # its own copy of an input; ours lies in findings/
    arguments: list[Any] = [sys.argv[0], *flags, f"-seed={1 + executions}", str(grown), str(target.corpus)]
    atheris.Setup(arguments, one, custom_mutator=change)
    atheris.Fuzz()


def keep(folder: Path, suffix: str, data: bytes, said: str) -> None:
    """Put an input where findings are collected, with what was said about it beside it."""
    place = folder / "findings" / hashlib.sha256(data).hexdigest()[:12]
    place.parent.mkdir(exist_ok=True)
    place.with_suffix(suffix).write_bytes(data)
    place.with_suffix(suffix + ".why").write_text(said)


def _limit_memory(more: int) -> None:
    """Let no single request go through that the limit of an input would not allow."""
    if sys.platform == "linux":
        most = _pages()[0] * resource.getpagesize() + LEAKED + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _resident() -> int:
    """Bytes that the process holds now, where that can be asked."""
    return _pages()[1] * resource.getpagesize()


def _pages() -> tuple[int, int]:
    """Of the address space and of memory."""
    if sys.platform != "linux":
        return 0, 0
    space, memory = Path("/proc/self/statm").read_text().split()[:2]
    return int(space), int(memory)


if __name__ == "__main__":
    faulthandler.enable()
    hunt(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]))
