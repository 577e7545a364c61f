"""What `affinet check` counts."""

from __future__ import annotations

from pathlib import Path

import pytest

import affinet
from affinet.cli.checking import _rows_text
from affinet.system.system import System
from tests.cli.conftest import SMALL, Command, changed
from tests.limits import limit_every_plan

a, b = affinet.weights({"a": (40, 50), "b": (3,)})


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([], "0 equations"),
        ([b.sum() == 1], "1 equation"),
        ([b == 0, b[0] >= 0], "3 equations, 1 inequality"),
        ([a >= 0, affinet.families.l2_ball(b, 1)], "2,001 inequalities"),
    ],
)
def test_equations_and_inequalities_are_counted_apart(rules: list[affinet.Constraint], text: str) -> None:
    assert _rows_text(System.of(rules)) == text


@pytest.fixture
def job(folder: Path) -> Path:
    (folder / "job.toml").write_text(SMALL)
    return folder / "job.toml"


def test_entries_are_explained_by_the_plan_of_the_job(affinet: Command, job: Path) -> None:
    asked = ["--explain", "hidden1.weight[0,1]", "--explain", "output.bias[0]", "--explain", "hidden1.weight[0, :]"]
    result = affinet("check", job, *asked)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "hidden1.weight[0, 1] moves with 1 other entry: one number decides them.",
        "  free: 0.5 (0 is determined, 1 is free)",
        "  moves with: hidden1.weight[2, 0]",
        "  tied to hidden1.weight[2, 0] by:",
        '    hidden1.weight[0, 1] - hidden1.weight[2, 0] == 0    "a tie"',
        "  in 1 equation:",
        '    hidden1.weight[0, 1] - hidden1.weight[2, 0] == 0    "a tie"',
        "  column 1 is about the feature 'width'",
        "output.bias[0] is in no rule: nothing constrains it.",
        "  free: 1 (0 is determined, 1 is free)",
        "hidden1.weight[0, :]: 3 entries",
        "  1 tied: one number decides each together with other entries",
        "  2 in no rule",
        "  free: 0.833 on average (0 is determined, 1 is free)",
        '  by "a tie"',
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("hiden1.weight[0, 1]", "error: there is no weight named 'hiden1.weight'. Did you mean 'hidden1.weight'"),
        ("hidden1", "error: there is no weight named 'hidden1'. Did you mean 'hidden1.bias' or 'hidden1.weight'?"),
        ("*.bias[0]", "error: there is no weight named '*.bias'."),
        ("hidden1.weight[9, 0]", "9"),
        ("hidden1.weight[0, x]", "an index holds integers and slices"),
        ("2 * hidden1.weight[0, 0]", "there is no weight named '2 * hidden1.weight'"),
        ("", "there is no weight named ''"),
    ],
)
def test_an_entry_that_is_not_there_is_status_2(affinet: Command, job: Path, entry: str, message: str) -> None:
    result = affinet("check", job, "--explain", entry)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not result.stdout


def test_an_explanation_says_which_rules_it_leaves_out(
    affinet: Command, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = '\n[[rule]]\nname = "low"\nsays = "hidden1.weight >= 0"\n'
    rules += '\n[[rule]]\nname = "long"\nsays = "unit_norm(hidden1.weight, dim=1)"\n'
    job.write_text(changed(("epochs = 3", 'epochs = 3\nmethod = "lagrange"')) + rules)
    limit_every_plan(monkeypatch, most_mixed=0)  # in place of thousands of weights
    result = affinet("check", job, "--explain", "hidden1.weight[0, 0]")
    assert result.exit_code == 0, result.output
    assert 'unit_norm(hidden1.weight, dim=1)    "long"' in result.stdout
    assert result.stdout.endswith("\nWithout 'low', which training approaches alone.\n")
