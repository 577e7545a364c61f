"""What a case of the catalogue is: a call that goes wrong, the error it meets, the cause, and the way out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType


@dataclass(frozen=True)
class Case:
    """A call that a user could make and that affinet refuses, or warns of.

    `provoke` takes a folder where it needs one. `cause` and `way_out` are one sentence each. What matches `foreign` in
    the message comes from another library or depends on the machine and is shown as `…`. Several cases with one cause
    name a `fragment` that their message contains.
    """

    name: str
    kind: type[BaseException]
    cause: str
    way_out: str
    provoke: Callable[..., object]
    foreign: str = ""
    fragment: str = ""

    def __str__(self) -> str:
        return self.name.replace("_", "-")

    def shown(self, message: str, folder: Path) -> str:
        """The message without the folder of this run, foreign words as `…`."""
        message = message.replace(f"{folder}/", "").replace(str(folder), "RUN")
        return re.sub(self.foreign, "…", message, flags=re.DOTALL) if self.foreign else message

    def run(self, folder: Path) -> None:
        """Make the call."""
        if inspect.signature(self.provoke).parameters:
            self.provoke(folder)
        else:
            self.provoke()


def case(
    kind: type[BaseException], cause: str, way_out: str, *, foreign: str = "", fragment: str = ""
) -> Callable[[Callable[..., object]], Case]:
    """Make a function a case, of the function's name."""
    return lambda provoke: Case(provoke.__name__, kind, cause, way_out, provoke, foreign, fragment)


def cases_of(module: ModuleType) -> list[Case]:
    """The cases of a file, in the order in which they are written."""
    listed = [each if isinstance(each, list) else [each] for each in vars(module).values()]
    return [each for several in listed for each in several if isinstance(each, Case)]
