"""Reading a job file: from its text to a checked `Job`, every mistake with its key and its line."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from affinet.cli.conflicts import conflicts
from affinet.cli.job import Job
from affinet.cli.locate import KeyPath, line_of
from affinet.cli.mistakes import Mistake, mistakes
from affinet.cli.words import one_paragraph
from affinet.errors import JobError


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
        return JobError(_located(self.path.name, self.text, Mistake(key, fact)))


def read_job(path: Path) -> JobFile:
    """The job that `path` says.

    Raises JobError where the file is missing, is no TOML, or says something that no job can say.
    """
    return parse_job(path, _read(path))


def parse_job(path: Path, text: str) -> JobFile:
    """The job that `text`, the content of `path`, says. Raises JobError listing every mistake in it."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise JobError(f"{path.name} is not a TOML file: {one_paragraph(error)}.") from None
    try:
        job = Job.model_validate(content)
    except ValidationError as error:
        found = mistakes(error)
    else:
        found = list(conflicts(job))
        if not found:
            return JobFile(path, text, job)
    found.sort(key=lambda mistake: line_of(text, mistake.key) or 0)
    raise JobError("\n".join(_located(path.name, text, mistake) for mistake in found))


def _read(path: Path) -> str:
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


def _located(name: str, text: str, mistake: Mistake) -> str:
    line = line_of(text, mistake.key)
    return f"{name}, line {line}: {mistake.fact}" if line else f"{name}: {mistake.fact}"
