from __future__ import annotations

import shutil
import sys
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from affinet.cli.files import parquet
from affinet.cli.files.parquet import read_parquet
from affinet.errors import DataError

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus" / "parquet"


def written(folder: Path, frame: pl.DataFrame) -> Path:
    path = folder / "table.parquet"
    frame.write_parquet(path)
    return path


def test_a_table_comes_through_the_other_process_as_it_is(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"a": [0.1, None, float("nan")], "b": ["u", "ü", ""], "c": pl.Series(["x", "y", "x"], dtype=pl.Categorical)}
    ).with_columns(day=pl.date(2024, 1, 1), whole=pl.lit(2**63, pl.UInt64))
    assert_frame_equal(read_parquet(written(tmp_path, frame)), frame)


def test_a_file_that_ends_the_reader_does_not_end_us(tmp_path: Path) -> None:
    shutil.copy(CORPUS / "bitmap-of-2-exabytes.parquet", tmp_path / "table.parquet")
    with pytest.raises(DataError, match=r"table.parquet is not a readable .parquet file: it ended the process"):
        read_parquet(tmp_path / "table.parquet")


def test_a_reader_that_does_not_come_back_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "SECONDS", 0.5)
    monkeypatch.setattr(parquet, "_PROGRAM", "import time; time.sleep(600)")
    with pytest.raises(DataError, match=r"it was not read within . seconds"):
        read_parquet(written(tmp_path, pl.DataFrame({"a": [1]})))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds a process to its memory this way")
def test_the_reader_has_a_limit_to_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grabbing = "from affinet.cli.files.parquet import _limit_resources; _limit_resources(1000); bytes(2**32)"
    monkeypatch.setattr(parquet, "_PROGRAM", grabbing)
    with pytest.raises(DataError, match=r"the process that reads it failed: .*MemoryError"):
        read_parquet(written(tmp_path, pl.DataFrame({"a": [1]})))


def test_few_bytes_that_say_very_many_numbers_are_refused_before_they_are_read(tmp_path: Path) -> None:
    zeros = pl.repeat(0, 17_000_000, dtype=pl.UInt8, eager=True)
    path = written(tmp_path, pl.DataFrame(dict.fromkeys("abcy", zeros)))
    with pytest.raises(
        DataError, match="holds 68,000,000 numbers, which take 544,000,000 bytes, and at most 536,870,9"
    ):
        read_parquet(path)


def test_a_module_in_the_folder_of_the_job_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "polars.py").write_text("raise SystemExit('a module of the job was run')")
    (tmp_path / "affinet.py").write_text("raise SystemExit('a module of the job was run')")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    frame = pl.DataFrame({"a": [1]})
    assert_frame_equal(read_parquet(written(tmp_path, frame)), frame)
