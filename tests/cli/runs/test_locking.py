from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import affinet
from affinet.cli.runs import locking
from affinet.cli.runs.locking import locked
from affinet.errors import RunError

HOLD = """\
import sys, time
from pathlib import Path
from affinet.cli.runs.locking import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_writer_is_told_who_the_first_is_until_that_one_is_killed(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(affinet.__file__).resolve().parents[1])}
    words = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with (
                pytest.raises(RunError, match=rf"is being written to by process {holder.pid}\. Wait until it has"),
                locked(tmp_path),
            ):
                pass
        finally:
            holder.kill()
    with locked(tmp_path):
        assert (tmp_path / ".writer").read_text() == f"{os.getpid()}\n"
    assert not (tmp_path / ".writer").exists()


def test_a_writer_that_has_not_said_who_it_is(tmp_path: Path) -> None:
    with locked(tmp_path):
        (tmp_path / ".writer").unlink()
        with pytest.raises(RunError, match="is being written to by another process"), locked(tmp_path):
            pass


def test_the_lock_goes_when_the_block_raises(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    (tmp_path / locking.LOCK).mkdir()
    with pytest.raises(RunError, match=r"cannot be locked: .*Name another folder with --out."), locked(tmp_path):
        pass
