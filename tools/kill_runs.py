"""Kill training runs and go on with them until they finish: each has to end with the bits of a run in one go.

Every run is a process of its own, forked from one that has imported everything, and is killed by SIGKILL

    at any moment      uniform over the whole of a run: reading, planning, training, saving, comparing
    inside a save      uniform over a save, from its beginning
    between two steps  right before or after one of its flushes and renames, or with a file half-written

again and again, and then left to finish. After some kills the newest checkpoint is cut or one of its bits is turned, as
a failing disk would. Compared are weights, metrics, and the last checkpoint with the optimizer and the random states.

    python tools/kill_runs.py --kills 1000 --seed 0

With `--processes 2` a run is of so many processes, as torchrun would start them, and one of them is killed. The others
have to end by themselves, with a message, before SIGTERM reaches those that still wait.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import Any

# A process with threads cannot be forked safely, and these start some when they are imported.
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

from torch import Tensor

from affinet.cli.commands import commands
from affinet.cli.runs import checkpoint, runfolder
from affinet.cli.runs.checkpoint import Checkpoint, read_checkpoint
from affinet.cli.runs.finished import SUMMARY
from affinet.cli.runs.runfolder import CHECKPOINT, METRICS, MODEL, PREVIOUS
from affinet.cli.runs.start_record import JOB as JOB_COPY
from affinet.cli.trainings.snapshot import Packed
from affinet.cli.trainings.torch.tensor_files import bits

JOB = """\
[data]
source = "sklearn:iris"
[model]
{model}
[train]
epochs = 5
batch_size = 32
{train}
[[rule]]
says = "{weight}.sum(dim=1) == 1"
[[rule]]
says = "{weight}[0, 1] == {weight}[2, 0]"
"""
HIDDEN = {"model": "hidden = [5]", "weight": "hidden1.weight"}
NOISY = {"model": 'factory = "noisy:make"', "weight": "first.weight"}
JOBS = {
    "Adam, projected": JOB.format(**HIDDEN, train='optimizer = "Adam"\nlearning_rate = 0.01'),
    "momentum, free numbers": JOB.format(
        **HIDDEN,
        train='optimizer = "SGD"\nlearning_rate = 0.01\noptions = { momentum = 0.9 }\nmethod = "reparametrize"',
    ),
    "LBFGS, projected": JOB.format(**HIDDEN, train='optimizer = "LBFGS"\nlearning_rate = 0.1'),
    "noise in the network": JOB.format(**NOISY, train='optimizer = "NAdam"\nlearning_rate = 0.01'),
    "noise, free numbers": JOB.format(**NOISY, train='optimizer = "AdamW"\nmethod = "reparametrize"\nbasis = "free"'),
}
TOGETHER = {
    "ddp": JOB.format(**HIDDEN, train='optimizer = "Adam"\nlearning_rate = 0.01\nparallel = "ddp"'),
    "fsdp": JOB.format(**HIDDEN, train='optimizer = "AdamW"\nlearning_rate = 0.01\nparallel = "fsdp"')
    + '[[rule]]\nsays = "output.weight.sum(dim=1) <= -0.1"\n',
    "ddp, dropout": JOB.format(
        model='factory = "dropping:make"',
        weight="first.weight",
        train='optimizer = "SGD"\noptions = { momentum = 0.9 }\nparallel = "ddp"',
    ),
}
"""Jobs for several processes."""
DROPPING = """\
import torch

def make(inputs, outputs):
    network = torch.nn.Sequential()
    network.add_module("first", torch.nn.Linear(inputs, 5))
    network.extend([torch.nn.Dropout(0.2), torch.nn.Linear(5, outputs)])
    return network
"""
FACTORY = """\
import random
import numpy as np
import torch

class Noise(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)
    def forward(self, x):
        if not self.training:
            return x
        self.calls += 1
        return x * (1 + 0.1 * random.random() + 0.1 * np.random.rand() + 0.01 * self.calls)

def make(inputs, outputs):
    random.seed(0)
    np.random.seed(0)
    network = torch.nn.Sequential()
    network.add_module("first", torch.nn.Linear(inputs, 5))
    network.extend([torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.2), Noise(), torch.nn.Linear(5, outputs)])
    return network
