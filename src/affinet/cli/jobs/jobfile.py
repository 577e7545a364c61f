"""Reading a job file: from its text to a checked `Job`, every mistake with its key and its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from affinet.cli.jobs.conflicts import conflicts
from affinet.cli.jobs.job import Job
from affinet.cli.jobs.locate import KeyPath, line_of, lines_of_keys
from affinet.cli.jobs.mistakes import Mistake, mistakes
from affinet.cli.words import one_paragraph
from affinet.errors import JobError
from affinet.system.files import MISSING, unreadable

LONGEST = 2**20
"""Bytes of a job file."""

DEEPEST = 20
"""Lists and tables inside each other."""

MOST_PARTS = 1_000
"""Parts of a dotted key; the time in which `tomllib` reads one grows with the square of them."""

TOKEN = re.compile(r"""(?P<part>[\w-]++|"[^"\n]*+"|'[^'\n]*+')|(?P<dot>[ \t]*+\.[ \t]*+)|(?P<other>[ \t]++|.|\n)""")

MOST_SHOWN = 20
"""Mistakes that one error lists."""


@dataclass(frozen=True)
class JobFile:
    """A job and the file that said it, so that whatever goes wrong later can still name the key and the line."""

    path: Path
    text: str
    job: Job

    @property
    def folder(self) -> Path:
        """The folder that the paths in the job are relative to."""
        return self.path.parent

    def mistake(self, key: KeyPath, fact: str) -> JobError:
        """The error that says `fact` about the key at `key`."""
        return JobError(_located(self.path.name, lines_of_keys(self.text), Mistake(key, fact)))


def read_job(path: Path) -> JobFile:
    """The job that `path` says.

    Raises JobError where the file is missing, is no TOML, or says something that no job can say.
    """
    return parse_job(path, _read(path))


def parse_job(path: Path, text: str) -> JobFile:
    """The job that `text`, the content of `path`, says. Raises JobError listing every mistake in it."""
    too_deep = f"{path.name} is not a job: its lists or tables are nested more than {DEEPEST} deep."
    if _has_long_key(text):
        raise JobError(too_deep)
    try:
        content = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and integers that Python reads no digits of
        raise JobError(f"{path.name} is not a TOML file: {one_paragraph(error)}.") from None
    except RecursionError:
        raise JobError(too_deep) from None
    _refuse_odd(path, content)
    try:
        job = Job.model_validate(content)
    except ValidationError as error:
        found = mistakes(error)
    else:
        found = list(conflicts(job))
        if not found:
            return JobFile(path, text, job)
    raise JobError(_listed(path.name, lines_of_keys(text), found))


def refuse_code(job: JobFile) -> None:
    """Raise JobError where `job` names a factory, the one key that runs code of its own."""
    if job.job.model.factory is not None:
        module, _, function = job.job.model.factory.partition(":")
        raise job.mistake(
            ("model", "factory"),
            f"the job would import the Python module {module!r} and call its {function!r}, which --no-code refuses. "
            f"Say the sizes of a network, hidden = [64], or leave out --no-code where you trust that module.",
        )


def _refuse_odd(path: Path, content: object) -> None:
    """Raise JobError for values that no job holds: they would be too deep or too long to speak about."""
    waiting = [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST:
            raise JobError(f"{path.name} is not a job: its lists or tables are nested more than {DEEPEST} deep.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise JobError(f"{path.name} is not a job: it holds an integer of more than 64 bits.")
        if isinstance(value, dict | list):
            waiting += [(inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value)]


def _has_long_key(text: str) -> bool:
    if text.count(".") < MOST_PARTS:
        return False
    parts = 0
    for token in TOKEN.finditer(text):
        parts = 0 if token.lastgroup == "other" else parts + (token.lastgroup == "part")
        if parts > MOST_PARTS:
            return True
    return False


def _read(path: Path) -> str:
    reason = unreadable(path, LONGEST)
    if reason and reason != MISSING:
        raise JobError(f"the job file {path} {reason}. Give the path of a .toml file.")
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise JobError(
            f"there is no job file {path}. Give the path of a .toml file; `affinet demo` shows one."
        ) from None
    except OSError as error:
        raise JobError(f"the job file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise JobError(f"{path.name} is not a TOML file: byte {error.start} is not UTF-8. Save it as UTF-8.") from None


def _listed(name: str, lines: Mapping[KeyPath, int], found: Sequence[Mistake]) -> str:
    """The mistakes in the order of their lines."""
    sentences = [_located(name, lines, mistake) for mistake in sorted(found, key=lambda m: line_of(lines, m.key) or 0)]
    left = len(sentences) - MOST_SHOWN
    return "\n".join(sentences[:MOST_SHOWN] + ([f"… and {left:,} more mistakes"] if left > 0 else []))


def _located(name: str, lines: Mapping[KeyPath, int], mistake: Mistake) -> str:
    line = line_of(lines, mistake.key)
    return f"{name}, line {line}: {mistake.fact}" if line else f"{name}: {mistake.fact}"
