"""Running a case: the error as it reached the user, and every site that had a part in it."""

from __future__ import annotations

import sys
import traceback
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

from affinet.errors import AffinetError
from tests.errors.case import Case
from tests.errors.sites import PACKAGE, Span

Hit = tuple[str, Span]


@dataclass(frozen=True)
class Outcome:
    """What a case met: the class, the message as shown, the sites passed, and what is wrong with how it is shown."""

    kind: type[BaseException] | None
    message: str
    hits: frozenset[Hit]
    blemish: str = ""


@cache
def outcome(case: Case) -> Outcome:
    """Run the case in a folder of its own, and keep what came of it."""
    torch.manual_seed(0)
    with TemporaryDirectory() as name, recorded() as hits:
        folder = Path(name).resolve()
        return _warned(case, folder, hits) if issubclass(case.kind, Warning) else _raised(case, folder, hits)


def _raised(case: Case, folder: Path, hits: set[Hit]) -> Outcome:
    try:
        case.run(folder)
    except Exception as error:  # noqa: BLE001  (whatever it is, the test says what it should have been)
        for each in _chain(error):
            hits |= {_place(frame.f_code, tb.tb_lasti) for tb in _entries(each) for frame in [tb.tb_frame]}
        return Outcome(type(error), case.shown(str(error), folder), frozenset(hits), _blemish(error))
    return Outcome(None, "", frozenset(hits))


def _warned(case: Case, folder: Path, hits: set[Hit]) -> Outcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        case.run(folder)
    if not caught:
        return Outcome(None, "", frozenset(hits))
    first = caught[0]
    inside = first.filename.startswith(str(PACKAGE))
    blemish = f"it points at {first.filename}:{first.lineno}, not at the caller's line" if inside else ""
    return Outcome(first.category, case.shown(str(first.message), folder), frozenset(hits), blemish)


@contextmanager
def recorded() -> Iterator[set[Hit]]:
    """The places that make an error or warn while this is open, which no traceback shows."""
    hits: set[Hit] = set()
    warn: Callable[..., None] = warnings.warn

    def make(kind: Any, *args: Any, **options: Any) -> Any:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename == str(PACKAGE / "errors.py"):
            frame = frame.f_back
        if frame is not None:
            hits.add(_place(frame.f_code, frame.f_lasti))
        return super(AffinetError, kind).__new__(kind, *args, **options)

    def warned(*args: Any, stacklevel: int = 1, **options: Any) -> None:
        frame = sys._getframe(1)
        hits.add(_place(frame.f_code, frame.f_lasti))
        warn(*args, stacklevel=stacklevel + 1, **options)

    AffinetError.__new__ = make  # type: ignore[method-assign]
    warnings.warn = warned  # type: ignore[assignment]
    try:
        yield hits
    finally:
        del AffinetError.__new__
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


def _place(code: CodeType, instruction: int) -> Hit:
    """The file below the package, and where in it the instruction stands."""
    first, last, start, end = list(code.co_positions())[instruction // 2]
    path = Path(code.co_filename)
    inside = str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else ""
    return inside, (first or 0, last, start or 0, end)


def _blemish(error: BaseException) -> str:
    """An error that is shown below another that nobody meant to show is hard to read."""
    for each in _chain(error):
        if each.__cause__ is None and each.__context__ is not None and not each.__suppress_context__:
            return f"{type(each).__name__} is shown 'during handling of' {traceback.format_exception_only(each.__context__)[-1]}"
        if each.__suppress_context__ and each.__cause__ is None:
            return ""
    return ""