"""
MOMENT, SAVE, STEP = "at any moment", "inside a save", "between two steps"
PATIENCE = 300
"""Seconds after which a run that does not end is a failure."""
ALONE = 10
"""Seconds that processes have to notice that another one is gone, before they are told to end."""


class KillsError(Exception):
    """A run that did not go on, or ended with other bits."""


Hook = Callable[[], None]


@dataclass(frozen=True)
class Whole:
    """A run in one go: its folder, how long it and each of its saves took, and how many saves and steps it has.

    It is a run of so many `processes`.
    """

    path: Path
    processes: int
    seconds: float
    saving: float
    saves: int
    steps: int


@dataclass
class Tally:
    """What has happened so far."""

    kills: Counter[str] = field(default_factory=Counter)
    unbegun: int = 0
    damaged: int = 0
    resumed: int = 0
    finished: int = 0


def main() -> None:
    """Kill as often as asked, and say what came of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    chance, tally, began = random.Random(asked.seed), Tally(), time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        wholes = whole_runs(Path(temporary), asked.processes)
        for job, whole in cycle(wholes.items()):
            survive(job, whole, asked.kills - tally.kills.total(), tally, chance)
            print(f"{tally.kills.total():,} kills, {tally.finished:,} runs finished", file=sys.stderr, flush=True)
            if tally.kills.total() >= asked.kills:
                break
    ways = ", ".join(f"{count:,} {how}" for how, count in sorted(tally.kills.items()))
    print(f"{tally.kills.total():,} kills: {ways};")
    print(f"  {tally.unbegun:,} before there was a run to go on with; {tally.damaged:,} checkpoints damaged after one")
    print(f"{tally.resumed:,} resumes, all of which went on")
    print(f"{tally.finished:,} runs finished, all of them bit-identical to the run in one go")
    print(f"{time.perf_counter() - began:.0f} seconds")


def whole_runs(folder: Path, processes: int) -> dict[Path, Whole]:
    """Every job for so many processes in a file of `folder`, run in one go."""
    (folder / "noisy.py").write_text(FACTORY, encoding="utf-8")
    (folder / "dropping.py").write_text(DROPPING, encoding="utf-8")
    jobs = list((JOBS if processes == 1 else TOGETHER).values())
    import_all(folder, jobs[0], processes)
    found = {}
    for number, text in enumerate(jobs):
        job = folder / f"job{number}.toml"
        job.write_text(text, encoding="utf-8")
        found[job] = whole_run(job, processes)
    return found


def import_all(folder: Path, text: str, processes: int) -> None:
    """Import here what a run imports on its way, so that its copies need not; no step is taken, which could not be."""
    job, names = folder / "first.toml", folder / "names"
    job.write_text(text, encoding="utf-8")

    def tell() -> None:
        names.write_text("\n".join(sys.modules), encoding="utf-8")

    finish(start(["train", str(job)], job, processes, after=tell), job)
    for name in names.read_text(encoding="utf-8").splitlines():
        with suppress(ImportError):
            import_module(name)


def whole_run(job: Path, processes: int) -> Whole:
    """The run of a job in one go, measured."""
    run, figures = job.with_suffix(".whole"), job.with_suffix(".figures")
    steps, saves = [0], list[float]()

    def step(done: bool, path: object) -> None:
        steps[0] += 1

    def watch() -> None:
        watch_steps(step)
        watch_saves(lambda: saves.append(-time.perf_counter()), lambda: saves.append(time.perf_counter()))

    def tell() -> None:
        figures.write_text(f"{steps[0]} {len(saves) // 2} {sum(saves)}", encoding="ascii")

    began = time.perf_counter()
    finish(start(["train", str(job), "--out", str(run)], job, processes, watch, tell), job)
    seconds = time.perf_counter() - began
    counted, saved, saving = figures.read_text(encoding="ascii").split()
    return Whole(run, processes, seconds, float(saving) / int(saved), int(saved), int(counted))


def survive(job: Path, whole: Whole, most: int, tally: Tally, chance: random.Random) -> None:
    """A run that is killed up to twelve times, at most `most` times, and then left to finish."""
    run = job.with_suffix(".run")
    shutil.rmtree(run, ignore_errors=True)
    for _ in range(min(chance.randint(1, 12), most)):
        how = chance.choice((MOMENT, SAVE, STEP))
        tally.resumed += holds(run)
        if not killed(words(job, run), job, how, whole, chance):
            break
        tally.kills[how] += 1
        tally.unbegun += not holds(run)
        if (run / SUMMARY).exists():
            break  # nothing is left to go on with
        if chance.random() < 0.2 and (run / PREVIOUS).exists() and (run / CHECKPOINT).exists():
            damage(run / CHECKPOINT, chance)
            tally.damaged += 1
    for _ in range(chance.choice((1, 1, 1, 2))):  # the second tells a finished run again
        tally.resumed += holds(run)
        finish(start(words(job, run), job, whole.processes), job)
        compare(run, whole.path)
    tally.finished += 1


