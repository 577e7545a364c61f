"""What became of one input: read, refused as documented, or a finding."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from affinet.errors import AffinetError, ParseError
from tests.fuzz.target import Target

SECONDS = 10.0
"""Of the processor's time, that one input may take."""

MEMORY = 2**30
"""Bytes that one input may take, on top of what the process held before."""


class Hung(BaseException):
    """An input took too long. No Exception, so that no reader takes it for one of its own."""


@dataclass(frozen=True)
class Finding:
    """An input that went wrong: in one line, where (the same for inputs that go wrong alike), and at length."""

    fact: str
    place: str
    details: str

    def __str__(self) -> str:
        return f"{self.fact}: {self.place}"


def judge(target: Target, path: Path, peak: int) -> Finding | None:
    """Read `path` as the target does; None where it was read or refused. `peak` is how high memory may go."""
    try:
        with _timed():
            target.read(path)
    except target.refusals as error:
        if _out_of_memory(error):
            return _finding("asked for more memory than the limit, and was refused", error)
    except MemoryError as error:
        return _finding("ran out of memory", error)
    except Hung as error:
        return _finding(f"took more than {SECONDS:g} seconds", error)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001  the panics of Rust are no Exception
        return _finding(f"raised {type(error).__name__}", error)
    if peak_memory() > peak:
        return Finding(f"took more than {MEMORY >> 20} MB", "memory", "No traceback: memory is looked at afterwards.")
    return None


def peak_memory() -> int:
    """The most bytes that the process, or a child of it that has ended, has held at once."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(kind).ru_maxrss for kind in kinds) * (1 if sys.platform == "darwin" else 1024)


def processor_time() -> float:
    """Seconds of the processor that the process has taken, and its children that have ended."""
    return sum(os.times()[:4])


@contextlib.contextmanager
def _timed() -> Iterator[None]:
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Hung


def _out_of_memory(error: BaseException) -> bool:
    """Whether a request for memory failed on the way; Python's parser says so of text that is nested too deep."""
    if isinstance(error, ParseError):
        return False
    chain: BaseException | None = error
    while chain is not None:
        if isinstance(chain, MemoryError) and not isinstance(chain, AffinetError):
            return True
        chain = chain.__cause__ or chain.__context__
    return False


def _finding(fact: str, error: BaseException) -> Finding:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    ours = [frame for frame in frames if "/affinet/" in frame.filename] or frames
    place = f"{type(error).__name__} at {Path(ours[-1].filename).name}:{ours[-1].lineno}"
    return Finding(fact, place, "".join(traceback.format_exception(error, limit=-30)))
