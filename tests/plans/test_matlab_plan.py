"""MATLAB files of plans: inequalities, bounds and names come back; MATLAB's own files; what a file may not say."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import scipy.sparse

import affinet
from affinet import Plan, families
from affinet.errors import PlanFileError
from tests.training import published_problems

SHAPES: dict[str, tuple[int, ...]] = {"layer.weight": (2, 3), "Σ": (2,), "scale": (), "kernel": (2, 2, 3)}
PROBLEMS = {name: make() for name, make in published_problems.PROBLEMS.items()}


def mixed_plan() -> Plan:
    w = affinet.weights(SHAPES)
    return affinet.plan(
        [
            (w["layer.weight"].sum(dim=1) == 1).named("sums Σ\\x"),
            w["Σ"] >= 0,
            w["layer.weight"] <= np.array([5, 4, np.inf]),
            (2 * w["layer.weight"][0, 0] + w.scale >= 3).named("low"),
            w["layer.weight"][1] <= w["layer.weight"][0],
            w.kernel[0, 1, 2] == 2 * w.kernel[1, 0, 0] + 1,
        ]
    )


def draws(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {name: np.asarray(3 * draw.standard_normal(shape)) for name, shape in shapes.items()}


def moved_apart(first: Plan, second: Plan, arrays: Mapping[str, np.ndarray]) -> float:
    """The largest difference of two projections, over the size of the weights."""
    one, other = (plan.projector(arrays).project(arrays) for plan in (first, second))
    size = max(1.0, *(float(np.abs(array).max()) for array in arrays.values()))
    return max(float(np.abs(one[name] - other[name]).max()) for name in arrays) / size


@pytest.mark.parametrize("column_order", ["row-major", "column-major"])
def test_inequalities_bounds_and_names_come_back(tmp_path: Path, column_order: Any) -> None:
    plan = mixed_plan()
    plan.to_mat(tmp_path / "plan.mat", column_order=column_order)
    again = Plan.from_mat(tmp_path / "plan.mat")
    assert {rule.name for rule in again.system.rules} >= {"sums Σ\\x", "low", plan.system.rules[4].name}
    assert [rule.sense for rule in again.system.rules if rule.name == "low"] == [">="]
    assert (again.rows, again.rank) == (plan.rows, plan.rank)
    for seed in range(5):
        # Both project by the same method, onto rows that are equal to the bit but for the bounds.
        assert moved_apart(plan, again, draws(SHAPES, seed)) < 1e-12


@pytest.mark.parametrize("name", PROBLEMS)
def test_published_sets_come_back(name: str, tmp_path: Path) -> None:
    problem = PROBLEMS[name]
    plan = affinet.plan(problem.rules(affinet.weights({"w": problem.start.shape}).w))
    plan.to_mat(tmp_path / "plan.mat")
    again = Plan.from_mat(tmp_path / "plan.mat")
    weights = {"w": problem.start + draws({"w": problem.start.shape})["w"]}
    assert moved_apart(plan, again, weights) < 1e-9  # the accuracy of the projections onto polyhedra (numerics.md)


def test_matlab_reads_the_weights_as_the_page_says(tmp_path: Path) -> None:
    """The lines of docs/scipy.md in NumPy, whose order "F" is MATLAB's order."""
    arrays = draws(SHAPES)
    for order in ("row-major", "column-major"):
        mixed_plan().to_mat(tmp_path / "plan.mat", column_order=order)
        content = scipy.io.loadmat(tmp_path / "plan.mat", simplify_cells=False)
        assert content["column_order"] == [order]
        x = np.full(content["A"].shape[1], np.nan)
        for struct in content["weights"][:, 0]:
            name = str(struct["name"][0]).encode().decode("unicode_escape")
            first, last = (int(struct[key][0, 0]) for key in ("first", "last"))
            shape = tuple(int(n) for n in struct["shape"].reshape(-1))
            assert shape == SHAPES[name]
            values = arrays[name]
            if order == "row-major":  # permute(W, ndims(W):-1:1)
                values = values.transpose()
            x[first - 1 : last] = values.ravel(order="F")
        named = dict(zip(["sums", "ties"], [slice(0, 2), slice(2, 3)], strict=True))
        gaps = content["A"] @ x - content["b"][:, 0]
        np.testing.assert_allclose(gaps[named["sums"]], arrays["layer.weight"].sum(axis=1) - 1, atol=1e-14)
        kernel = arrays["kernel"]
        np.testing.assert_allclose(gaps[named["ties"]], kernel[0, 1, 2] - 2 * kernel[1, 0, 0] - 1, atol=1e-14)
        layer = arrays["layer.weight"]
        low = [3 - 2 * layer[0, 0] - arrays["scale"], *(layer[1] - layer[0])]
        np.testing.assert_allclose(content["G"] @ x - content["h"][:, 0], low, atol=1e-14)


