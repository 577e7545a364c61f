"""Read a job file into a checked `Job`; every mistake is reported with its key and its line."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from affinet.cli.jobs.conflicts import conflicts
from affinet.cli.jobs.job import Job
from affinet.cli.jobs.locate import KeyPath, line_of, lines_of_keys, repeated_rule
from affinet.cli.jobs.mistakes import Mistake, mistakes
from affinet.cli.words import one_paragraph
from affinet.errors import JobError
from affinet.system.files import MISSING, unreadable

LONGEST = 2**20
"""Most bytes of a job file."""

DEEPEST = 20
"""Most levels of lists and tables inside each other."""

MOST_PARTS = 1_000
"""Most parts of a dotted key: the time in which `tomllib` reads a key grows with the square of its parts."""

TOKEN = re.compile(r"""(?P<part>[\w-]++|"[^"\n]*+"|'[^'\n]*+')|(?P<dot>[ \t]*+\.[ \t]*+)|(?P<other>[ \t]++|.|\n)""")

MOST_SHOWN = 20
"""Most mistakes that one error lists."""


@dataclass(frozen=True)
class JobFile:
    """A job and the text of its file, so that later errors can still name the key and the line."""

    path: Path
    text: str
    job: Job

    @property
    def folder(self) -> Path:
        """The folder that the paths in the job are relative to."""
        return self.path.parent

    def mistake(self, key: KeyPath, fact: str) -> JobError:
        """The error that reports `fact` about the key at the path `key`."""
        return JobError(_with_line(self.path.name, lines_of_keys(self.text), Mistake(key, fact)))


def read_job(path: Path) -> JobFile:
    """The job in the file `path`.

    Raises JobError where the file is missing, is not TOML, or is not a valid job.
    """
    return parse_job(path, _read_text(path))


def parse_job(path: Path, text: str) -> JobFile:
    """The job in `text`, the content of `path`. Raises JobError, which lists all mistakes."""
    too_deep = f"{path.name} is not a job: its lists or tables are nested more than {DEEPEST} deep."
    if _has_long_key(text):
        raise JobError(too_deep)
    try:
        content = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or an integer with more digits than Python reads
        if "overwrite" in str(error):
            _refuse_repeated_rule(path, text)
        raise JobError(f"{path.name} is not a TOML file: {one_paragraph(error)}.{_quotes_hint(text, error)}") from None
    except RecursionError:
        raise JobError(too_deep) from None
    _refuse_deep_or_large(path, content)
    try:
        job = Job.model_validate(content)
    except ValidationError as error:
        job_mistakes = mistakes(error)
    else:
        job_mistakes = list(conflicts(job))
        if not job_mistakes:
            return JobFile(path, text, job)
    raise JobError(_list_of_mistakes(path.name, lines_of_keys(text), job_mistakes))


def refuse_code(job: JobFile) -> None:
    """Raise JobError where `job` names a factory, the only key that runs code of the user."""
    if job.job.model.factory is not None:
        module, _, function = job.job.model.factory.partition(":")
        raise job.mistake(
            ("model", "factory"),
            f"the job would import the Python module {module!r} and call its {function!r}, which --no-code refuses. "
            f"Write the sizes of a network, hidden = [64], or leave out --no-code if you trust that module.",
        )


def _refuse_deep_or_large(path: Path, content: object) -> None:
    """Raise JobError for values that are nested too deeply, or too large to be shown in an error."""
    pending = [(content, 0)]
    while pending:
        value, depth = pending.pop()
        if depth > DEEPEST:
            raise JobError(f"{path.name} is not a job: its lists or tables are nested more than {DEEPEST} deep.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise JobError(f"{path.name} is not a job: it holds an integer of more than 64 bits.")
        if isinstance(value, dict | list):
            pending += [(item, depth + 1) for item in (value.values() if isinstance(value, dict) else value)]


def _refuse_repeated_rule(path: Path, text: str) -> None:
    if (repeated := repeated_rule(text)) is None:
        return
    name, first_line, line = repeated
    raise JobError(
        f"{path.name}, line {line}: two rules have the name {name!r:.60}, the first in line {first_line}; give one of "
        f"them another name."
    ) from None


def _quotes_hint(text: str, error: ValueError) -> str:
    """What a line of [rules] looks like, where the error is in one."""
    place = re.search(r"\(at line (\d+), ", str(error))
    tables = [line for line in text.splitlines()[: int(place[1]) if place else 0] if line.startswith("[")]
    return ' A line of [rules] is "name" = "rule", both in quotation marks.' if tables[-1:] == ["[rules]"] else ""


def _has_long_key(text: str) -> bool:
    if text.count(".") < MOST_PARTS:
        return False
    parts = 0
    for token in TOKEN.finditer(text):
        parts = 0 if token.lastgroup == "other" else parts + (token.lastgroup == "part")
        if parts > MOST_PARTS:
            return True
    return False


def _read_text(path: Path) -> str:
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


def _list_of_mistakes(name: str, lines: Mapping[KeyPath, int], job_mistakes: Sequence[Mistake]) -> str:
    """The mistakes as text, in the order of their lines."""
    sentences = [
        _with_line(name, lines, mistake) for mistake in sorted(job_mistakes, key=lambda m: line_of(lines, m.key) or 0)
    ]
    omitted = len(sentences) - MOST_SHOWN
    return "\n".join(sentences[:MOST_SHOWN] + ([f"… and {omitted:,} more mistakes"] if omitted > 0 else []))


def _with_line(name: str, lines: Mapping[KeyPath, int], mistake: Mistake) -> str:
    line = line_of(lines, mistake.key)
    return f"{name}, line {line}: {mistake.fact}" if line else f"{name}: {mistake.fact}"
