"""Runs a function in several processes with gloo, and returns what each of them found."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

ROOT = Path(__file__).parents[2]
SECONDS = 600
"""After which processes that have not ended are killed."""
SILENCE = 120
"""Seconds that a process waits for the others before it fails."""


def together(world: int, function: str, *arguments: Any) -> list[Any]:
    """The results of `module:function(*arguments)` in `world` processes, by rank. Fails with what a process wrote."""
    with tempfile.TemporaryDirectory() as folder:
        torch.save(arguments, Path(folder) / "arguments")
        paths = os.pathsep.join([str(ROOT / "src"), str(ROOT), *sys.path])
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
        commands = [[sys.executable, __file__, folder, str(rank), str(world), function] for rank in range(world)]
        logs = [(Path(folder) / f"log{rank}").open("w") for rank in range(world)]
        processes = [
            subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            for command, log in zip(commands, logs, strict=True)
        ]
        end = time.monotonic() + SECONDS
        try:
            while any(process.poll() is None for process in processes) and time.monotonic() < end:
                if any(process.returncode for process in processes):
                    time.sleep(3)  # the others may say why
                    break
                time.sleep(0.05)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        texts = [(Path(folder) / f"log{rank}").read_text() for rank in range(world)]
        for log in logs:
            log.close()
        failed = [rank for rank, process in enumerate(processes) if process.returncode != 0]
        assert not failed, "\n".join(f"rank {rank}:\n{texts[rank][-4000:]}" for rank in failed)
        return [torch.load(Path(folder) / f"result{rank}", weights_only=False) for rank in range(world)]


def _on_rank(folder: Path, rank: int, world: int, function: str) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world, timeout=timedelta(seconds=SILENCE))
    try:
        module, _, name = function.partition(":")
        arguments = torch.load(folder / "arguments", weights_only=False)
        torch.save(getattr(import_module(module), name)(*arguments), folder / f"result{rank}")
        dist.barrier()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    _on_rank(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
    # Threads of torch that want the interpreter while it ends end the process with "terminate called".
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
