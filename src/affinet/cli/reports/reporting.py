"""Run `affinet report`: write the page of a run."""

from __future__ import annotations

from pathlib import Path

from affinet.cli.reports.run_contents import contents_of_run
from affinet.cli.screen import Screen
from affinet.report.pages.page_file import page_path, write_page
from affinet.report.pages.rendering import page

REPORT = "report.html"


def report(run: Path, out: Path | None, screen: Screen) -> None:
    """Write the page of the run in a folder to `out`, report.html in the folder without it, and say what is missing.

    Raises RunError where there is no run, and ReportError where the page cannot be written.
    """
    contents = contents_of_run(run)
    path = page_path(run / REPORT if out is None else out)
    write_page(page(contents), path)
    for sentence in contents.missing:
        screen.say(sentence)
    screen.say(f"The report is in {path}: open it in a browser.")
