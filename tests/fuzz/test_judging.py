from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from affinet.errors import DataError
from tests.fuzz import judging
from tests.fuzz.judging import judge
from tests.fuzz.mutations import of_bytes
from tests.fuzz.target import Target

FREE = 2**62


def of(read: Callable[[Path], object]) -> Target:
    return Target("a test", ".txt", read, (DataError,), of_bytes)


def refuse(path: Path) -> object:
    raise DataError(f"{path} is no file of ours.")


def swallow(path: Path) -> object:
    try:
        return np.zeros(2**50)
    except Exception:  # noqa: BLE001
        raise DataError(f"{path} is not readable.") from None


def hang(path: Path) -> object:
    while path:
        pass
    return None


def test_what_is_read_or_refused_is_no_finding(tmp_path: Path) -> None:
    assert judge(of(lambda path: path), tmp_path, FREE) is None
    assert judge(of(refuse), tmp_path, FREE) is None


@pytest.mark.parametrize(
    ("read", "fact"),
    [
        (lambda path: {}[path], "raised KeyError: KeyError at test_judging.py"),
        (lambda path: path.read_bytes(), "raised IsADirectoryError"),
        (lambda path: np.zeros(2**50), "ran out of memory"),
        (swallow, "asked for more memory than the limit, and was refused: DataError at test_judging.py"),
    ],
    ids=["a bug", "an error of the system", "no memory", "no memory, hidden"],
)
def test_everything_else_is_one(tmp_path: Path, read: Callable[[Path], object], fact: str) -> None:
    assert fact in str(judge(of(read), tmp_path, FREE))


def test_a_hang_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "SECONDS", 0.05)
    assert "took more than 0.05 seconds: Hung at test_judging.py" in str(judge(of(hang), tmp_path, FREE))


def test_memory_above_the_limit_is_found(tmp_path: Path) -> None:
    assert "took more than 1024 MB" in str(judge(of(lambda path: path), tmp_path, 0))
