from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from affinet.cli import checking
from affinet.cli.jobs.job import TrainTable
from affinet.cli.trainings.preparation import prepare
from affinet.cli.trainings.torch.optimizers import OPTIMIZERS
from affinet.cli.trainings.untried import LARGE, SURELY_TAKEN, planned_untried, takes_settings
from tests.cli.conftest import SMALL, Command, changed, job_of

VALUES: tuple[Any, ...] = (
    0,
    0.0,
    1,
    1e-300,
    0.5,
    0.9999999999999999,
    1.0,
    LARGE,
    1e7,
    -0.1,
    True,
    "a",
    [0.0, 0.9],
    [0, 0.9],
    [0.9],
)
"""Some of these each option takes, and some none does."""


@pytest.mark.parametrize("optimizer", SURELY_TAKEN)
@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
def test_what_is_surely_taken_is_taken_by_a_real_step(folder: Path, optimizer: str) -> None:
    """Each option with the extremes of what the table lets pass, at both extremes of the learning rate."""
    tried = 0
    for name, value in [("weight_decay", 0), *product(SURELY_TAKEN[optimizer], VALUES)]:
        for rate in (1e-300, LARGE):
            train = TrainTable(optimizer=optimizer, learning_rate=rate, options={name: value})
            if not takes_settings(train):
                continue
            tried += 1
            weights = torch.nn.Parameter(torch.ones(3))
            options = {name: tuple(value) if isinstance(value, list) else value}
            made = OPTIMIZERS[optimizer]([weights], lr=rate, **options)  # type: ignore[call-arg]
            for _ in range(2):
                weights.grad = torch.ones(3)
                made.step()
    assert tried >= 2 * len(SURELY_TAKEN[optimizer])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer", "Madam"),
        ("optimizer", "LBFGS"),
        ("method", "reparametrize"),
        ("learning_rate", 1e300),
        ("options", {"betas": [0.9]}),
        ("options", {"no_such": 1.0}),
        ("options", {"weight_decay": -1.0}),
    ],
)
def test_other_settings_are_tried(key: str, value: Any) -> None:
    assert takes_settings(TrainTable(optimizer="AdamW"))
    assert not takes_settings(TrainTable(**{"optimizer": "AdamW", key: value}))


RULES = '[[rule]]\nname = "sums"\nsays = "hidden1.weight.sum(dim=1) == 1"\n'


@pytest.mark.parametrize(
    "rule",
    [
        "hidden1.weight[0] == 1e39",
        "1e-7 * hidden1.weight[0] == 1",
        "1e7 * hidden1.weight[0] == 1",
    ],
)
def test_rules_of_extreme_numbers_are_tried(folder: Path, rule: str) -> None:
    assert planned_untried(job_of(SMALL + RULES, folder)) is not None
    assert planned_untried(job_of(f'{SMALL}[[rule]]\nsays = "{rule}"\n', folder)) is None


def test_a_rule_that_float32_cannot_hold_is_found_by_check(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL + '[[rule]]\nsays = "output.bias[0] == 1e39"\n')
    result = affinet("check", "job.toml")
    assert result.exit_code == 2
    assert "has numbers that output.bias cannot hold in torch.float32" in result.stderr


@pytest.mark.parametrize("rules", ["", RULES, '[[rule]]\nsays = "2 * output.bias + output.bias.sum() == 0"\n'])
@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
def test_a_plan_without_a_trial_is_the_plan_with_one(
    affinet: Command, folder: Path, rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = changed(('"Adam"', '"AdamW"')) + rules
    job = job_of(text, folder)
    planned, tried = planned_untried(job), prepare(job)
    assert planned is not None
    assert str(planned.rules) == str(tried.rules)
    quick = affinet("check", "job.toml").stdout
    monkeypatch.setattr(checking, "planned_untried", lambda _: None)
    assert affinet("check", "job.toml").stdout == quick
