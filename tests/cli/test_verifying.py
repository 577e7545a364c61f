from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import affinet as library
from affinet import families
from affinet.cli.files import safetensors_weights
from affinet.system.stored.planfile import write_system
from affinet.system.system import System
from tests.cli.conftest import SMALL, Command

SUMS = '[[rule]]\nname = "sums"\nsays = "hidden1.weight.sum(dim=1) == 1"\n'


@pytest.fixture
def run(affinet: Command, folder: Path) -> Path:
    """The folder of a run of the small job under a tie and row sums."""
    (folder / "job.toml").write_text(SMALL + SUMS)
    assert affinet("train", folder / "job.toml", "--out", "run").exit_code == 0
    return folder / "run"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a plan about two weights, and weights that satisfy it."""
    w = library.weights({"a": (2, 3), "b": (3,)})
    library.plan([(w.a.sum(1) == 1).named("[bold]sums[/bold]"), w.a[0] == 2 * w.b]).save(tmp_path / "plan")
    save(tmp_path)
    return tmp_path


def save(folder: Path, **changes: Any) -> None:
    state = {"a": torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, -1.0]]), "b": torch.tensor([0.25, 0.125, 0.125])}
    save_file({name: value for name, value in (state | changes).items() if value is not None}, folder / "model")


def test_a_finished_run_holds(affinet: Command, run: Path) -> None:
    result = affinet("verify", run / "model.safetensors", run / "plan.safetensors")
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["rule", "equations", "largest", "violation", "times", "rounding"]
    assert lines[2] == ["a", "tie", "1", "0", "0", "holds"]
    assert lines[3][:2] + lines[3][-1:] == ["sums", "5", "holds"]
    assert float(lines[3][2]) < 1e-6
    assert result.stdout.rstrip().splitlines()[-1].startswith("The rules hold: no equation is off by more than ")


def test_inequalities_and_balls_are_judged(affinet: Command, saved: Path) -> None:
    w = library.weights({"a": (2, 3), "b": (3,)})
    rules = [
        (w.b >= 0).named("low"),
        (w.a.sum(dim=1) <= [1, np.inf]).named("sums"),
        families.l2_ball(w.b, 0.3).named("ball"),
        (w.a[0] == 2 * w.b).named("tie"),
    ]
    write_system(System.of(rules), saved / "plan")
    result = affinet("verify", saved / "model", saved / "plan")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["rule", "rows", "largest", "violation", "times", "rounding"]
    figures = [[line[0], line[1], float(line[2]), line[-1]] for line in lines[2:6]]
    length = float(np.sqrt(0.25**2 + 2 * 0.125**2))
    assert figures[0] == ["low", "3", 0, "holds"]
    assert figures[1] == ["sums", "2", 0, "holds"]
    assert figures[2] == ["ball", "1", pytest.approx(length - 0.3, rel=0.05), "hold"]
    assert figures[3] == ["tie", "3", 0, "holds"]
    assert "1 of 4 rules does not hold: an equation or inequality is off by more than 16 times" in result.stdout
    assert result.exit_code == 1
    write_system(System.of(rules[:2]), saved / "plan")
    result = affinet("verify", saved / "model", saved / "plan")
    assert result.exit_code == 0
    assert "The rules hold: no equation or inequality is off by more than 0 times the rounding" in result.stdout


def test_weights_that_were_changed_do_not_hold(affinet: Command, run: Path) -> None:
    state = load_file(run / "model.safetensors")
    state["hidden1.weight"][3, 2] += 1e-3
    save_file(state, run / "other.safetensors")
    result = affinet("verify", run / "other.safetensors", run / "plan.safetensors")
    assert result.exit_code == 1
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[2][-1] == "holds"
    assert lines[3][-3:] == ["does", "not", "hold"]
    assert float(lines[3][2]) == pytest.approx(1e-3, rel=1e-2)
    assert result.stdout.endswith(
        "1 of 2 rules does not hold: an equation is off by more than 16 times the rounding of the weights in it.\n"
    )


def test_the_loaded_plan_of_a_run_is_the_plan_in_words(run: Path) -> None:
    assert f"{library.Plan.load(run / 'plan.safetensors')}\n" == (run / "plan.txt").read_text()


def test_names_are_shown_as_they_are(affinet: Command, saved: Path) -> None:
    result = affinet("verify", saved / "model", saved / "plan")
    assert (result.exit_code, "[bold]sums[/bold]" in result.stdout) == (0, True)


@pytest.mark.parametrize(("columns", "folded"), [(None, False), ("300", False), ("60", True)])
def test_a_long_name_is_folded_where_a_width_is_known_alone(
    affinet: Command, saved: Path, monkeypatch: pytest.MonkeyPatch, columns: str | None, folded: bool
) -> None:
    name = "a rule whose name is " + "very " * 30 + "long"
    library.plan((library.weights({"a": (2, 3)}).a.sum(1) == 1).named(name)).save(saved / "plan")
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    lines = affinet("verify", saved / "model", saved / "plan").stdout.splitlines()
    assert any(name in line for line in lines) is not folded
    assert len(lines) == 5 or folded
    assert max(map(len, lines[:-1])) <= int(columns or 240)


def test_names_that_a_terminal_would_obey(affinet: Command, saved: Path) -> None:
    library.plan((library.weights({"a": (2, 3)}).a.sum(1) == 1).named("x\x1b[2J")).save(saved / "plan")
    assert "x�[2J" in affinet("verify", saved / "model", saved / "plan").stdout


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_dtype(affinet: Command, saved: Path, dtype: torch.dtype) -> None:
    state = load_file(saved / "model")
    save(saved, **{name: value.to(dtype) for name, value in state.items()})
    assert affinet("verify", saved / "model", saved / "plan").exit_code == 0
    wrong = state["b"].to(dtype)
    wrong[1] *= 1.25
    save(saved, a=state["a"].to(dtype), b=wrong)
    assert affinet("verify", saved / "model", saved / "plan").exit_code == 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_weights_that_hold_nan_are_named(affinet: Command, saved: Path, dtype: torch.dtype) -> None:
    state = {name: value.to(dtype) for name, value in load_file(saved / "model").items()}
    state["a"][1, :2] = float("nan")
    save(saved, **state)
    result = affinet("verify", saved / "model", saved / "plan")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-2:] == [
        "1 of 2 rules does not hold, and no distance can be given.",
        "a holds NaN in 2 of its 6 entries. The training diverged, or the file is damaged: take weights from before.",
    ]
    state["b"][0] = float("-inf")
    save(saved, **state)
    told = affinet("verify", saved / "model", saved / "plan").stdout
    assert "2 of 2 rules do not hold, and no distance can be given." in told
    assert "a holds NaN in 2 of its 6 entries. b holds infinity in 1 of its 3 entries. The training" in told


def test_nan_and_rules_that_do_not_hold_are_both_told(affinet: Command, saved: Path) -> None:
    state = load_file(saved / "model")
    state["a"][1, 0], state["b"][1] = float("nan"), 2
    save(saved, **state)
    told = affinet("verify", saved / "model", saved / "plan").stdout
    assert "2 of 2 rules do not hold: an equation is off by more than 16 times the rounding" in told
    assert "\na holds NaN in 1 of its 6 entries." in told
    save(saved)
    assert "NaN" not in affinet("verify", saved / "model", saved / "plan").stdout


def test_nan_that_no_rule_reaches_is_named_too(affinet: Command, saved: Path) -> None:
    w = library.weights({"a": (2, 3), "b": (3,)})
    library.plan(w.b[0] == 2 * w.b[1]).save(saved / "plan")
    save(saved, a=torch.full((2, 3), float("nan")), b=torch.tensor([0.5, 0.25, float("nan")]))
    result = affinet("verify", saved / "model", saved / "plan")
    assert result.exit_code == 0
    assert "b holds NaN in 1 of its 3 entries." in result.stdout
    assert "a holds" not in result.stdout


def test_only_the_weights_of_the_rules_are_read(affinet: Command, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(saved, embedding=torch.zeros(10))
    read: list[int] = []
    real = safetensors_weights.read_bytes

    def recorded(path: Path, first: int, count: int) -> Any:
        read.append(count)
        return real(path, first, count)

    monkeypatch.setattr(safetensors_weights, "read_bytes", recorded)
    assert affinet("verify", saved / "model", saved / "plan").exit_code == 0
    assert sorted(read) == [3 * 4, 6 * 4, 6 * 4]  # b, and a once for each of its rules


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"b": None, "bb": torch.zeros(3)}, "model has no weight 'b', which the plan needs. Did you mean 'bb'?"),
        ({"a": torch.zeros(3, 2)}, "a in {}/model has shape (3, 2), and the plan needs shape (2, 3)."),
        ({"b": torch.zeros(3, dtype=torch.int8)}, "b in {}/model is of type I8; rules are about weights of"),
    ],
    ids=["missing", "misshapen", "integers"],
)
def test_weights_that_are_not_those_of_the_plan(
    affinet: Command, saved: Path, changes: dict[str, Any], told: str
) -> None:
    save(saved, **changes)
    result = affinet("verify", saved / "model", saved / "plan")
    assert result.exit_code == 2
    assert told.format(saved) in result.stderr


def test_files_that_are_none(affinet: Command, saved: Path) -> None:
    torch.save({"a": torch.zeros(2, 3)}, saved / "model.pt")
    for model, plan, told in (
        ("none", "plan", "none does not exist. Name a .safetensors, .npz, "),
        (".", "plan", "is a folder without weights of a kind that is read: a .safetensors file, or several and"),
        ("model.pt", "plan", "model.pt is not a readable safetensors file: "),
        ("plan", "model", "model is a safetensors file without a plan, such as the weights of a model."),
        ("model", "none", "none does not exist. Name a file of Plan.save."),
    ):
        result = affinet("verify", saved / model, saved / plan)
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("error: ")
        assert told in result.stderr


def test_a_plan_without_rules(affinet: Command, saved: Path) -> None:
    library.plan([]).save(saved / "plan")
    result = affinet("verify", saved / "model", saved / "plan")
    assert (result.exit_code, result.stdout) == (0, "The plan has no rules, so there is nothing to check.\n")


def test_what_trains_in_16_bits_is_judged_in_16_bits(affinet: Command, saved: Path) -> None:
    wide = torch.tensor(np.random.default_rng(0).normal(size=(2, 3)), dtype=torch.bfloat16)
    plan = library.plan(library.weights({"a": (2, 3)}).a.sum(1) == 1)
    plan.save(saved / "plan")
    save(saved, **plan.projector({"a": wide}).project({"a": wide}))
    assert affinet("verify", saved / "model", saved / "plan").exit_code == 0
    save(saved, a=wide)
    result = affinet("verify", saved / "model", saved / "plan")
    assert (result.exit_code, "more than 2 times the rounding" in result.stdout) == (1, True)
