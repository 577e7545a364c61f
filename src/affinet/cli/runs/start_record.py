"""Record in the folder of a run where it was started: the place of its job and of the files that the job names."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator

from affinet._version import __version__
from affinet.cli.jobs.job import Table
from affinet.cli.jobs.jobfile import JobFile, parse_job, read_job
from affinet.cli.runs.durable import write_text
from affinet.cli.runs.identity import Identity, digest_of_text, refuse_other
from affinet.cli.words import shell_word
from affinet.errors import RunError

START_RECORD, JOB = ".begun.json", "job.toml"


class StartRecord(Table):
    """The folder that paths in the job are relative to, the job file's name there, and what the run belongs to.

    The bits of its weights may also depend on the `versions` of libraries, on `threads` and on `processes`.
    `stationarity` tells whether the run measures it.
    """

    folder: str
    name: str
    identity: Identity
    versions: dict[str, str]
    threads: int
    processes: int = 1  # missing in runs of earlier versions
    stationarity: bool = False  # missing in runs of earlier versions, which go on as they began
    written_by: str = f"affinet {__version__}"

    @model_validator(mode="before")
    @classmethod
    def _with_versions(cls, content: Any) -> Any:
        """Earlier versions of affinet recorded the version of torch alone."""
        if isinstance(content, dict) and "torch" in content and "versions" not in content:
            content = {**content, "versions": {"torch": content["torch"]}}
            del content["torch"]
        return content

    @property
    def place(self) -> Path:
        """The path of the job file."""
        return Path(self.folder) / self.name


def write_start_record(run: Path, record: StartRecord) -> None:
    """Write `record` to the folder of a run."""
    write_text(run / START_RECORD, record.model_dump_json(indent=2) + "\n")


def read_start_record(run: Path) -> StartRecord:
    """The record that `write_start_record` wrote. Raises RunError where there is no run, or it cannot be resumed."""
    if not (run / JOB).is_file():
        raise RunError(
            f"{run} does not hold a run to resume. Start one: affinet train JOB.toml --out {shell_word(run)}"
        )
    way_out = "Name another folder with --out and train anew."
    try:
        return StartRecord.model_validate_json((run / START_RECORD).read_bytes())
    except FileNotFoundError:
        fact = f"{run} holds a job but no record of where it was started: an older affinet did not write {START_RECORD}"
        raise RunError(f"{fact}. {way_out}") from None
    except (OSError, ValidationError) as error:
        raise RunError(f"{run / START_RECORD} cannot be read: {_first_message(error)}. {way_out}") from None


def job_of_run(run: Path, record: StartRecord, new_path: Path | None) -> JobFile:
    """The job of a run, its paths relative to the folder that it was started in, or to the folder of `new_path`.

    Raises RunError where the copy in the run or the job at `new_path` is not the job that the run was started with, and
    where the folder of the job does not exist any more.
    """
    text = (run / JOB).read_bytes().decode("utf-8", errors="replace")
    refuse_other(run, record.identity, record.identity.model_copy(update={"job": digest_of_text(text)}))
    if new_path is not None:
        job = read_job(new_path)
        if job.text != text:
            raise RunError(f"{new_path} is not the job of {run}: {_difference(job.text, text)} Leave it out.")
        return job
    if not Path(record.folder).is_dir():
        raise RunError(
            f"{run} was started from {record.place}, and that folder does not exist any more. Name the new place "
            f"of the job: affinet train JOB.toml --resume {shell_word(run)}"
        )
    return parse_job(record.place, text)


def _difference(new_text: str, old_text: str) -> str:
    """The first line in which two texts differ."""
    lines = zip_longest(new_text.splitlines(), old_text.splitlines(), fillvalue="")
    for number, (new_line, old_line) in enumerate(lines, start=1):
        if new_line != old_line:
            return f"line {number} is {new_line!r:.80}, and was {old_line!r:.80}."
    return "its line ends differ."


def _first_message(error: Exception) -> str:
    return str(error.errors(include_url=False)[0]["msg"]) if isinstance(error, ValidationError) else str(error)
