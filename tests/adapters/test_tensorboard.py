"""Observations in TensorBoard: read back from its own files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import affinet
from tests.report.test_csv_log import observation

NAMES = ("rows sum to one", "tie, of two")


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag → (step, value), read by TensorBoard."""
    accumulating: Any = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulating.EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_folder_gets_a_curve_for_each_number(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with affinet.TensorBoardLog(tmp_path) as log:
        for step in (1, 11):
            log(observation(step, names=NAMES))
        found = curves(tmp_path)  # flushed after each, so there before it is closed
    wanted = observation(11, names=NAMES).numbers()
    assert found.keys() == {f"affinet/{name}" for name in wanted}
    for name, number in wanted.items():
        points = found[f"affinet/{name}"]
        assert [step for step, _ in points] == [1, 11]
        assert points[1][1] == pytest.approx(number, rel=1e-6, abs=1e-38)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_writer_that_is_given_stays_the_callers() -> None:
    class Writer:
        """What a SummaryWriter is to the log."""

        points: list[tuple[str, int]] = []  # noqa: RUF012
        closed = False

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            self.points.append((tag, step))

        def close(self) -> None:
            self.closed = True

    writer: Any = Writer()
    log = affinet.TensorBoardLog(writer)
    second = observation(4, names=NAMES, multipliers=False)
    log(affinet.Observation(4, 1, second.violation, 0.5, 1.0, 1.0, 0.5, {}))
    log.close()
    assert not writer.closed
    assert ("affinet/optimizer 1/violation/tie, of two", 4) in writer.points


def test_without_tensorboard_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard.writer", raising=False)
    with pytest.raises(affinet.WatchError, match=r"not installed\. Run pip install 'affinet\[tensorboard\]'.*CsvLog"):
        affinet.TensorBoardLog(tmp_path)


def test_what_is_no_folder_and_no_writer_is_refused() -> None:
    with pytest.raises(affinet.WatchError, match=r"3 \(int\) is neither a folder nor a SummaryWriter"):
        affinet.TensorBoardLog(3)  # type: ignore[arg-type]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").touch()
    with pytest.raises(affinet.WatchError, match=r"file cannot be written to: .* Name another folder"):
        affinet.TensorBoardLog(tmp_path / "file")
