"""Observations in a CSV file: well-formed whatever rules are called, continued where it was cut off."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

import affinet

NAMES = ('rows, "all" of them', "two\nlines; and a tab\t", "plain")


def observation(step: int, *, names: tuple[str, ...] = NAMES, multipliers: bool = True) -> affinet.Observation:
    return affinet.Observation(
        step=step,
        optimizer=0,
        violation={name: 0.1 * (step + place) for place, name in enumerate(names)},
        stationarity=1 / 3 if step else None,
        step_length=1e-300,
        projection_distance=float("inf"),
        undone=0.25,
        multipliers={name: torch.tensor([1.0, -2.0 - step]) for name in names} if multipliers else {},
    )


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(None not in row and None not in row.values() for row in rows), "a row is longer or shorter"
    return rows


def test_numbers_are_named_after_the_rules() -> None:
    numbers = observation(1).numbers()
    assert list(numbers) == [
        "stationarity",
        "step_length",
        "projection_distance",
        "undone",
        *(f"violation/{name}" for name in NAMES),
        *(f"multiplier/{name}" for name in NAMES),
    ]
    assert numbers["multiplier/plain"] == 3.0
    assert np.isnan(observation(0).numbers()["stationarity"])


def test_a_multiplier_of_a_rule_without_equations_is_zero() -> None:
    empty = affinet.Observation(0, 0, {}, None, 0.0, 0.0, 0.0, {"empty": torch.zeros(0)})
    assert empty.numbers()["multiplier/empty"] == 0.0


def test_rows_read_back_to_the_same_bits(tmp_path: Path) -> None:
    log = affinet.CsvLog(tmp_path / "run.csv")
    seen = [observation(step) for step in range(3)]
    for one in seen:
        log(one)
    rows = rows_of(log.path)
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    for row, one in zip(rows, seen, strict=True):
        found = {name: float(row[name]) for name in one.numbers()}
        assert str(found) == str(one.numbers())


def test_a_file_is_continued_and_has_its_header_once(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    for step in range(3):
        affinet.CsvLog(str(path))(observation(step))
    assert [row["step"] for row in rows_of(path)] == ["0", "1", "2"]
    assert path.read_text(encoding="utf-8").count("stationarity") == 1


def test_a_row_that_was_cut_off_stays_alone(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    affinet.CsvLog(path)(observation(0))
    affinet.CsvLog(path)(observation(1))
    path.write_bytes(path.read_bytes()[:-20])
    affinet.CsvLog(path)(observation(2))
    with path.open(encoding="utf-8", newline="") as file:
        header, first, cut, third = csv.reader(file)
    assert len(header) == len(first) == len(third) > len(cut)
    assert third[0] == "2"


def test_an_empty_file_is_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    path.touch()
    affinet.CsvLog(path)(observation(0))
    assert len(rows_of(path)) == 1


def test_other_columns_are_refused_and_the_file_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    affinet.CsvLog(path)(observation(0))
    before = path.read_bytes()
    with pytest.raises(
        affinet.WatchError,
        match=r"run\.csv has other columns .*only in the file \['multiplier/.*only in this watch \[\]",
    ):
        affinet.CsvLog(path)(observation(1, multipliers=False))
    assert path.read_bytes() == before
    path.write_text("some,other\ntable,there\n", encoding="utf-8")
    with pytest.raises(affinet.WatchError, match=r"only in the file \['some', 'other'\].*Give a new file"):
        affinet.CsvLog(path)(observation(1))


def test_a_path_that_no_file_can_have_is_refused_when_the_log_is_made(tmp_path: Path) -> None:
    with pytest.raises(affinet.WatchError, match=r"there is no folder .*nowhere\. Make it first"):
        affinet.CsvLog(tmp_path / "nowhere" / "run.csv")
    with pytest.raises(affinet.WatchError, match=r"is a folder\. Name a file in it"):
        affinet.CsvLog(tmp_path)
    with pytest.raises(affinet.WatchError, match=r"3 \(int\) is not a path"):
        affinet.CsvLog(3)  # type: ignore[arg-type]


def test_a_disk_that_refuses_a_row_is_named_with_the_way_out(tmp_path: Path) -> None:
    log = affinet.CsvLog(tmp_path / "run.csv")
    log.path.mkdir()
    with pytest.raises(affinet.WatchError, match=r"run\.csv cannot be written to: .*watch\.stop\(\) goes on"):
        log(observation(0))


def test_a_watched_training_is_a_table(tmp_path: Path) -> None:
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    w = affinet.weights(model)
    handle = affinet.project(model, optimizer, [(w.weight.sum(dim=1) == 1).named(NAMES[0]), w.bias[0] == w.bias[1]])
    handle.watch(affinet.CsvLog(tmp_path / "run.csv"), every=2, multipliers=True)
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.ones(2, 4)).square().sum().backward()
        optimizer.step()
    rows = rows_of(tmp_path / "run.csv")
    assert [int(row["step"]) for row in rows] == [0, 2, 4]
    assert all(float(row[f"violation/{NAMES[0]}"]) < 1e-6 for row in rows)