def test_a_file_has_what_matlab_can_hold(tmp_path: Path) -> None:
    """Names of variables and fields of at most 31 letters, no cells, columns as columns, float64."""
    mixed_plan().to_mat(tmp_path / "plan.mat")
    content = {k: v for k, v in scipy.io.loadmat(tmp_path / "plan.mat").items() if not k.startswith("__")}
    assert set(content) == {"written_by", "column_order", "A", "b", "G", "h", "lb", "ub", "weights", "rules"}
    for name in ("weights", "rules"):
        assert all(len(field) <= 31 for field in content[name].dtype.names)
        assert content[name].shape[1] == 1
    for name in ("b", "h", "lb", "ub"):
        assert (content[name].shape[1], content[name].dtype) == (1, np.float64)
    assert all(scipy.sparse.issparse(content[name]) and content[name].dtype == np.float64 for name in "AG")


def matlabs(**changes: Any) -> dict[str, Any]:
    """A file as somebody writes it in MATLAB: a (2, 2) weight and a bias, entries as in W(:)."""
    structs = np.array(
        [[("W", np.array([[2.0, 2.0]]))], [("bias", np.array([[1.0, 2.0]]))]], [("name", "O"), ("shape", "O")]
    )
    content = {
        "weights": structs,
        "column_order": "column-major",
        "A": np.array([[1.0, 1, 0, 0, 0, 0]]),
        "b": np.array([[1.0]]),
        "ub": np.array([[np.inf, 2, np.inf, np.inf, 0, np.inf]]),
    }
    return {name: value for name, value in (content | changes).items() if value is not None}


def write(path: Path, content: Mapping[str, Any]) -> Path:
    scipy.io.savemat(path, dict(content))
    return path


def test_a_file_that_was_written_in_matlab(tmp_path: Path) -> None:
    plan = Plan.from_mat(write(tmp_path / "mine.mat", matlabs()))
    assert {p.name: p.shape for p in plan.parameters} == {"W": (2, 2), "bias": (1, 2)}
    arrays = {"W": np.array([[2.0, 0.0], [3.0, 0.0]]), "bias": np.array([[1.0, 1.0]])}
    projected = plan.projector(arrays).project(arrays)
    np.testing.assert_allclose(projected["W"], [[0, 0], [1, 0]], atol=1e-15)  # the first column of W sums to 1
    np.testing.assert_array_equal(projected["bias"], [[0, 1]])


@pytest.mark.parametrize("compress", [False, True])
def test_text_and_numbers_of_other_kinds_are_read(tmp_path: Path, compress: bool) -> None:
    content = matlabs(A=scipy.sparse.csc_array([[1, 1, 0, 0, 0, 0]], dtype=np.int8), b=np.uint8(1), ub=None)
    scipy.io.savemat(tmp_path / "mine.mat", content, do_compression=compress)
    assert Plan.from_mat(tmp_path / "mine.mat").rank == 1


def test_rules_of_no_name_and_of_several_rows(tmp_path: Path) -> None:
    structs = np.array([[("first two", np.array([[1.0, 2.0]]))]], [("name", "O"), ("A", "O")])
    content = matlabs(A=np.eye(3, 6), b=np.zeros((3, 1)), rules=structs, ub=None)
    plan = Plan.from_mat(write(tmp_path / "mine.mat", content))
    assert (plan.system.rules[0].name, plan.system.rules[0].equations) == ("first two", 2)
    assert plan.rows == 3


def structs(*names_and_shapes: tuple[Any, Any], **more: Any) -> np.ndarray:
    fields = [("name", "O"), ("shape", "O"), *((name, "O") for name in more)]
    return np.array([[(*pair, *more.values())] for pair in names_and_shapes], fields)


