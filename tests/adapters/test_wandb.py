"""Observations in Weights & Biases: read back from the file that an offline run leaves (`make loggers`)."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import affinet
from tests.report.test_csv_log import NAMES, observation

BLOCK, HEAD = 32768, 7
"""Records lie in blocks as in a log of LevelDB, after a head of the file of the same size as that of a record."""


class Run:
    """What a run of Weights & Biases is to the log."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.axes: dict[str, str] = {}

    def log(self, row: dict[str, float]) -> None:
        self.rows.append(row)

    def define_metric(self, name: str, step_metric: str) -> None:
        self.axes[name] = step_metric


def test_each_observation_is_a_row_with_its_step() -> None:
    run = Run()
    log = affinet.WandbLog(run)
    for step in (1, 11):
        log(observation(step))
    assert run.axes == {"affinet/*": "affinet/step"}
    assert run.rows[1] == {"affinet/step": 11} | {
        f"affinet/{name}": number for name, number in observation(11).numbers().items()
    }


def test_another_optimizer_has_curves_of_its_own() -> None:
    run = Run()
    affinet.WandbLog(run)(affinet.Observation(4, 1, {"a tie": 0.5}, 0.5, 1.0, 1.0, 0.5, {}))
    assert run.rows[0]["affinet/optimizer 1/violation/a tie"] == 0.5
    assert run.rows[0]["affinet/step"] == 4


def records(file: Path) -> Iterator[bytes]:
    """The records of a file of an offline run."""
    content, at, record = file.read_bytes(), HEAD, b""
    while at + HEAD <= len(content):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEAD])
        record += content[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (1, 4):  # complete, or the last part
            yield record
            record = b""


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of the only run in a folder."""
    protocol: Any = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    (file,) = folder.rglob("*.wandb")
    rows = []
    for content in records(file):
        record = protocol.Record()
        record.ParseFromString(content)
        if record.WhichOneof("record_type") == "history":
            names = [item.key or "/".join(item.nested_key) for item in record.history.item]
            values = [json.loads(item.value_json) for item in record.history.item]
            rows.append(dict(zip(names, values, strict=True)))
    return rows


def missing(package: str) -> str:
    """Why a test is skipped where a package is missing; it fails where `make loggers` has installed it."""
    assert not os.environ.get("AFFINET_LOGGERS"), f"make loggers installs {package}, and it cannot be imported"
    return f"{package} is not installed: make loggers"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_training_is_read_back_from_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import wandb
    except ImportError:
        pytest.skip(missing("wandb"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    run = wandb.init(mode="offline", dir=str(tmp_path), project="affinet", settings=wandb.Settings(console="off"))
    log, seen = affinet.WandbLog(run), list[affinet.Observation]()
    run.log({"loss": 1.0}, step=1000)  # another caller has counted further
    model = torch.nn.Linear(4, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    handle = affinet.project(model, optimizer, [(affinet.weights(model).weight.sum(dim=1) == 1).named(NAMES[1])])
    with handle.watch(log, seen.append, every=2):
        for _ in range(7):
            optimizer.zero_grad()
            model(torch.ones(5, 4)).square().sum().backward()
            optimizer.step()
    log(observation(8))
    run.finish()
    rows = [row for row in rows_of(tmp_path) if "affinet/step" in row]
    assert [row["affinet/step"] for row in rows] == [0, 2, 4, 6, 8]
    for row, one in zip(rows, [*seen, observation(8)], strict=True):
        for name, number in one.numbers().items():
            np.testing.assert_equal(float(row[f"affinet/{name}"]), number)
