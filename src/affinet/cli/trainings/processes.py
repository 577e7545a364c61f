"""Say what a training asks of the processes that share it; for a job of one process all of it is nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from affinet.errors import RunError

T = TypeVar("T")

WRITER = 0
"""The process that alone writes the folder of a run, and alone prints."""


class LostProcess(RunError):
    """Another process of the run failed, was killed, or does not answer."""


class AlreadyReported(Exception):
    """A failure that another process prints, because it fails alike."""


class Processes(Protocol):
    """The processes that train one network together, seen from one of them. All of them call the same verbs."""

    @property
    def world(self) -> int:
        """How many there are."""

    @property
    def writes(self) -> bool:
        """Whether this is the process that writes the run."""

    @property
    def command(self) -> str:
        """What starts as many processes of affinet."""

    def from_writer(self, read: Callable[[], T]) -> T:
        """What `read` returns in the process that writes the run; it is called there alone."""

    def agree(self, value: str, subject: str) -> None:
        """Raise RunError where `value`, which describes `subject`, differs between processes."""

    def place(self, network: Any) -> None:
        """Give a new network the first weights of the writer; split it where each process holds a part of it."""

    def synchronized(self, network: Any) -> Any:
        """What steps call instead of `network`: its backward pass leaves the mean of the processes' gradients."""

    def rows(self, batch: Any) -> Any:
        """The rows of a batch that this process computes with: at least one."""

    def weighted(self, loss: Any, batch: Any) -> Any:
        """The mean loss of these rows times a weight: the mean over the processes is the mean over the batch."""

    def mean(self, loss: Any) -> Any:
        """The mean of weighted losses over the processes, without derivatives."""

    def all_true(self, value: bool) -> bool:
        """Whether `value` is true in every process."""

    def vary_random_numbers(self, shuffling: Any) -> None:
        """Let each process draw other random numbers in the next epoch; they follow from the state of `shuffling`."""

    def check_buffers(self, network: Any) -> None:
        """Raise RunError where buffers of the network differ between processes, which have seen other rows."""

    def guarded(self) -> AbstractContextManager[None]:
        """Raise LostProcess for errors inside the block that come from the end of another process."""


@dataclass(frozen=True)
class SingleProcess:
    """A job in one process, as `Processes` describes it."""

    writes: bool = True
    world: int = 1
    command: str = "affinet"

    def from_writer(self, read: Callable[[], T]) -> T:
        """What `read` returns."""
        return read()

    def agree(self, value: str, subject: str) -> None:
        """One process agrees with itself."""

    def place(self, network: Any) -> None:
        """The network stays as it is."""

    def synchronized(self, network: Any) -> Any:
        """The network itself."""
        return network

    def rows(self, batch: Any) -> Any:
        """The whole batch."""
        return batch

    def weighted(self, loss: Any, batch: Any) -> Any:
        """The loss itself."""
        return loss

    def mean(self, loss: Any) -> Any:
        """The loss itself."""
        return loss

    def all_true(self, value: bool) -> bool:
        """The value itself."""
        return value

    def vary_random_numbers(self, shuffling: Any) -> None:
        """Random numbers go on."""

    def check_buffers(self, network: Any) -> None:
        """There is nothing to compare with."""

    def guarded(self) -> AbstractContextManager[None]:
        """Errors stay as they are."""
        return nullcontext()


SINGLE = SingleProcess()
