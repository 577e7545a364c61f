from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affinet.cli.jobs.job import READY_MADE_SETS, DataTable
from affinet.cli.trainings.data import Data, load_data, read_lesson
from affinet.errors import DataError


def data_of(folder: Path, target: list[Any], **keys: Any) -> Data:
    """The data of a table with one feature and this target."""
    lines = [f"{row},{value}" for row, value in enumerate(target)]
    (folder / "t.csv").write_text("\n".join(["x,y", *lines]) + "\n")
    return load_data(DataTable(source="t.csv", target="y", **keys), folder, seed=0)


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [("digits", 64, 10), ("diabetes", 10, 1), ("breast_cancer", 30, 2), ("wine", 13, 3), ("iris", 4, 3)],
)
def test_every_ready_data_set_is_scaled_by_its_train_rows(name: str, inputs: int, outputs: int) -> None:
    assert name in READY_MADE_SETS
    data = load_data(DataTable(source=f"sklearn:{name}"), Path(), seed=0)
    assert (data.inputs, data.outputs) == (inputs, outputs)
    assert data.task == ("regression" if name == "diabetes" else "classification")
    assert data.score_name == ("R²" if name == "diabetes" else "accuracy")
    spread = data.train_features.std(axis=0)
    np.testing.assert_allclose(data.train_features.mean(axis=0), 0, atol=1e-12)
    assert np.all(np.isclose(spread, 1) | np.isclose(spread, 0))
    if data.task == "regression":
        assert (data.train_targets.mean(), data.train_targets.std()) == pytest.approx((0, 1))


def test_the_scaling_that_is_stored_leads_from_raw_rows_to_the_rows_of_the_training() -> None:
    for name, keys in (("diabetes", {"target_mean", "target_spread"}), ("wine", {"classes"})):
        table, path = DataTable(source=f"sklearn:{name}"), Path()
        data, lesson = load_data(table, path, seed=0), read_lesson(table, path, 0)
        stored = json.loads(data.scaling.text())
        assert set(stored) == {"features", "means", "spreads", "target"} | keys
        scaled = (lesson.examples.features - stored["means"]) / stored["spreads"]
        rows = {tuple(row) for row in scaled.tolist()}
        assert {tuple(row) for row in [*data.train_features.tolist(), *data.test_features.tolist()]} == rows
        if data.task == "regression":
            targets = (lesson.targets - stored["target_mean"]) / stored["target_spread"]
            assert sorted(targets) == sorted([*data.train_targets, *data.test_targets])
        else:
            assert stored["classes"] == [0, 1, 2]


def test_classes_keep_their_share_and_the_seed_decides_the_split() -> None:
    table = DataTable(source="sklearn:iris", test_fraction=0.2)
    data, same, other = (load_data(table, Path(), seed) for seed in (1, 1, 2))
    assert np.bincount(data.test_targets).tolist() == [10, 10, 10]
    np.testing.assert_array_equal(data.test_features, same.test_features)
    assert not np.array_equal(data.test_features, other.test_features)


@pytest.mark.parametrize(
    ("target", "decided", "outputs"),
    [
        (["u", "v"] * 5, "classification, for the target 'y' is text; 2 classes", 2),
        (["true", "false"] * 5, "classification, for the target 'y' is truth values; 2 classes", 2),
        ([3, 5, 9] * 4, "classification, for the target 'y' is whole numbers with 20 or fewer distinct values; 3", 3),
        (list(range(40)), "regression, for the target 'y' is whole numbers with 40 distinct values", 1),
        ([0.5, 1.5] * 5, "regression, for the target 'y' is decimal numbers with 2 distinct values", 1),
    ],
)
def test_the_task_follows_the_target_and_says_why(
    tmp_path: Path, target: list[Any], decided: str, outputs: int
) -> None:
    data = data_of(tmp_path, target)
    assert data.decided.startswith(decided)
    assert data.outputs == outputs


def test_the_job_may_decide_the_task(tmp_path: Path) -> None:
    numbers = data_of(tmp_path, [3, 5, 9] * 4, task="regression")
    assert (numbers.task, numbers.outputs, numbers.decided) == ("regression", 1, "regression, as the job says")
    classes = data_of(tmp_path, [0.5, 1.5] * 5, task="classification")
    assert (classes.task, classes.outputs) == ("classification", 2)


@pytest.mark.parametrize(
    ("target", "keys", "message"),
    [
        (["u"] * 9, {}, "target 'y' of t.csv is 'u' in every row; there is nothing to learn. Name another column."),
        (
            ["u", "v"] * 4,
            {"task": "regression"},
            'is text, which regression cannot predict; say task = "classification"',
        ),
        (
            ["u", "v"] * 4 + ["w"],
            {"test_fraction": 0.5},
            "the class 'w' of 'y' in t.csv has one row; each class needs two",
        ),
        (
            [1, 2] * 4 + [3],
            {"test_fraction": 0.5},
            'or say task = "regression" in [data] or affinet init --task regression.',
        ),
        (
            ["u", "v", "w"] * 2,
            {"test_fraction": 0.1},
            "has 6 rows, which test_fraction = 0.1 splits into 5 rows to train on",
        ),
        ([0.5, 1.5], {}, "regression needs at least 2 in each. Add rows or change test_fraction in [data]."),
        ([0.5, 1.5, 2.5], {"test_fraction": 0.9}, "needs at least 2 in each"),
    ],
)
def test_what_cannot_be_learnt_is_refused(
    tmp_path: Path, target: list[Any], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        data_of(tmp_path, target, **keys)
    assert message in str(caught.value)
