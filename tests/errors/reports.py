"""Pages about runs: `affinet report RUN`, and where they are written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from affinet.cli.reports.run_contents import contents_of_run
from affinet.errors import MissingPackageError, ReportError, RunError
from affinet.report.cost import CostReport
from affinet.report.pages import Contents, page
from affinet.report.pages.page_file import page_path, write_page
from tests.errors.case import case


@case(RunError, "The folder has no run.", "Name the folder that `affinet train` wrote.", fragment="does not hold")
def a_report_of_no_run(folder: Path) -> None:
    contents_of_run(folder)


@case(RunError, "The folder does not exist.", "Name the folder of a run.", fragment="does not exist")
def a_report_of_no_folder(folder: Path) -> None:
    contents_of_run(folder / "run")


@case(RunError, "A file is named instead of the folder of a run.", "Name the folder.", fragment="is a file")
def a_report_of_a_file(folder: Path) -> None:
    (folder / "model.safetensors").touch()
    contents_of_run(folder / "model.safetensors")


@case(ReportError, "The page would have the name of a folder.", "Name a file.", foreign="(?<=in it: ).*(?=\\.$)")
def a_page_that_is_a_folder(folder: Path) -> None:
    page_path(folder)


@case(ReportError, "The path of a page is not a path.", "Write the path as text.")
def a_page_at_no_path() -> None:
    page_path(3)


@case(ReportError, "Browsers would show the file as text.", "End its name in .html.")
def a_page_with_another_ending(folder: Path) -> None:
    page_path(folder / "report.txt")


@case(ReportError, "The folder of the page does not exist.", "Make it first.")
def a_page_in_no_folder(folder: Path) -> None:
    page_path(folder / "nowhere" / "report.html")


@case(ReportError, "The file is not an earlier page.", "Name another file.")
def a_page_over_another_file(folder: Path) -> None:
    (folder / "report.html").write_text("notes", encoding="utf-8")
    page_path(folder / "report.html")


@case(ReportError, "The disk refuses the page.", "Make room.", foreign="(?<=be written: ).*(?=\\. Make)")
def a_page_that_the_disk_refuses(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def refuse(_: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", refuse)
        write_page("<!DOCTYPE html>", folder / "report.html")


@case(
    ReportError,
    "The folder may not be written to.",
    "Name another place with --out.",
    foreign="(?<=be written: ).*(?=\\. Name)",
)
def a_page_that_may_not_be_written(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:

        def refuse(_: int) -> None:
            raise PermissionError(1, "Operation not permitted")

        patch.setattr(os, "fsync", refuse)
        write_page("<!DOCTYPE html>", folder / "report.html")


@case(ReportError, "A report that no handle made.", "Write the page of a handle, or `affinet report RUN`.")
def a_page_of_figures_alone(folder: Path) -> None:
    CostReport((), 0.0).html(folder / "report.html")


@case(MissingPackageError, "What draws charts is not installed.", 'Run `pip install "affinet[cli]"`.')
def a_page_without_altair() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "altair", None)
        page(Contents("run", "finished", ""))
