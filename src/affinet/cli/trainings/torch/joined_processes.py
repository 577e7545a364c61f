"""Train one network in several processes with torch.distributed: copies of all weights, or parts of them."""

from __future__ import annotations

import hashlib
import random
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, assert_never

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel

from affinet.cli.trainings.processes import WRITER, LostProcess
from affinet.cli.trainings.torch.process_failures import Failures, connection_error
from affinet.cli.trainings.torch.tensor_files import bits
from affinet.cli.words import listed
from affinet.errors import RunError

T = TypeVar("T")
Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class JoinedProcesses:
    """The processes of the default group of torch.distributed, as `Processes` describes them.

    With "ddp" each of them has all weights, with "fsdp" a part of each. With `idle_parameters` a loss may leave some of
    them without a gradient. `minutes` is how long processes wait for each other.
    """

    rank: int
    world: int
    command: str
    parallel: Parallel
    idle_parameters: bool
    device: torch.device
    failures: Failures
    minutes: float

    @property
    def writes(self) -> bool:
        """As `Processes.writes`."""
        return self.rank == WRITER

    def from_writer(self, read: Callable[[], T]) -> T:
        """As `Processes.from_writer`."""
        values: list[Any] = [read() if self.writes else None]
        dist.broadcast_object_list(values, src=WRITER)
        value: T = values[0]
        return value

    def agree(self, value: str, subject: str) -> None:
        """As `Processes.agree`."""
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        for rank, other in enumerate(values):
            if other != values[WRITER]:
                raise RunError(
                    f"process {rank} has {subject} that differ from those of process {WRITER}. Give every machine the "
                    f"same files and the same versions of packages."
                )

    def place(self, network: nn.Module) -> None:
        """As `Processes.place`."""
        network.to(self.device)
        with torch.no_grad():
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor.detach(), src=WRITER)
        if self.parallel == "fsdp":
            _shard(network, self.device, self.world)

    def synchronized(self, network: nn.Module) -> nn.Module:
        """As `Processes.synchronized`."""
        match self.parallel:
            case "ddp":
                with warnings.catch_warnings():
                    # From torch 2.14 on buffers have an option of another name, which earlier versions do not know.
                    warnings.filterwarnings("ignore", message=".*broadcast_buffers")
                    return DistributedDataParallel(
                        network, broadcast_buffers=False, find_unused_parameters=self.idle_parameters
                    )
            case "fsdp":
                return network
            case _:
                assert_never(self.parallel)

    def rows(self, batch: Tensor) -> Tensor:
        """As `Processes.rows`: where a batch has fewer rows than there are processes, its first one with weight 0."""
        part = self._part(batch)
        return part if len(part) else batch[:1]

    def weighted(self, loss: Tensor, batch: Tensor) -> Tensor:
        """As `Processes.weighted`."""
        return loss * (len(self._part(batch)) * self.world / len(batch))

    def mean(self, loss: Tensor) -> Tensor:
        """As `Processes.mean`."""
        total = loss.detach().clone()
        dist.all_reduce(total)
        return total / self.world

    def all_true(self, value: bool) -> bool:
        """As `Processes.all_true`."""
        least = torch.tensor(int(value), device=self.device)
        dist.all_reduce(least, op=dist.ReduceOp.MIN)
        return bool(least)

    def vary_random_numbers(self, shuffling: torch.Generator) -> None:
        """As `Processes.vary_random_numbers`: the writer draws what a single process draws, and checkpoints keep that.

        The others begin each epoch anew, so that a run goes on to the same bits without their states.
        """
        if not self.writes:
            digest = hashlib.sha256(shuffling.get_state().numpy().tobytes() + str(self.rank).encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:8], "little"))
            np.random.seed(int.from_bytes(digest[8:12], "little"))  # noqa: NPY002  (networks may use the global one)
            random.seed(digest)

    def check_buffers(self, network: nn.Module) -> None:
        """As `Processes.check_buffers`."""
        digests = {
            name: hashlib.sha256(bits(buffer).numpy().tobytes()).hexdigest() for name, buffer in network.named_buffers()
        }
        digests_by_rank: list[Any] = [None] * self.world
        dist.all_gather_object(digests_by_rank, digests)
        of_writer = digests_by_rank[WRITER]
        names = sorted({name for table in digests_by_rank for name in table if table[name] != of_writer.get(name)})
        if names:
            raise RunError(
                f"buffers of the network differ between processes, which have seen other rows: {listed(names, 4)}. "
                f"Take layers whose buffers do not depend on rows or on random numbers, or train in one process."
            )

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """As `Processes.guarded`."""
        try:
            yield
        except LostProcess:
            raise
        except Exception as error:
            detail = connection_error(error)
            if not detail:
                raise
            ended = "since another one ended without a message (killed, or out of memory)"
            raise self.lost(f"{ended}, or did not answer for {self.minutes:g} minutes ({detail})") from error

    def lost(self, reason: str) -> LostProcess:
        """The error of this process where another one is gone. Signals to end are ignored from now on."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        reported = self.failures.reported()
        cause = f"since {reported}" if reported else f"{reason}."
        return LostProcess(f"process {self.rank} of {self.world} stopped, {cause}")

    def _part(self, batch: Tensor) -> Tensor:
        return batch.tensor_split(self.world)[self.rank]


def _shard(network: nn.Module, device: torch.device, world: int) -> None:
    """Split every parameter of `network` over the processes, in place.

    The parts of a Sequential or a ModuleList are gathered one after the other, everything else at once: a parameter can
    be used outside of the module that has it.
    """
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise RunError(
            f'parallel = "fsdp" needs torch 2.6 or newer, and this is {torch.__version__}. Say parallel = "ddp".'
        ) from None
    mesh = init_device_mesh(device.type, (world,))
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential | nn.ModuleList):
            for part in module:
                if not isinstance(part, nn.Sequential | nn.ModuleList) and any(True for _ in part.parameters()):
                    fully_shard(part, mesh=mesh)
    # By default the outermost module stays whole after a forward pass without a backward one: its names then hold
    # tensors whose memory is freed later.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
