from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import affinet as library
from affinet.cli.trainings.network import build_network
from affinet.cli.trainings.rules import read_rules
from affinet.errors import JobError
from tests.cli.conftest import SMALL, changed, job_of

LINEAR = (
    SMALL[: SMALL.index("[[rule]]")]
    + """\
[[rule]]
name = "A w = b"
weights = ["hidden1.weight", "output.bias"]
matrix = "A.npy"
rhs = "b.npy"
"""
)
A = np.eye(17)[[0, 15]]


def plan_of(text: str, folder: Path) -> library.Plan:
    """The plan of a job's rules over 3 - 5 - 2 sizes: 15 weights in hidden1, two biases in output."""
    job = job_of(text, folder)
    return library.plan(read_rules(job, build_network(job, 3, 2)))


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
def test_a_sentence_and_a_matrix_become_rules_of_their_names(tmp_path: Path) -> None:
    np.save(tmp_path / "A.npy", A)
    np.save(tmp_path / "b.npy", np.array([1.0, 2.0]))
    text = LINEAR + '[[rule]]\nsays = "output.bias[1] == 1"\n'
    assert (plan_of(text, tmp_path).rows, plan_of(text, tmp_path).rank) == (3, 3)
    job = job_of(text, tmp_path)
    assert [rule.name for rule in read_rules(job, build_network(job, 3, 2))] == ["A w = b", "output.bias[1] == 1"]


def test_a_sentence_on_many_layers_is_a_rule_on_each(tmp_path: Path) -> None:
    text = SMALL[: SMALL.index("[[rule]]")] + '[[rule]]\nname = "sums"\nsays = \'w["*.weight"].sum(dim=0) == 1\'\n'
    job = job_of(text, tmp_path)
    rules = read_rules(job, build_network(job, 3, 2))
    assert [rule.name for rule in rules] == ["sums [hidden1.weight]", "sums [output.weight]"]
    assert library.plan(rules).rank == 3 + 5
    wrong = text.replace("*.weight", "*.wieght")
    with pytest.raises(JobError, match=r'rule "sums": line 1, column 1: there is no weight named .\*\.wieght'):
        plan_of(wrong, tmp_path)


def test_the_columns_of_a_matrix_may_be_the_weights_of_a_pattern(tmp_path: Path) -> None:
    np.save(tmp_path / "A.npy", np.ones((1, 5 + 2)))
    text = LINEAR.replace('weights = ["hidden1.weight", "output.bias"]', 'weights = ["*.bias"]')
    assert plan_of(text.replace('"b.npy"', "0"), tmp_path).rank == 1


@pytest.mark.parametrize("rhs", ["rhs = 0.5", "rhs = 2", ""])
def test_a_number_on_the_right_stands_for_every_row_and_zero_is_its_default(tmp_path: Path, rhs: str) -> None:
    np.save(tmp_path / "A.npy", A)
    assert plan_of(LINEAR.replace('rhs = "b.npy"', rhs), tmp_path).rank == 2


@pytest.mark.parametrize("name", ["A.npy", "A.npz", "sparse.npz", "A.mtx", "A.csv", "A.mat"])
def test_every_format_gives_the_same_plan(tmp_path: Path, name: str) -> None:
    np.save(tmp_path / "A.npy", A)
    np.savez(tmp_path / "A.npz", A=A)
    scipy.sparse.save_npz(tmp_path / "sparse.npz", scipy.sparse.csr_array(A))
    scipy.io.mmwrite(tmp_path / "A.mtx", scipy.sparse.coo_array(A))
    np.savetxt(tmp_path / "A.csv", A, delimiter=",")
    scipy.io.savemat(tmp_path / "A.mat", {"A": A, "b": np.zeros(2)})
    reference = plan_of(LINEAR.replace('"b.npy"', "0"), tmp_path)
    rhs = '"A.mat"\nvariable = "A"\nrhs_variable = "b"' if name == "A.mat" else "0"
    plan = plan_of(LINEAR.replace('"b.npy"', rhs).replace("A.npy", name), tmp_path)
    assert (plan.rows, plan.rank, plan.size, str(plan)) == (2, 2, reference.size, str(reference))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden1.weight[0, 1]", "hiden1.weight[0, 1]", r'line 17: rule "a tie": .*hiden1'),
        ("hidden1.weight[0, 1]", "hidden1.weight[0, 9]", r'line 17: rule "a tie": '),
        ("hidden1.weight[0, 1] ==", "hidden1.weight[0, 1] = =", r'line 17: rule "a tie": '),
        ("hidden1.weight[0, 1]", "hidden1.weight[0, 1] * hidden1.bias[0]", r'line 17: rule "a tie": .*not affine'),
        ("hidden1.weight[0, 1]", "1 == hidden1.weight[0, 1]", r'line 17: rule "a tie": '),
        ("hidden1.weight[0, 1]", "__import__('os')", r'line 17: rule "a tie": '),
    ],
)
def test_a_sentence_that_is_no_rule_is_told_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(JobError, match=f"(?s)job.toml, {message}"):
        plan_of(changed((old, new)), tmp_path)


def test_wrong_files_and_weights_are_told_with_the_line_of_their_key(tmp_path: Path) -> None:
    with pytest.raises(JobError, match=r'line 18: rule "A w = b": there is no file .*A.npy'):
        plan_of(LINEAR, tmp_path)
    np.save(tmp_path / "A.npy", A)
    with pytest.raises(JobError, match=r'line 19: rule "A w = b": there is no file .*b.npy'):
        plan_of(LINEAR, tmp_path)
    with pytest.raises(
        JobError, match=r'line 17: rule "A w = b": there is no weight named \'output.bais\'. Did you mean'
    ):
        plan_of(LINEAR.replace("output.bias", "output.bais").replace('"b.npy"', "0"), tmp_path)
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(JobError, match=r'line 18: rule "A w = b": '):
        plan_of(LINEAR, tmp_path)
    np.save(tmp_path / "A.npy", A[:, :5])
    with pytest.raises(JobError, match=r'(?s)line 18: rule "A w = b": .*5.*17'):
        plan_of(LINEAR.replace('"b.npy"', "0"), tmp_path)
