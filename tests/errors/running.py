"""Running a case: the error as it reached the user, and every site that had a part in it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import CodeType, FrameType
from typing import Any

import torch

from affinet import errors
from affinet.analysis.diagnosis.subsets import _SpentError
from affinet.errors import AffinetError
from affinet.planning.contradiction import Contradiction
from tests.errors.case import Case
from tests.errors.sites import PACKAGE, Site, Span, site_around, site_at

WARNINGS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Warning)]
WATCHED: tuple[Any, ...] = (
    AffinetError,
    Contradiction,
    _SpentError,
    *(kind for kind in WARNINGS if "__init__" in vars(kind)),
)
"""Classes whose making is recorded: it may be far from where they are raised or warned of."""


@dataclass(frozen=True)
class Outcome:
    """What a case met: the class, the message as shown, the sites passed, and what is wrong with how it is shown."""

    kind: type[BaseException] | None
    message: str
    sites: frozenset[Site]
    blemish: str = ""


@cache
def outcome(case: Case) -> Outcome:
    """Run the case in a folder of its own, and keep what came of it."""
    torch.manual_seed(0)
    with TemporaryDirectory() as name, recorded() as found:
        folder = Path(name).resolve()
        return _warned(case, folder, found) if issubclass(case.kind, Warning) else _raised(case, folder, found)


def _raised(case: Case, folder: Path, found: set[Site]) -> Outcome:
    try:
        case.run(folder)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  (the test says what it should have been)
        for each in _chain(error):
            found |= {site for entry in _entries(each) if (site := _raised_at(entry)) is not None}
        return Outcome(type(error), case.shown(str(error), folder), frozenset(found), _blemish(error))
    return Outcome(None, "", frozenset(found))


def _warned(case: Case, folder: Path, found: set[Site]) -> Outcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        case.run(folder)
    if not caught:
        return Outcome(None, "", frozenset(found))
    first = caught[0]
    inside = first.filename.startswith(str(PACKAGE))
    blemish = f"it points at {first.filename}:{first.lineno}, not at the caller's line" if inside else ""
    return Outcome(first.category, case.shown(str(first.message), folder), frozenset(found), blemish)


@contextmanager
def recorded() -> Iterator[set[Site]]:
    """The places that make an error or warn while this is open, which no traceback shows."""
    found: set[Site] = set()
    warn: Callable[..., None] = warnings.warn

    def watched(original: Callable[..., None]) -> Callable[..., None]:
        def make(error: Any, *args: Any, **options: Any) -> None:
            frame: FrameType | None = sys._getframe(1)
            while frame is not None and frame.f_code.co_filename == str(PACKAGE / "errors.py"):
                frame = frame.f_back
            site = None if frame is None else site_around(*_place(frame.f_code, frame.f_lasti))
            if site is not None:
                found.add(site)
            original(error, *args, **options)

        return make

    def warned(*args: Any, stacklevel: int = 1, **options: Any) -> None:
        frame = sys._getframe(1)
        site = site_at(*_place(frame.f_code, frame.f_lasti))
        if site is not None:
            found.add(site)
        warn(*args, stacklevel=stacklevel + 1, **options)

    before = [each.__init__ for each in WATCHED]
    for each in WATCHED:
        each.__init__ = watched(each.__init__)
    warnings.warn = warned  # type: ignore[assignment]
    try:
        yield found
    finally:
        for each, original in zip(WATCHED, before, strict=True):
            each.__init__ = original
        warnings.warn = warn


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that led to it, hidden by `from None` or not."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def _entries(error: BaseException) -> Iterator[Any]:
    entry = error.__traceback__
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _raised_at(entry: Any) -> Site | None:
    return site_at(*_place(entry.tb_frame.f_code, entry.tb_lasti))


def _place(code: CodeType, instruction: int) -> tuple[str, Span]:
    """The file, and where in it the instruction stands."""
    first, last, start, end = list(code.co_positions())[instruction // 2]
    return code.co_filename, (first or 0, last, start or 0, end)


def _blemish(error: BaseException) -> str:
    """An error that is shown below another that nobody meant to show is hard to read."""
    for each in _chain(error):
        if each.__cause__ is None and each.__context__ is not None and not each.__suppress_context__:
            return f"{type(each).__name__} is shown 'during handling of' {each.__context__!r}"
        if each.__suppress_context__ and each.__cause__ is None:
            return ""
    return ""
