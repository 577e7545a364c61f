"""Commands in messages can be copied into a shell, whatever folders are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from affinet.cli.runs.runfolder import RunFolder
from affinet.cli.words import shell_word
from tests.cli.conftest import SMALL, Command


@pytest.mark.parametrize(
    ("path", "word"), [("runs/job-2", "runs/job-2"), ("a run", "'a run'"), ("it's", "'it'\"'\"'s'"), ("$(x)", "'$(x)'")]
)
def test_a_path_is_one_word(path: str, word: str) -> None:
    assert shell_word(Path(path)) == word
    assert (
        RunFolder(Path(path), "accuracy", stationarity=True).resume_hint()
        == f"To resume: affinet train --resume {word}"
    )


def test_messages_about_a_folder_with_a_space_quote_it(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL)
    assert "affinet report 'a run'" in affinet("train", "job.toml", "--out", "a run").stdout
    assert "affinet train --resume 'a run'" in affinet("train", "job.toml", "--out", "a run").stderr
    assert "affinet train JOB.toml --out 'no run'" in affinet("train", "--resume", "no run").stderr
    assert "affinet train JOB.toml --out 'no run'" in affinet("report", "no run").stderr