RULES = np.array([[("r", np.array([[4.0]]))]], [("name", "O"), ("A", "O")])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"weights": None}, "does not say which weights its columns are"),
        ({"weights": np.eye(2)}, "does not say which weights its columns are"),
        ({"weights": structs(("W", [[2.0, 2.0]]), ("W", [[1.0, 2.0]]))}, "weights(2) with name 'W'"),
        ({"weights": structs(("", [[6.0]]))}, "weights(1) with name ''"),
        ({"weights": structs(("W", [[2.5, 2.0]]))}, "weights(1) with name 'W' and shape [[2.5 2. ]]"),
        ({"weights": structs(("W", [[-1.0]]))}, "weights(1) with name 'W' and shape [[-1.]]"),
        ({"weights": structs(("W", [[2.0**30, 2.0**30]]))}, "weights(1) with name 'W'"),
        ({"weights": structs(("W", "two by two"))}, "weights(1) with name 'W' and shape two by two"),
        ({"weights": structs(("W", [[6.0]]), first=2.0)}, "weights(1).first = [2.], and the weights before"),
        ({"weights": structs(("W", [[5.0]]))}, "A of 6 columns, and its weights have 5 entries"),
        ({"column_order": None}, "has no variable column_order. Save column_order = 'column-major'"),
        ({"column_order": "F"}, "has 'F' in column_order"),
        ({"column_order": 1.0}, "is not text of a single line"),
        ({"A": None, "ub": None}, "holds no rules: it has b, column_order, weights"),
        ({"b": None}, "holds no b, and 1 numbers are needed. It has A, column_order, ub, weights"),
        ({"b": np.ones(2)}, "holds 2 numbers in b, and 1 are needed"),
        ({"b": np.array([[np.inf]])}, "holds NaN, infinite or huge numbers in b"),
        ({"ub": np.full(6, np.nan)}, "holds NaN in ub"),
        ({"ub": np.full(5, 1.0)}, "holds 5 numbers in ub, and 6 are needed"),
        ({"lb": np.full(6, 3.0)}, "holds rules that cannot be read"),
        ({"lb": np.full(6, np.inf)}, "holds rules that cannot be read"),
        ({"A": np.full((1, 6), np.nan)}, "holds NaN, infinite or huge numbers in A"),
        ({"A": np.full((1, 6), 1e200)}, "holds NaN, infinite or huge numbers in A"),
        ({"A": np.ones((1, 6), complex)}, "holds complex numbers"),
        ({"A": "text"}, "'A' holds text, not numbers"),
        ({"G": np.ones((2, 6))}, "holds no h, and 2 numbers are needed"),
        ({"rules": RULES}, "holds rules(1).A, which are not rows 1 to 1 of A, each in one rule"),
        ({"A": np.ones((2, 6)), "b": np.array([[1.0, 2.0]])}, "holds rules that cannot be planned"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(PlanFileError) as caught:
        Plan.from_mat(write(tmp_path / "mine.mat", matlabs(**changes)))
    assert told in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "mine.mat"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is not a readable MATLAB file"),
        (b"PK\x03\x04" + bytes(300), "is not a readable MATLAB file"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512), "save it again with: save('mine.mat'"),
    ],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "mine.mat").write_bytes(content)
    with pytest.raises(PlanFileError, match=r"mine\.mat") as caught:
        Plan.from_mat(tmp_path / "mine.mat")
    assert told in str(caught.value)


def test_a_missing_file_and_other_arguments(tmp_path: Path) -> None:
    with pytest.raises(PlanFileError, match="does not exist"):
        Plan.from_mat(tmp_path / "none.mat")
    with pytest.raises(PlanFileError, match="is not a path"):
        Plan.from_mat(3)  # type: ignore[arg-type]
    with pytest.raises(PlanFileError, match="cannot be written"):
        mixed_plan().to_mat(tmp_path / "none" / "plan.mat")
    with pytest.raises(PlanFileError, match="column_order is 'C'"):
        mixed_plan().to_mat(tmp_path / "plan.mat", column_order="C")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_rules_that_a_matrix_cannot_say_are_named(tmp_path: Path) -> None:
    w = affinet.weights({"w": (3,)}).w
    with pytest.raises(PlanFileError, match='rule "unit" is not linear'):
        affinet.plan((w @ w == 1).named("unit")).to_mat(tmp_path / "plan.mat")
    with pytest.raises(PlanFileError, match='rule "short" is not linear'):
        affinet.plan(families.l2_ball(w, 1).named("short")).to_mat(tmp_path / "plan.mat")


def test_a_matrix_beyond_what_a_file_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.plans.matlab_plan.MOST_BYTES", 100)
    with pytest.raises(PlanFileError, match="A takes 168 bytes, and a MATLAB file holds 100 of one matrix"):
        mixed_plan().to_mat(tmp_path / "plan.mat")


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_an_existing_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "plan.mat"
    path.write_text("before")
    mixed_plan().to_mat(path)
    assert Plan.from_mat(path).rank == mixed_plan().rank
    assert [each.name for each in tmp_path.iterdir()] == ["plan.mat"]


def test_a_plan_without_rules(tmp_path: Path) -> None:
    affinet.plan([]).to_mat(tmp_path / "plan.mat")
    assert Plan.from_mat(tmp_path / "plan.mat").rows == 0
