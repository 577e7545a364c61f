from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from affinet.cli.runs.runfolder import free_folder
from tests.cli.conftest import Command
from tests.cli.demo_files import FOLDER, demo_files


def test_the_matrix_files_are_what_their_script_makes() -> None:
    for name, content in demo_files().items():
        assert (FOLDER / name).read_bytes() == content


def test_the_demo_holds_what_it_promises(affinet: Command, folder: Path) -> None:
    result = affinet("demo")
    assert result.exit_code == 0, result.output
    metrics = pl.read_csv(folder / "runs" / "demo" / "metrics.csv")
    assert metrics["largest_violation"].max() <= 1e-6  # type: ignore[operator]
    assert metrics["accuracy"][-1] >= 0.93
    assert result.stdout.startswith("This demo trains a network that reads handwritten digits")
    assert " with them, " in result.stdout


def test_a_second_demo_takes_the_next_free_folder_and_its_job_can_be_trained(affinet: Command, folder: Path) -> None:
    for name in ("demo", "demo-2"):
        result = affinet("demo", "--epochs", "1")
        assert result.exit_code == 0, result.output
        assert f"Everything is in runs/{name}." in result.stdout
        assert len((folder / "runs" / name / "metrics.csv").read_text().splitlines()) == 2
        assert "\nepochs = 1\n" in (folder / "runs" / name / "job.toml").read_text()
    assert affinet("check", "runs/demo/job.toml").exit_code == 0


def test_a_folder_named_by_hand_is_not_overwritten(affinet: Command, folder: Path) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "plan.txt").write_text("mine")
    result = affinet("demo", "--epochs", "1", "--out", "mine")
    assert result.exit_code == 2
    assert "mine already holds a run" in result.stderr


@pytest.mark.parametrize(("taken", "free"), [([], "demo"), (["demo"], "demo-2"), (["demo", "demo-2"], "demo-3")])
def test_the_next_free_folder(tmp_path: Path, taken: list[str], free: str) -> None:
    for name in taken:
        (tmp_path / name).mkdir()
        (tmp_path / name / "job.toml").touch()
    assert free_folder(tmp_path / "demo") == tmp_path / free
