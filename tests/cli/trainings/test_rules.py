from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import affinet as library
from affinet.cli.trainings.planned_rules import plan_rules
from affinet.cli.trainings.rules import read_rules
from affinet.cli.trainings.torch.network import build_network
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
        (
            "hidden1.weight[0, 1]",
            "hidden1.weight[0, 1] ** hidden1.bias[0]",
            r'line 17: rule "a tie": .*not a function that rules can have',
        ),
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


def systems_of(text: str, folder: Path) -> list[tuple[str, str, int]]:
    """Name, sense and rows of each rule of a job."""
    job = job_of(text, folder)
    return [(rule.name or "", rule.sense, rule.rows) for rule in read_rules(job, build_network(job, 3, 2))]


INEQUALITIES = """\

[[rule]]
name = "G w <= h"
weights = ["hidden1.weight", "output.bias"]
matrix = "all.mat"
variable = "G"
sense = "<="
rhs = "all.mat"
rhs_variable = "h"
"""


@pytest.mark.parametrize("name", ["all.mat", "all.npz"])
def test_inequalities_stand_beside_equations_in_one_file(tmp_path: Path, name: str) -> None:
    G, h = np.ones((3, 17)), np.array([1.0, np.inf, 0.5])
    arrays = {"A": A, "b": np.zeros(2), "G": G, "h": h}
    scipy.io.savemat(tmp_path / "all.mat", arrays)
    np.savez(tmp_path / "all.npz", **arrays)  # type: ignore[arg-type]
    equations = LINEAR.replace('"A.npy"', '"all.mat"\nvariable = "A"').replace(
        '"b.npy"', '"all.mat"\nrhs_variable = "b"'
    )
    text = (equations + INEQUALITIES).replace("all.mat", name)
    assert systems_of(text, tmp_path) == [("A w = b", "==", 2), ("G w <= h", "<=", 3)]
    job = job_of(text, tmp_path)
    rule = read_rules(job, build_network(job, 3, 2))[1]
    np.testing.assert_array_equal(rule.expression.constant, -h)
    assert systems_of(text.replace("<=", ">=").replace('"h"', '"b"').replace('"G"', '"A"'), tmp_path)[1][1:] == (
        ">=",
        2,
    )


def test_bounds_that_leave_no_weights_are_told_with_their_line(tmp_path: Path) -> None:
    text = SMALL[: SMALL.index("[[rule]]")] + INEQUALITIES
    scipy.io.savemat(tmp_path / "all.mat", {"G": np.ones((2, 17)), "h": np.array([1.0, -np.inf])})
    with pytest.raises(
        JobError, match=r'rule "G w <= h": .*array\(2\) has 1 entry that is NaN or -inf, the first at 1'
    ):
        systems_of(text, tmp_path)
    scipy.io.savemat(tmp_path / "all.mat", {"G": np.ones((2, 17)), "h": np.array([np.nan, np.inf])})
    with pytest.raises(JobError, match=r"holds 1 NaN of 2 numbers; all must be finite or infinite"):
        systems_of(text, tmp_path)
    with pytest.raises(JobError, match=r"holds 2 NaN or infinite of 2 numbers; all must be finite\."):
        systems_of(text.replace('sense = "<="', 'sense = "=="'), tmp_path)


def test_a_sense_is_one_of_three_and_belongs_to_a_matrix(tmp_path: Path) -> None:
    text = SMALL[: SMALL.index("[[rule]]")] + INEQUALITIES
    with pytest.raises(JobError, match=r'sense of rule 1 = .*<.* is not valid; it takes "==", "<=" or ">="'):
        job_of(text.replace('"<="', '"<"'), tmp_path)
    with pytest.raises(JobError, match="rule 1 has both 'says' and 'sense'"):
        job_of(SMALL[: SMALL.index("[[rule]]")] + '[[rule]]\nsays = "output.bias >= 0"\nsense = ">="\n', tmp_path)


def test_inequalities_are_sentences_too(tmp_path: Path) -> None:
    start = SMALL[: SMALL.index("[[rule]]")]
    says = ["0 <= hidden1.weight", "simplex(output.weight, dim=0)", "l2_ball(hidden1.weight, 1, dim=1)"]
    text = start + "".join(f'[[rule]]\nname = "{k}"\nsays = "{sentence}"\n' for k, sentence in enumerate(says))
    assert systems_of(text, tmp_path) == [
        ("0", ">=", 15),
        ("1 [nonnegative]", ">=", 10),
        ("1 [sum]", "==", 5),
        ("2", "<=", 5),
    ]


def test_the_shortened_plan_of_a_job_has_no_advice_in_python(tmp_path: Path) -> None:
    lines = [f'"rule {k}" = "hidden1.weight[{k % 5}, {k // 5}] + {k + 2} * output.bias[0] == 1"' for k in range(15)]
    lines += [f'"bound {k}" = "hidden1.bias[{k % 5}] >= {-k - 1}"' for k in range(40)]
    job = job_of(SMALL[: SMALL.index("[[rule]]")] + "\n".join(["[rules]", *lines]), tmp_path)
    planned = plan_rules(job, build_network(job, 3, 2))
    assert "15 more rules: print(plan.table()) shows all" in str(planned.plan)
    assert "15 more rules\n" in str(planned)
    assert "plan." not in str(planned)