def words(job: Path, run: Path) -> list[str]:
    """What a person types next."""
    return ["train", "--resume", str(run)] if holds(run) else ["train", str(job), "--out", str(run)]


def holds(run: Path) -> bool:
    """Whether there is a run to go on with."""
    return (run / JOB_COPY).exists()


def killed(command: list[str], job: Path, how: str, whole: Whole, chance: random.Random) -> bool:
    """Whether a process was killed before it ended by itself: between two steps the one that writes, else any."""
    if how == MOMENT:
        children = start(command, job, whole.processes)
        time.sleep(chance.uniform(0, whole.seconds))
    elif how == SAVE:
        ready, begun = os.pipe()
        at = iter(range(chance.randrange(2), -1, -1))
        watch = partial(watch_saves, lambda: next(at, 1) == 0 and os.write(begun, b"."), nothing)
        children = start(command, job, whole.processes, watch)
        os.close(begun)
        select.select([ready], [], [], PATIENCE)  # also ready when the child has ended
        os.close(ready)
        time.sleep(chance.uniform(0, whole.saving))
    else:
        at, done, part = iter(range(chance.randrange(whole.steps // 2), -1, -1)), chance.random() < 0.5, chance.random()
        watch = partial(watch_steps, lambda after, path: end_here(at, done, part, after, path))
        return finish(start(command, job, whole.processes, watch), job)
    os.kill(chance.choice(children), signal.SIGKILL)
    return finish(children, job)


def end_here(at: Iterator[int], done: bool, part: float, after: bool, path: object) -> None:
    """Kill this very process before or after the step that `at` counts down to; a file just written is cut short."""
    if after == done and next(at, 1) == 0:
        if isinstance(path, Path):
            os.truncate(path, int(part * path.stat().st_size))
        os.kill(os.getpid(), signal.SIGKILL)


def watch_steps(see: Callable[[bool, object], None]) -> None:
    """Have `see` called before (False) and after (True) everything that changes what is on the disk."""

    def watched(step: Callable[..., Any], writes: bool) -> Callable[..., Any]:
        def call(*arguments: Any, **keys: Any) -> Any:
            see(False, None)
            found = step(*arguments, **keys)
            see(True, arguments[1] if writes else None)
            return found

        return call

    for module, name in ((os, "fsync"), (os, "replace"), (checkpoint, "save_arrays"), (runfolder, "save_arrays")):
        setattr(module, name, watched(getattr(module, name), name == "save_arrays"))


def watch_saves(before: Callable[[], object], after: Callable[[], object]) -> None:
    """Have `before` and `after` called around every save of an epoch."""
    save = runfolder.RunFolder.save

    def watched(self: runfolder.RunFolder, made: Checkpoint, state: Any) -> None:
        before()
        save(self, made, state)
        after()

    setattr(runfolder.RunFolder, "save", watched)  # noqa: B010  (a method is replaced on purpose)


def nothing() -> None:
    """Nobody watches."""


def start(command: list[str], job: Path, processes: int, before: Hook = nothing, after: Hook = nothing) -> list[int]:
    """Processes that run the command, what each prints in a file beside the job; their ids.

    The hooks are called in the first one, which writes the run.
    """
    variables: dict[str, str] = {}
    if processes > 1:
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(place.getsockname()[1])}
        variables["WORLD_SIZE"] = variables["LOCAL_WORLD_SIZE"] = str(processes)
    children = []
    for rank in range(processes):
        own = {**variables, "RANK": str(rank), "LOCAL_RANK": str(rank)} if variables else {}
        hooks = (before, after) if rank == 0 else (nothing, nothing)
        children.append(_fork(command, job.parent, log_of(job, rank), own, *hooks))
    return children


def _fork(command: list[str], folder: Path, log: Path, variables: dict[str, str], before: Hook, after: Hook) -> int:
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        page = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        os.dup2(page, 1)
        os.dup2(page, 2)
        os.chdir(folder)
        os.environ.update(variables)
        random.seed(0)  # Python seeds it anew in a copy
        before()
        commands(command)
    except SystemExit as end:
        status = int(end.code or 0)
        after()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def finish(children: list[int], job: Path) -> bool:
    """Wait for the processes of a run; whether one was killed. Raises KillsError where they failed or hang.

    Where one was killed, the others have to end, too: with the message of a process that lost another one, finished, or
    told to by SIGTERM before they met.
    """
    deadline, alone, statuses = time.monotonic() + PATIENCE, 0.0, dict[int, int]()
    while len(statuses) < len(children):
        for child in children:
            if child not in statuses and (ended := os.waitpid(child, os.WNOHANG))[0]:
                statuses[child] = ended[1]
        if any(statuses.values()) and not alone:
            alone = time.monotonic()
        waiting = [child for child in children if child not in statuses]
        if waiting and alone and time.monotonic() > alone + ALONE:
            alone = deadline
            for child in waiting:
                os.kill(child, signal.SIGTERM)
        if waiting and time.monotonic() > deadline:
            for child in waiting:
                os.kill(child, signal.SIGKILL)
            raise KillsError(f"{job.name} hangs: {logs(job, len(children))}")
        time.sleep(0.002)
    found = [statuses[child] for child in children]
    was_killed = any(os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL for status in found)
    for rank, status in enumerate(found):
        if not (was_killed and ended_alone(status, log_of(job, rank))) and status:
            raise KillsError(f"{job.name}: process {rank} ended with {status}: {logs(job, len(children))}")
    return was_killed


def ended_alone(status: int, log: Path) -> bool:
    """Whether this is the end of a process that was killed, or of one that lost another one."""
    if os.WIFSIGNALED(status):
        return os.WTERMSIG(status) == signal.SIGKILL or (os.WTERMSIG(status) == signal.SIGTERM and before_they_met(log))
    text = log.read_text(encoding="utf-8")
    return os.WEXITSTATUS(status) == 2 and (" stopped, since " in text or " does not reach the others: " in text)


def before_they_met(log: Path) -> bool:
    """Whether a process waited for the others to begin, so that SIGTERM ended it at once."""
    return "Data: " not in log.read_text(encoding="utf-8")


def log_of(job: Path, rank: int) -> Path:
    """The file of what a process printed."""
    return job.with_suffix(f".log{rank}")


def logs(job: Path, processes: int) -> str:
    """What the processes of a run printed."""
    return "\n".join(f"[{rank}] {log_of(job, rank).read_text(encoding='utf-8')}" for rank in range(processes))


def damage(path: Path, chance: random.Random) -> None:
    """Cut a file short, or turn one of its bits."""
    size = path.stat().st_size
    if chance.random() < 0.5:
        os.truncate(path, chance.randrange(size))
        return
    content = bytearray(path.read_bytes())
    content[chance.randrange(size)] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def compare(run: Path, whole: Path) -> None:
    """Raise KillsError where two finished runs differ in a bit, the seconds they took aside."""
    for name in (MODEL, METRICS, JOB_COPY, runfolder.PLAN_TEXT):
        if (run / name).read_bytes() != (whole / name).read_bytes():
            raise KillsError(f"{run / name} is not what it is in a run in one go")
    one, other = (read_checkpoint(path / CHECKPOINT) for path in (run, whole))
    if (one.identity, one.progress.last) != (other.identity, other.progress.last):
        raise KillsError(f"{run / CHECKPOINT} tells of another epoch")
    nothing_learned = Packed(None, ())
    for mine, theirs in (
        (one.snapshot.optimizer, other.snapshot.optimizer),
        (one.snapshot.random, other.snapshot.random),
        (one.snapshot.learned or nothing_learned, other.snapshot.learned or nothing_learned),
    ):
        if mine.content != theirs.content or not same(mine.tensors, theirs.tensors):
            raise KillsError(f"{run / CHECKPOINT} has another optimizer, other random states or other multipliers")
    names = list(one.snapshot.network)
    if names != list(other.snapshot.network) or not same(
        [one.snapshot.network[name] for name in names], [other.snapshot.network[name] for name in names]
    ):
        raise KillsError(f"{run / CHECKPOINT} has another network")


def same(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Whether these tensors have the same bits."""
    return len(ours) == len(theirs) and all(
        mine.dtype == other.dtype and mine.shape == other.shape and bits(mine).equal(bits(other))
        for mine, other in zip(ours, theirs, strict=True)
    )


if __name__ == "__main__":
    main()
