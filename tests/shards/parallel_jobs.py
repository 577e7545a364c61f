"""Jobs for several processes beside the same job in one: what `torchrun -m affinet train` does after it has begun."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rich.console import Console
from safetensors.torch import load_file

from affinet.cli.jobs.jobfile import parse_job
from affinet.cli.runs.following import FollowedFolder, NoWatch, follow
from affinet.cli.runs.resuming import resume
from affinet.cli.runs.running import finish_run, run
from affinet.cli.screen import Screen
from affinet.cli.trainings.preparation import prepare
from affinet.cli.trainings.torch.joined_processes import JoinedProcesses
from affinet.cli.trainings.torch.process_failures import Failures
from affinet.cli.trainings.training import Epoch
from affinet.errors import AffinetError

JOB = """\
[data]
source = "sklearn:iris"
[model]
hidden = [5, 4]
dtype = "float64"
[train]
epochs = 2
batch_size = 17
learning_rate = 0.01
{train}
[[rule]]
name = "row sums"
says = "hidden1.weight.sum(dim=1) == 1"
[[rule]]
name = "a tie of two layers"
says = "hidden2.weight[0, 1] == output.weight[2, 0]"
[[rule]]
name = "bounds"
says = "output.weight >= -0.3"
"""


def joined(parallel: Any) -> JoinedProcesses:
    """This process among those of its gang."""
    rank = dist.get_rank()
    failures = Failures(None, rank)
    return JoinedProcesses(rank, dist.get_world_size(), "torchrun", parallel, False, torch.device("cpu"), failures, 10)


def of_two(folder: str, kinds: list[tuple[str, str]]) -> dict[str, Any]:
    """What two processes find; they leave a run that has stopped."""
    stopped(folder)
    return {"compared": compared(f"{folder}/two", kinds), "refused": refused(f"{folder}/refused")}


def of_three(folder: str, kinds: list[tuple[str, str]]) -> dict[str, Any]:
    """What three processes find, which finish the stopped run."""
    return {"resumed": resumed(folder), "compared": compared(f"{folder}/three", kinds)}


def compared(folder: str, kinds: list[tuple[str, str]]) -> list[tuple[dict[str, Any], dict[str, Any]] | str]:
    """For each pair of `parallel` and further keys of [train]: the files of the run in one process, and in all."""
    return [_compared(Path(folder) / str(number), *kind) for number, kind in enumerate(kinds)]


def _compared(folder: Path, parallel: str, train: str) -> tuple[dict[str, Any], dict[str, Any]] | str:
    folder.mkdir(exist_ok=True, parents=True)
    text = JOB if "reparametrize" not in train else JOB.rpartition("[[rule]]")[0]  # free numbers hold no bounds
    job = parse_job(folder / "job.toml", text.format(train=train))
    together = parse_job(folder / "job.toml", text.format(train=f'{train}\nparallel = "{parallel}"'))
    processes = joined(parallel)
    try:
        if processes.writes:
            run(prepare(together, processes), folder / "together", NoWatch())
        else:
            follow(together, folder / "together", processes, "finish")
    except AffinetError as error:
        return f"{type(error).__name__}: {error}"
    if not processes.writes:
        return {}, {}
    run(prepare(job), folder / "alone", NoWatch())
    return files(folder / "alone"), files(folder / "together")


def files(run: Path) -> dict[str, Any]:
    """Weights and metrics of a run, and what its rules cost."""
    rows = [[float(cell) for cell in line.split(",")] for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    prices = json.loads((run / "summary.json").read_text())["prices"]
    costs = sorted((price["rule"], price["largest_multiplier"], price["change"]) for price in prices["dearest"])
    figures = [prices["stationarity"], *(figure for _, *of_rule in costs for figure in of_rule)]
    numbers = {"metrics": rows, "prices": figures}
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()}
    return {**tensors, **load_file(run / "model.safetensors")}


class _Stop(Exception):
    """The end of a run before its time."""


class _Stopping(NoWatch):
    """A display that ends a run after its first epoch."""

    @contextmanager
    def training(self, title: str, epochs: int, steps: int, steps_done: int) -> Iterator[Any]:
        def see(event: object) -> None:
            if isinstance(event, Epoch):
                raise _Stop

        yield see


RESUMED = JOB.format(train='optimizer = "Adam"\nparallel = "fsdp"').replace("epochs = 2", "epochs = 3")


def stopped(folder: str) -> None:
    """A run that ends after its first epoch."""
    job = parse_job(Path(folder) / "job.toml", RESUMED)
    prepared = prepare(job, joined("fsdp"))
    with suppress(_Stop):
        if prepared.processes.writes:
            run(prepared, Path(folder) / "run", _Stopping())
        else:
            finish_run(prepared, FollowedFolder(Path(folder) / "run", "torchrun"), None, _Stopping())


def resumed(folder: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """The files of the run in one process, and of the stopped one that these processes finish."""
    path, processes = Path(folder) / "run", joined("fsdp")
    job = parse_job(Path(folder) / "job.toml", RESUMED)
    if not processes.writes:
        follow(job, path, processes, processes.from_writer(lambda: "nothing"))
        return None
    resume(path, None, Screen(Console(quiet=True)), processes)
    alone = parse_job(Path(folder) / "job.toml", RESUMED.replace('parallel = "fsdp"', ""))
    run(prepare(alone), Path(folder) / "alone", NoWatch())
    return files(Path(folder) / "alone"), files(path)


COUNTING = """
import torch
class make(torch.nn.Sequential):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.add_module("output", torch.nn.Linear(inputs, outputs))
        self.register_buffer("calls", torch.zeros(()))
    def forward(self, x):
        self.calls += x.detach().sum()
        return self.output(x)
"""


def refused(folder: str) -> dict[str, str]:
    """What goes wrong in all processes at once."""
    place = Path(folder)
    if dist.get_rank() == 0:
        place.mkdir(exist_ok=True)
        (place / "counting.py").write_text(COUNTING)
    dist.barrier()
    plain = JOB.format(train='parallel = "ddp"')
    counting = plain.partition("[[rule]]")[0].replace("hidden = [5, 4]", 'factory = "counting:make"')
    return {
        "other_data": _error(place / "a", plain.replace('"ddp"', f'"ddp"\nseed = {dist.get_rank()}'), "ddp"),
        "buffers": _error(place, counting.replace('dtype = "float64"\n', ""), "ddp"),
        "rprop": _error(place / "b", JOB.format(train='parallel = "fsdp"\noptimizer = "Rprop"'), "fsdp"),
    }


def _error(folder: Path, text: str, parallel: str) -> str:
    processes = joined(parallel)
    job = parse_job(folder / "job.toml", text)
    try:
        if processes.writes:
            run(prepare(job, processes), folder / "run", NoWatch())
        else:
            follow(job, folder / "run", processes, "finish")
    except AffinetError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"
