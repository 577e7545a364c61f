"""A first job: `affinet init`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from affinet.cli.initial_job import write_initial_job
from affinet.errors import DataError, JobError
from tests.errors.case import case

ROWS = "length,kind\n" + "\n".join(f"{k % 5},{'owl' if k % 2 else 'cat'}" for k in range(12))


def begin(folder: Path, target: str | None = "kind", *, out: str = "job.toml", rows: str = ROWS) -> None:
    (folder / "small.csv").write_text(rows)
    write_initial_job(str(folder / "small.csv"), target, folder / out)


@case(JobError, "There is a job already.", "Name another file.")
def a_first_job_over_another_one(folder: Path) -> None:
    begin(folder)
    begin(folder)


@case(JobError, "`--out` names a folder.", "Name a file in it.")
def a_first_job_in_place_of_a_folder(folder: Path) -> None:
    begin(folder, out=".")


@case(JobError, "The folder of `--out` does not exist.", "Make it.")
def a_first_job_in_no_folder(folder: Path) -> None:
    begin(folder, out="nowhere/job.toml")


@case(DataError, "A misspelt file.", "Check the path.")
def a_first_job_without_its_table(folder: Path) -> None:
    begin(folder)
    write_initial_job(str(folder / "smal.csv"), "kind", folder / "other.toml")


@case(DataError, "The last column cannot be predicted.", "Name another with `--target`.", fragment="name another with")
def a_first_job_for_a_last_column_of_one_value(folder: Path) -> None:
    begin(folder, None, rows="length,kind\n" + "1,owl\n2,owl\n" * 6)


@case(DataError, "The column has no name.", "Write names in the first line.", fragment="needs a name")
def a_first_job_for_a_column_without_a_name(folder: Path) -> None:
    begin(folder, "", rows=",kind\n" + "1,owl\n2,cat\n" * 6)


@case(DataError, "All other columns are names or have gaps.", "Give another column.", fragment="can be a feature")
def a_first_job_without_features(folder: Path) -> None:
    begin(folder, rows="name,kind\n" + "\n".join(f"No. {k},{'owl' if k % 2 else 'cat'}" for k in range(12)))


@case(DataError, "A misspelt column.", "Take the one that is suggested.", fragment="Did you mean 'kind'?")
def a_first_job_for_another_column(folder: Path) -> None:
    begin(folder, "kid")


@case(DataError, "The table is empty.", "Write a header and rows.", foreign="(?<=csv file: ).*")
def a_first_job_for_an_empty_table(folder: Path) -> None:
    begin(folder, rows="")


@case(JobError, "A column to predict, for a data set that has its own.", "Leave out `--target`.")
def a_first_job_with_two_targets(folder: Path) -> None:
    write_initial_job("sklearn:iris", "kind", folder / "job.toml")


@case(JobError, "A misspelt data set.", "Take one of those listed.", fragment="Did you mean 'sklearn:iris'")
def a_first_job_for_an_unknown_data_set(folder: Path) -> None:
    write_initial_job("sklearn:irs", None, folder / "job.toml")


@case(DataError, "The path of the table is in another encoding.", "Rename it.", fragment="is not UTF-8")
def a_first_job_for_a_path_in_another_encoding(folder: Path) -> None:
    begin(folder)
    strange = folder / "caf\udce9.csv"
    (folder / "small.csv").rename(strange)
    (folder / "job.toml").unlink()
    write_initial_job(str(strange), "kind", folder / "job.toml")


@case(
    JobError, "The disk is full, or you may not write there.", "Name another place.", fragment="No space left on device"
)
def a_first_job_on_a_full_disk(folder: Path) -> None:
    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *_: object) -> None: ...

        def write(self, _: str) -> None:
            raise OSError(28, "No space left on device")

    usual = Path.open

    def opened(path: Path, *words: Any, **options: Any) -> Any:
        if path.suffix == ".csv":
            return usual(path, *words, **options)
        path.touch()
        return Full()

    (folder / "small.csv").write_text(ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", opened)
        try:
            write_initial_job(str(folder / "small.csv"), "kind", folder / "job.toml")
        finally:
            assert not (folder / "job.toml").exists(), "half a file stays"
