"""Read from the environment which of the processes that `torchrun` started this one is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from affinet.errors import RunError


@dataclass(frozen=True)
class Launch:
    """This process among those that `torchrun` started: its number, how many there are, and the same on its machine."""

    rank: int
    world: int
    local_rank: int
    local_world: int

    @property
    def command(self) -> str:
        """What starts as many processes of affinet."""
        place = f"--nproc-per-node {self.local_world}" if self.world == self.local_world else "…"
        return f"torchrun {place} -m affinet"


def launch_of(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """The launch that the variables of `torchrun` describe; None where a process was started by itself.

    Raises RunError for variables that are not those of `torchrun`.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    texts = [environment.get(name, environment[name.removeprefix("LOCAL_")]) for name in names]
    if not all(text.isdecimal() for text in texts) or int(texts[0]) >= int(texts[1]):
        shown = ", ".join(f"{name}={text!r}" for name, text in zip(names, texts, strict=True))
        raise RunError(f"the environment does not describe a launch of torchrun: {shown}. Start the job with torchrun.")
    return Launch(*map(int, texts))
