"""How a run was begun: where its job and the files that it names lie, kept in the folder of the run."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from pydantic import ValidationError

from affinet._version import __version__
from affinet.cli.jobs.job import Table
from affinet.cli.jobs.jobfile import JobFile, parse_job, read_job
from affinet.cli.runs.durable import write_text
from affinet.cli.runs.identity import Identity, digest_of_text, refuse_other
from affinet.errors import RunError

BEGUN, JOB = ".begun.json", "job.toml"


class Begun(Table):
    """The folder that paths in the job are relative to, the job file's name there, and what the run belongs to.

    `torch` and `threads` are what the bits of its weights may depend on besides.
    """

    folder: str
    name: str
    identity: Identity
    torch: str
    threads: int
    written_by: str = f"affinet {__version__}"

    @property
    def place(self) -> Path:
        """Where the job file was."""
        return Path(self.folder) / self.name


def write_begun(run: Path, begun: Begun) -> None:
    """Keep `begun` in the folder of a run."""
    write_text(run / BEGUN, begun.model_dump_json(indent=2) + "\n")


def read_begun(run: Path) -> Begun:
    """What `write_begun` kept. Raises RunError where there is no run, or one that cannot be gone on with."""
    if not (run / JOB).is_file():
        raise RunError(f"{run} holds no run to go on with. Begin one: affinet train JOB.toml --out {run}")
    way_out = "Name another folder with --out and train anew."
    try:
        return Begun.model_validate_json((run / BEGUN).read_bytes())
    except FileNotFoundError:
        fact = (
            f"{run} holds a job and nothing that says where it was begun ({BEGUN} is missing), as an older affinet did"
        )
        raise RunError(f"{fact}. {way_out}") from None
    except (OSError, ValidationError) as error:
        raise RunError(f"{run / BEGUN} cannot be read: {_first(error)}. {way_out}") from None


def job_of_run(run: Path, begun: Begun, given: Path | None) -> JobFile:
    """The job of a run, its paths relative to where it was begun, or to where the same job is `given`.

    Raises RunError where the copy in the run or the given job is not the one that the run was begun with, and where the
    folder of the job is gone.
    """
    text = (run / JOB).read_bytes().decode("utf-8", errors="replace")
    refuse_other(run, begun.identity, begun.identity.model_copy(update={"job": digest_of_text(text)}))
    if given is not None:
        job = read_job(given)
        if job.text != text:
            raise RunError(f"{given} is not the job of {run}: {_difference(job.text, text)} Leave it out.")
        return job
    if not Path(begun.folder).is_dir():
        raise RunError(
            f"{run} was begun with {begun.place}, and that folder is gone. Say where the job and its files are now: "
            f"affinet train JOB.toml --resume {run}"
        )
    return parse_job(begun.place, text)


def _difference(given: str, kept: str) -> str:
    """The first line in which two texts differ."""
    lines = zip_longest(given.splitlines(), kept.splitlines(), fillvalue="")
    for number, (one, other) in enumerate(lines, start=1):
        if one != other:
            return f"line {number} is {one!r:.80}, and was {other!r:.80}."
    return "its line ends differ."


def _first(error: Exception) -> str:
    return str(error.errors(include_url=False)[0]["msg"]) if isinstance(error, ValidationError) else str(error)
