"""`python -m benchmarks`: measure, print, save as JSON, and refresh docs/performance.md."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import numpy as np
import scipy
import torch
import typer
from rich.console import Console

import affinet
from benchmarks import growth, import_time, peers, processes, table
from benchmarks.apart import ask
from benchmarks.results import RESULTS, Row, Run
from benchmarks.timing import Setting
from benchmarks.workload import Workload
from benchmarks.workloads import WORKLOADS

DOCS = Path(__file__).parents[1] / "docs"
SECTIONS = ("peers", "growth", "imports", "processes")
NAMES = (*(workload.name for workload in WORKLOADS), *SECTIONS)
THREADS = 2


class Device(StrEnum):
    """Where tensors lie."""

    CPU = "cpu"
    CUDA = "cuda"


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Measure this alone (repeat for more): {', '.join(NAMES)}.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A sixth of the time; nothing is saved.")] = False,
    device: Annotated[Device, typer.Option(help="Where tensors lie.")] = Device.CPU,
) -> None:
    """Time affinet against training without rules, code by hand, plain copies, and peers, in one run.

    A run of everything is saved to benchmarks/results/ and refreshes docs/performance.md.
    """
    console = Console(width=200 if not Console().is_terminal else None)
    wanted = set(only or NAMES)
    if unknown := wanted - set(NAMES):
        raise typer.BadParameter(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if device is Device.CUDA and not torch.cuda.is_available():
        console.print("there is no CUDA device here: nothing to measure")
        return
    torch.set_num_threads(THREADS if device is Device.CPU else torch.get_num_threads())
    began = time.perf_counter()
    run = Run(
        machine(device), rows=_workloads(console, wanted, Setting(torch.device(device.value), 1 / 6 if quick else 1.0))
    )
    table.print_workloads(console, run.rows)
    if device is Device.CPU:
        run = _sections(console, run, wanted, 1 / 6 if quick else 1.0)
    run = replace(run, seconds=time.perf_counter() - began)
    console.print(f"{run.seconds:.0f} s in all; {', '.join(f'{key} {value}' for key, value in run.machine.items())}")
    if not quick and wanted == set(NAMES):
        _save(console, run, RESULTS / f"{device.value}.json")


def machine(device: Device) -> dict[str, str]:
    """What figures depend on."""
    chip = torch.cuda.get_device_name() if device is Device.CUDA else _processor()
    return {
        "device": chip if device is Device.CUDA else "cpu",
        "processor": chip,
        "threads": str(torch.get_num_threads()),
        "load": _load(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "affinet": affinet.__version__,
    }


def _load() -> str:
    """How many processes wanted to run in the last minute, when we began: figures from a busy machine are loose."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _workloads(console: Console, wanted: set[str], setting: Setting) -> tuple[Row, ...]:
    rows = []
    for workload in WORKLOADS:
        if workload.name not in wanted or (setting.device.type != "cpu" and workload.job(1).batch is None):
            continue
        began = time.perf_counter()
        row = _row(workload, setting)
        console.print(f"{workload.name}: {time.perf_counter() - began:.0f} s{'  ' + row.failed if row.failed else ''}")
        rows.append(row)
    return tuple(rows)


def _row(workload: Workload, setting: Setting) -> Row:
    """The row of one workload, with what was measured before it failed or its time was over."""
    arguments = (workload.name, setting.device.type, str(setting.share), str(torch.get_num_threads()))
    told, problem = ask("benchmarks.timing", *arguments, longest=workload.longest)
    if not told:
        return Row(workload.name, workload.says, failed=problem)
    return replace(Row.read(told[-1]), failed=problem)


def _sections(console: Console, run: Run, wanted: set[str], share: float) -> Run:
    if "growth" in wanted:
        run = replace(run, growth=tuple(growth.measured(share=share)))
        for row in run.growth:
            console.print(
                f"{row.rules}, {row.entries:,} entries: planning {table.shown(row.planning, 's')}, "
                f"step {table.shown(row.step, 's')}"
            )
    if "imports" in wanted:
        run = replace(run, imports=import_time.measured(runs=5 if share == 1 else 1))
        for statement, seconds in run.imports.items():
            console.print(f"{statement}: {seconds:.3f} s")
    if "processes" in wanted:
        for line in processes.table():
            console.print(line)
    if "peers" in wanted:
        run = replace(run, peers=tuple(peers.measured()))
        table.print_peers(console, run.peers)
    return run


def _save(console: Console, run: Run, path: Path) -> None:
    run.save(path)
    document = DOCS / "performance.md"
    table.refresh(document, table.sections(run))
    written: list[Path] = [path, document]
    if run.growth:
        growth.plot(run.growth, DOCS / "growth.png")
        written.append(DOCS / "growth.png")
    console.print("written:", ", ".join(str(one.relative_to(DOCS.parent)) for one in written))


if __name__ == "__main__":
    typer.run(main)
