"""Find the files of a run that are not as the run left them, and say which figures of its page come from them."""

from __future__ import annotations

from pathlib import Path

from affinet.cli.runs.finished import digest_of_file, read_digests
from affinet.cli.runs.identity import digest_of_text
from affinet.cli.runs.runfolder import METRICS, MODEL, PLAN, PLAN_TEXT, RESULTS, SCALING, missing_results
from affinet.cli.runs.start_record import JOB, StartRecord
from affinet.cli.words import shell_word

SHOWN_FROM = {
    MODEL: "the weights that are drawn are those of the file as it is now, and all other figures are those of the run",
    METRICS: "the curves are those of the file as it is now",
    PLAN: "the rules that are drawn on weights are those of the file as it is now",
    PLAN_TEXT: "the rules in words and the table of the plan are those of the file as it is now",
    SCALING: "names of columns are those of the file as it is now, if it has any",
    JOB: "it is shown as it is now. Put the file back",
}
"""File → what the page takes from it."""


def changed_files(run: Path, record: StartRecord | None) -> list[str]:
    """The names of the files that exist and have another digest than the run recorded.

    Only a finished run has digests of its results; that of the job is recorded when a run begins.
    """
    digests = read_digests(run)
    names = [name for name in RESULTS if name in digests and (run / name).exists()]
    changed = [name for name in names if digest_of_file(run / name) != digests[name]]
    if record is not None and (run / JOB).exists():
        text = (run / JOB).read_bytes().decode("utf-8", errors="replace")
        changed += [JOB] if digest_of_text(text) != record.identity.job else []
    return changed


def notes_on_files(run: Path, changed: list[str], *, finished: bool, drawn: bool) -> list[str]:
    """A sentence about each changed file, and about what resuming a finished run restores.

    `drawn` tells whether weights are: a damaged file may leave nothing to draw.
    """
    unused = set() if drawn else {MODEL, PLAN}
    notes = [
        f"{name} is not as the run left it" + ("." if name in unused else f": {SHOWN_FROM[name]}.") for name in changed
    ]
    to_restore = [name for name in RESULTS if name in {*changed, *missing_results(run)}]
    command = f"affinet train --resume {shell_word(run)}"
    if finished and METRICS in to_restore:
        restored = f"{command} writes metrics.csv again, with the row of the last epoch alone."
        first = "Put metrics.csv back if you have it. Without it, remove the file first: " if METRICS in changed else ""
        notes.append(first + restored)
    if finished and (exact := [name for name in to_restore if name != METRICS]):
        notes.append(f"{command} restores {' and '.join(exact)}.")
    return notes
