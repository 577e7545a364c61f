from __future__ import annotations

import os
from pathlib import Path

import pytest

from affinet.cli.runs.durable import put_in_place, unfinished, write_file, write_neighbour, write_text


def test_a_text_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "one\n")
    write_text(tmp_path / "a", "two\r\n")
    assert (tmp_path / "a").read_bytes() == b"two\r\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_it_is_flushed_before_it_is_renamed_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append(f"flush {_name(file)}"), flush(file)))
    monkeypatch.setattr(os, "replace", lambda one, other: (done.append(f"rename {Path(one).name}"), rename(one, other)))
    write_text(tmp_path / "a", "one")
    assert done == ["flush .a.unfinished", "rename .a.unfinished", f"flush {tmp_path.name}"]


def _name(file: int) -> str:
    return Path(f"/proc/self/fd/{file}").resolve().name


@pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
def test_a_writing_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    write_text(tmp_path / "a", "one")

    def write(beside: Path) -> None:
        beside.write_text("half")
        raise error

    with pytest.raises(type(error)):
        write_file(tmp_path / "a", write)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "one"


def test_what_was_there_can_be_kept(tmp_path: Path) -> None:
    for text in ("one", "two", "three"):
        with write_neighbour(tmp_path / "a") as beside:
            beside.write_text(text)
        put_in_place(tmp_path / "a", previous=tmp_path / "b")
    assert ((tmp_path / "a").read_text(), (tmp_path / "b").read_text()) == ("three", "two")


def test_a_rename_that_fails_leaves_nothing_beside(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "full").touch()
    unfinished(tmp_path / "a").write_text("new")
    with pytest.raises(OSError, match="directory"):
        put_in_place(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
@pytest.mark.parametrize("name", ["plain", "private"])
def test_whoever_writes_a_file_it_has_the_mode_of_one_newly_made(tmp_path: Path, name: str) -> None:
    def write(beside: Path) -> None:
        beside.unlink()
        beside.touch(mode=0o600 if name == "private" else 0o666)

    (tmp_path / "newly made").touch()
    write_file(tmp_path / "a", write)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "newly made").stat().st_mode
