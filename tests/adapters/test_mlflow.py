"""Observations in MLflow: read back from a local database (`make loggers`), under names that MLflow accepts."""

from __future__ import annotations

import math
import posixpath
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import affinet
from affinet.adapters.mlflow import LONGEST_NAME
from tests.adapters.test_wandb import missing
from tests.report.test_csv_log import observation

HARD = (
    "rows == 1",
    "rows >= 1",
    "rows ≥ 1",
    "w[0:3] / 2",
    "a//b",
    ".",
    "..",
    "-",
    "a" * 300,
    "a" * 300 + "b",
    "rows __ 1",
)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, float], int, str]]:
    """What is given to `mlflow.log_metrics`: numbers, the step, and the id of the run."""
    calls: list[tuple[dict[str, float], int, str]] = []
    package = ModuleType("mlflow")
    vars(package)["log_metrics"] = lambda numbers, step, run_id: calls.append((numbers, step, run_id))
    monkeypatch.setitem(sys.modules, "mlflow", package)
    return calls


def test_numbers_are_logged_to_the_run_at_their_step(logged: list[tuple[dict[str, float], int, str]]) -> None:
    for run in ("an id", SimpleNamespace(info=SimpleNamespace(run_id="an id"))):
        affinet.MlflowLog(run)(observation(11, names=("a tie",)))
    assert logged[0] == logged[1]
    numbers, step, run_id = logged[0]
    assert (step, run_id) == (11, "an id")
    assert numbers == {
        f"affinet/{name}": number for name, number in observation(11, names=("a tie",)).numbers().items()
    }


def test_another_optimizer_has_metrics_of_its_own(logged: list[tuple[dict[str, float], int, str]]) -> None:
    affinet.MlflowLog("id")(affinet.Observation(4, 1, {"a tie": 0.5}, 0.5, 1.0, 1.0, 0.5, {}))
    assert logged[0][0]["affinet/optimizer 1/violation/a tie"] == 0.5


def test_every_rule_has_a_metric_of_its_own_that_mlflow_accepts(
    logged: list[tuple[dict[str, float], int, str]],
) -> None:
    log = affinet.MlflowLog("id")
    for step in (1, 2):
        log(observation(step, names=HARD))
    first, second = (numbers for numbers, _, _ in logged)
    assert list(first) == list(second)
    wanted = observation(2, names=HARD).numbers()
    assert list(second.values()) == list(wanted.values()), "numbers are logged in their order, none over another"
    for name in first:
        assert re.fullmatch(r"[/\w.\- ]+", name)
        assert posixpath.normpath(name) == name
        assert len(name) <= LONGEST_NAME
    assert [name for name in first if "rows" in name and "violation" in name] == [
        "affinet/violation/rows __ 1", "affinet/violation/rows __ 1 2", "affinet/violation/rows _ 1",
        "affinet/violation/rows __ 1 3",
    ]  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # MLflow and its database warn of each other
def test_a_training_is_read_back_from_a_local_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        import mlflow
    except ImportError:
        pytest.skip(missing("mlflow"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    names = (*HARD, "a tie")
    with mlflow.start_run() as run:
        log = affinet.MlflowLog(run)
        for step in (0, 7):
            log(observation(step, names=names))
    client: Any = mlflow.MlflowClient()
    wanted = observation(7, names=names).numbers()
    metrics = client.get_run(run.info.run_id).data.metrics
    assert len(metrics) == len(wanted)
    for name in ("undone", "stationarity", "violation/a tie", "multiplier/a tie"):
        history = {point.step: point.value for point in client.get_metric_history(run.info.run_id, f"affinet/{name}")}
        assert history.keys() == {0, 7}
        assert history[7] == wanted[name]
    assert math.isnan({p.step: p.value for p in client.get_metric_history(run.info.run_id, "affinet/stationarity")}[0])
