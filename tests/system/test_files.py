from __future__ import annotations

import os
from pathlib import Path

import pytest

from affinet.system.files import MISSING, unreadable


def test_a_regular_file_is_read_up_to_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_bytes(bytes(10))
    (tmp_path / "link").symlink_to(file)
    assert unreadable(file) == unreadable(file, 10) == unreadable(tmp_path / "link") == ""
    assert unreadable(file, 9) == "has 10 bytes, and at most 9 are read"
    assert unreadable(file, None) == ""


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "file").touch()
    assert unreadable(tmp_path / "none") == unreadable(tmp_path / "file" / "inside") == MISSING
    assert unreadable(tmp_path) == "is a folder, not a file"
    assert unreadable(tmp_path / "pipe") == unreadable(Path("/dev/zero")) == "is a pipe or a device, not a file"
    assert unreadable(tmp_path / "loop").startswith("cannot be read: ")


@pytest.mark.parametrize("name", ["a\0b", "a" * 5000])
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    assert unreadable(tmp_path / name).startswith("cannot be read: ")
