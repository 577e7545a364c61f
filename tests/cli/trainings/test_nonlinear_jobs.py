"""Jobs whose rules are nonlinear equations: checked, trained, saved and verified as those of linear ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.cli.conftest import SMALL, Command

ROUNDING = 2.0**-24
RULES = """\
[[rule]]
name = "unit rows"
says = "unit_norm(hidden1.weight, dim=1)"
[[rule]]
says = "orthogonal(output.weight)"
[[rule]]
says = "hidden1.bias @ hidden1.bias == sqrt(2)"
[[rule]]
says = "output.bias[0] * output.bias[1] == 2**-4"
"""


def test_a_job_with_nonlinear_rules_trains_and_its_weights_are_verified(affinet: Command, folder: Path) -> None:
    (folder / "job.toml").write_text(SMALL + RULES)
    checked = affinet("check", "job.toml")
    assert checked.exit_code == 0, checked.output
    assert "No contradictions: 11 equations, rank 11" in checked.stdout
    trained = affinet("train", "job.toml", "--out", "run")
    assert trained.exit_code == 0, trained.output
    weights = {
        name: weight.double().numpy() for name, weight in load_file(folder / "run" / "model.safetensors").items()
    }
    rows, output, bias = weights["hidden1.weight"], weights["output.weight"], weights["hidden1.bias"]
    assert rows[0, 1] == rows[2, 0]
    # Rounding the weights of a sum of squares to float32 moves it by twice its size in units of rounding; the return
    # stops at 8 such units for the terms and their derivatives (docs/nonlinear.md).
    np.testing.assert_allclose((rows**2).sum(axis=1), 1.0, atol=32 * ROUNDING)
    np.testing.assert_allclose(output @ output.T, np.eye(2), atol=32 * ROUNDING)
    assert bias @ bias == pytest.approx(np.sqrt(2.0), abs=32 * np.sqrt(2.0) * ROUNDING)
    assert np.prod(weights["output.bias"]) == pytest.approx(2.0**-4, abs=32 * 2.0**-4 * ROUNDING)
    verified = affinet("verify", folder / "run" / "model.safetensors", folder / "run" / "plan.safetensors")
    assert verified.exit_code == 0, verified.output
    assert "The rules hold" in verified.stdout


@pytest.mark.parametrize("command", ["check", "train"])
def test_nonlinear_rules_without_a_solution_are_found_before_training(
    command: str, affinet: Command, folder: Path
) -> None:
    for says in ("hidden1.bias**2 == -1", "exp(output.bias) == -1"):
        (folder / "job.toml").write_text(f'{SMALL}[[rule]]\nsays = "{says}"\n')
        result = affinet(command, "job.toml", *(() if command == "check" else ("--out", "run")))
        assert result.exit_code == 1
        assert "no weights that satisfy this rule were found" in " ".join(result.output.split())


def test_mistakes_in_nonlinear_rules_are_told_with_their_place(affinet: Command, folder: Path) -> None:
    for says, message in (
        ("2**hidden1.bias == 1", "a power with weights in the exponent"),
        ("det(hidden1.weight) == 1", "needs square matrices"),
        ("hidden1.weight @ output.bias == 1", "inner sizes 3 and 2 must be equal"),
        ("hidden1.bias == 9**9**9", "larger than any float64"),
    ):
        (folder / "job.toml").write_text(f'{SMALL}[[rule]]\nsays = "{says}"\n')
        result = affinet("check", "job.toml")
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())


def test_rules_from_files_of_sentences_and_of_polynomials(affinet: Command, folder: Path) -> None:
    (folder / "rules.txt").write_text("# one per line\nhidden1.bias[0] * hidden1.bias[1] == 2\nhidden1.bias[2] == 1\n")
    (folder / "system.csv").write_text("0, 1, 0, 2\n0, 1, 1, 2\n0, -2, 0, 0\n")
    rules = """\
[[rule]]
name = "biases"
sentences = "rules.txt"
[[rule]]
name = "circle"
polynomials = "system.csv"
weights = ["output.bias"]
"""
    (folder / "job.toml").write_text(SMALL + rules)
    checked = affinet("check", "job.toml")
    assert "biases [line 2]" in checked.stdout, checked.output
    trained = affinet("train", "job.toml", "--out", "run")
    assert trained.exit_code == 0, trained.output
    weights = load_file(folder / "run" / "model.safetensors")
    hidden, output = weights["hidden1.bias"].double().numpy(), weights["output.bias"].double().numpy()
    # As above: the return stops at 8 roundoffs of the terms and of the derivatives times weights, then weights round.
    assert hidden[0] * hidden[1] == pytest.approx(2.0, abs=64 * ROUNDING)
    assert output @ output == pytest.approx(2.0, abs=64 * ROUNDING)
    assert hidden[2] == 1.0


def test_mistakes_in_files_of_rules_are_told_with_file_and_line(affinet: Command, folder: Path) -> None:
    (folder / "rules.txt").write_text("\nhidden1.bias[0] = 2\n")
    (folder / "system.csv").write_text("0, 1, 9, 2\n")
    for rule, message in (
        ('sentences = "rules.txt"', "rules.txt: line 2, column 17: this is not a rule"),
        ('sentences = "other.txt"', "there is no file"),
        (
            'polynomials = "system.csv"\nweights = ["output.bias"]',
            "the entries in the table of polynomial must be 0 to 1",
        ),
    ):
        (folder / "job.toml").write_text(f"{SMALL}[[rule]]\n{rule}\n")
        result = affinet("check", "job.toml")
        assert result.exit_code == 2
        assert message in " ".join(result.output.split())
