"""Tell the processes of a run why one of them failed, through the store by which they found each other.

A process whose peer has ended sees closed connections alone. What is written here lets it say why.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from affinet.cli.trainings.processes import WRITER
from affinet.cli.words import one_paragraph

OF_WRITER, OF_ANOTHER = "failure of the writer", "failure"
"""Keys of the store."""

GRACE = timedelta(seconds=2)
"""How long a process that fails waits for the writer to fail alike, which then speaks for both."""

CONNECTION = re.compile("gloo|NCCL")
"""In messages of errors where a process is gone: gloo raises RuntimeError, which names a file of its own."""


@dataclass(frozen=True)
class Failures:
    """The failures of the processes of a run; `store` is None without a launcher, and may vanish with it."""

    store: Any
    rank: int

    def report(self, text: str) -> None:
        """Write the failure of this process; nothing happens where the store is gone."""
        if self.store is not None:
            with suppress(RuntimeError):
                self.store.set(OF_WRITER if self.rank == WRITER else OF_ANOTHER, f"process {self.rank} failed: {text}")

    def reported(self) -> str:
        """What a process has written, or an empty text."""
        for key in (OF_WRITER, OF_ANOTHER):
            with suppress(RuntimeError):
                if self.store is not None and self.store.check([key]):
                    return str(self.store.get(key), encoding="utf-8")
        return ""

    def writer_failed(self) -> bool:
        """Whether the writer fails, too, after some patience: then it prints what both would print."""
        if self.store is None:
            return False
        try:
            self.store.wait([OF_WRITER], GRACE)
        except RuntimeError:
            return False
        return True


def connection_error(error: BaseException | None) -> str:
    """What torch.distributed reports of a process that is gone, as the cause of an error; else an empty text."""
    while error is not None:
        if isinstance(error, dist.DistError) or (type(error) is RuntimeError and CONNECTION.search(str(error))):
            # Gloo begins with the line of its source, and ends with advice.
            return one_paragraph(error).partition("] ")[2].partition(". This is ")[0] or one_paragraph(error)
        error = error.__cause__ or error.__context__
    return ""
