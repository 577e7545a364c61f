"""All cases by what the user was doing, and the page made from them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from affinet import errors
from affinet.cli.commands import CONTRADICTION, INTERRUPTED, WRONG
from tests.errors import (
    attaching,
    constants,
    damaged_plans,
    data_files,
    explaining,
    expressions,
    families,
    groups_and_matrices,
    job_files,
    matrix_files,
    naming_weights,
    optimizers,
    plan_files,
    planning,
    reparametrizing,
    resumed_runs,
    runs,
    shapes,
    steps,
    texts,
    watching,
)
from tests.errors.case import Case, cases_of
from tests.errors.running import outcome

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROOMS: tuple[tuple[ModuleType, ...], ...] = (
    (naming_weights,),
    (constants,),
    (expressions,),
    (shapes,),
    (texts,),
    (families,),
    (groups_and_matrices,),
    (planning,),
    (explaining,),
    (plan_files, damaged_plans),
    (attaching,),
    (optimizers,),
    (steps,),
    (watching,),
    (reparametrizing,),
    (job_files,),
    (data_files,),
    (matrix_files,),
    (runs,),
    (resumed_runs,),
)
CASES = [case for room in ROOMS for module in room for case in cases_of(module)]

OPENING = f"""\
# Errors

Every error that affinet raises on purpose says the fact, the values and the way out, and is an `affinet.AffinetError`;
most are also the error of Python that they resemble, so that `except ValueError` catches what it should. This page
shows each once, as a small example met it; names, numbers and shapes will be yours. Look for the words that stay.

On the command line an error is one paragraph on standard error, and the exit status is {WRONG}; contradictory rules
end `affinet check` with {CONTRADICTION}, and Ctrl-C ends a training with {INTERRUPTED}. Warnings change no status.

This page is written by `python -m tests.errors`: a test holds that it shows what is raised, and that no place in the
code raises anything else.
"""


def page() -> str:
    """The catalogue: the classes, and for everything that a user does the messages, each with cause and way out."""
    return "\n".join([OPENING, *_classes(), *(line for room in ROOMS for line in _room(room))])


def _classes() -> Iterator[str]:
    yield "## The classes\n"
    yield "| class | means | is also |\n|---|---|---|"
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, Exception) and kind is not errors.AffinetError:
            also = [base.__name__ for base in kind.__mro__[1:] if base.__module__ == "builtins"]
            also = [name for name in also if name not in ("Exception", "BaseException", "object", "Warning")]
            yield f"| `{name}` | {inspect.cleandoc(kind.__doc__ or '').splitlines()[0]} | {_listed(also)} |"
    yield ""


def _room(room: tuple[ModuleType, ...]) -> Iterator[str]:
    title, _, about = inspect.cleandoc(room[0].__doc__ or "").partition(": ")
    yield f"## {title.rstrip('.')}\n"
    if about:
        yield f"{about[0].upper()}{about[1:]}\n"
    yield "| message | cause | way out |\n|---|---|---|"
    for module in room:
        for case in cases_of(module):
            if not case.fragment:
                yield f"| {_message(case)} | {case.cause} | {case.way_out} |"
    yield ""


def _message(case: Case) -> str:
    """The error as Python prints it, a code span a line; of a mistake in a text the line without the mark below it."""
    lines = outcome(case).message.split("\n    ")[:1] if case.kind is errors.ParseError else None
    lines = [line.strip() for line in lines or outcome(case).message.splitlines()]
    return "<br>".join(_code(line) for line in [f"{case.kind.__name__}: {lines[0]}", *lines[1:]])


def _code(line: str) -> str:
    fence = "``" if "`" in line else "`"
    inside = line.replace("|", "\\|")
    return f"{fence} {inside} {fence}" if "`" in line else f"{fence}{inside}{fence}"


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
