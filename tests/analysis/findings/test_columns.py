"""A matrix in another order than the weights is suspected where that is sure, and no ordinary one ever is."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy import sparse

import affinet
from affinet import families
from affinet.analysis.findings import columns as columns_module
from affinet.analysis.findings.columns import ColumnMajor, EmptyColumns, UnreadWeights
from affinet.analysis.findings.order import OtherOrder
from affinet.analysis.findings.overlooked import Overlooked
from tests.contract.building import PATHS, plan_of
from tests.contract.case import Case
from tests.contract.cases import CASES

pytestmark = pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")

SHAPES = {"a": (4, 6), "b": (4,), "t": (6, 4), "k": (3, 5, 2), "square": (4, 4), "half": (3, 6)}
W = affinet.weights(SHAPES)


def found(rule: affinet.Constraint) -> list[ColumnMajor | EmptyColumns | UnreadWeights | OtherOrder]:
    told = affinet.plan([rule.named("A")]).findings
    return [finding for finding in told if isinstance(finding, ColumnMajor | EmptyColumns | UnreadWeights | OtherOrder)]


def by_column(matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The same equations for a weight that is flattened column by column."""
    return matrix.reshape(-1, *shape).transpose(0, 2, 1).reshape(len(matrix), -1)


@cache
def ordinary(m: int, n: int) -> dict[str, np.ndarray]:
    """Matrices for a weight of shape (m, n) as people make them."""
    random = np.random.default_rng(0)
    rows, columns = np.kron(np.eye(m), np.ones(n)), np.kron(np.ones(m), np.eye(n))
    down, along = np.eye(m)[1:] - np.eye(m)[:-1], np.eye(n)[1:] - np.eye(n)[:-1]
    blocks = np.kron(np.kron(np.eye(m)[: m // 2], np.eye(n)[: n // 2]), np.ones(1))
    return {
        "identity": np.eye(m * n),
        "random": random.standard_normal((5, m * n)),
        "row sums": rows,
        "column sums": columns,
        "rows and columns": np.vstack([rows, columns]),
        "weighted rows": rows * random.standard_normal(m * n),
        "differences down": np.kron(down, np.eye(n)),
        "differences along": np.kron(np.eye(m), along),
        "differences of the flat weight": np.eye(m * n)[1:] - np.eye(m * n)[:-1],
        "second differences": np.diff(np.eye(m * n), 2, axis=0),
        "one row": rows[:1],
        "half rows": np.vstack([rows * (np.arange(m * n) % n < n // 2), rows * (np.arange(m * n) % n >= n // 2)]),
        "everything": np.ones((1, m * n)),
        "a block": blocks,
        "halves": np.kron(np.eye(2), np.ones(m * n // 2)),
        "pairs": np.kron(np.eye(m * n // 2), np.ones(2)),
    }


@pytest.mark.parametrize("name", ["a", "t", "square", "half"])
@pytest.mark.parametrize("kind", ordinary(4, 6))
def test_an_ordinary_matrix_is_never_suspected(name: str, kind: str) -> None:
    matrix = ordinary(*SHAPES[name])[kind]
    for form in (np.asarray, sparse.csr_array):
        assert found(families.linear([W[name]], form(matrix), 0)) == []


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_no_case_of_the_contract_is_suspected(case: Case, path: str) -> None:
    assert not any(isinstance(finding, ColumnMajor | OtherOrder) for finding in plan_of(case.name, path).findings)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("row sums", "whole rows"),
        ("column sums", "whole columns"),
        ("weighted rows", "whole rows"),
        ("differences down", "differences down its columns"),
        ("differences along", "differences along its rows"),
    ],
)
@pytest.mark.parametrize("name", ["a", "t"])
def test_a_matrix_for_the_weight_column_by_column_is_suspected(kind: str, line: str, name: str) -> None:
    matrix = by_column(ordinary(*SHAPES[name])[kind], SHAPES[name])
    (one,) = found(families.linear([W[name]], matrix, 0))
    assert isinstance(one, ColumnMajor)
    assert (one.weight, one.shape, one.line) == (name, SHAPES[name], line)
    assert f'A in "A" looks transposed: its equations about {name} of shape {SHAPES[name]} read {line}' in str(one)
    assert f"list {name}.T in place of {name}" in str(one)


@pytest.mark.parametrize("kind", ["row sums", "column sums", "differences down"])
def test_the_way_out_says_what_was_meant(kind: str) -> None:
    matrix = ordinary(4, 6)[kind]
    meant = affinet.plan(families.linear([W.a], matrix, 0))
    mended = affinet.plan(families.linear([W.a.T], by_column(matrix, (4, 6)), 0))
    values = {"a": np.random.default_rng(0).standard_normal((4, 6))}
    one, other = (plan.projector(values).project(values)["a"] for plan in (meant, mended))
    np.testing.assert_allclose(one, other, atol=1e-14)


def test_beside_other_weights_it_is_suspected_too() -> None:
    matrix = np.hstack([by_column(ordinary(4, 6)["row sums"], (4, 6)), -np.eye(4)])
    (one,) = found(families.linear([W.a, W.b], matrix, 0))
    assert isinstance(one, ColumnMajor)


def rows_and_bias(bias_first: bool) -> np.ndarray:
    parts = [ordinary(4, 6)["row sums"], -np.eye(4)]
    return np.hstack(parts[::-1] if bias_first else parts)


def test_weights_in_another_order_than_the_columns_are_suspected() -> None:
    (one,) = found(families.linear([W.a, W.b], rows_and_bias(bias_first=True), 0))
    assert one == OtherOrder("A", ("a", "b"), ("b", "a"))
    assert 'A in "A" looks misaligned: with its weights in the order [b, a] every equation reads whole rows' in str(one)
    columns = np.hstack([np.ones((6, 4)) * 2, ordinary(4, 6)["column sums"]])
    (one,) = found(families.linear([W.a, W.b], columns, 0))
    assert isinstance(one, OtherOrder)


@pytest.mark.parametrize(
    ("names", "matrix"),
    [
        ("ab", rows_and_bias(bias_first=False)),
        ("ba", rows_and_bias(bias_first=True)),
        ("at", np.hstack([ordinary(4, 6)["row sums"], ordinary(6, 4)["column sums"]])),
        ("ta", np.hstack([ordinary(6, 4)["row sums"][:4], ordinary(4, 6)["row sums"]])),
        ("ab", np.random.default_rng(0).standard_normal((5, 28))),
        ("ab", np.eye(28)),
        ("atb", np.random.default_rng(0).standard_normal((5, 52))),
        ("aa", np.hstack([ordinary(4, 6)["row sums"]] * 2)),
        ("ab", np.eye(28)[1:] - np.eye(28)[:-1]),
    ],
)
def test_weights_in_their_order_are_not_suspected(names: str, matrix: np.ndarray) -> None:
    assert found(families.linear([W[name] for name in names], matrix, 0)) == []


def test_a_listed_weight_that_is_not_read_is_told() -> None:
    matrix = np.hstack([ordinary(4, 6)["row sums"], np.zeros((4, 4))])
    (one,) = found(families.linear([W.a, W.b], matrix, 1))
    assert isinstance(one, UnreadWeights)
    assert one.weights == ("b",)
    assert str(one).startswith('A in "A" reads nothing of b: listed, and its columns are all zero.')
    both = affinet.plan([families.linear([W.a, W.b], matrix, 1).named("A"), W.b.sum() == 1])
    assert [finding for finding in both.findings if isinstance(finding, UnreadWeights)] == [one]


def test_a_few_columns_that_are_not_read_are_told() -> None:
    matrix = np.random.default_rng(0).standard_normal((3, 24))
    matrix[:, 7] = 0
    (one,) = found(families.linear([W.a], matrix, 1))
    assert isinstance(one, EmptyColumns)
    assert str(one).startswith('1 column of 24 of A in "A" is all zero, those of a[1, 1]: listed, and not touched.')
    matrix[:, 5:15] = 0
    assert found(families.linear([W.a], matrix, 1)) == []


def test_a_slice_that_is_listed_is_no_weight_that_is_not_read() -> None:
    assert found(families.linear([W.a[0], W.b], np.ones((1, 10)), 1)) == []


def test_a_matrix_too_large_to_look_at_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns_module, "MOST_PAIRS", 10)
    plan = affinet.plan(families.linear([W.a], ordinary(4, 6)["row sums"], 1).named("A"))
    assert plan.findings == (Overlooked(("A",), 4, "the order of columns"),)
    assert str(plan.findings[0]) == (
        'Not looked for, as it would take long: the order of columns of "A" (4 equations). The plan holds as it is; '
        "plan fewer of them to see."
    )


def test_a_transposed_shape_is_said_in_the_error() -> None:
    with pytest.raises(
        affinet.ShapeError, match=r"one per entry: a \(24\) = 24\. A\.T has that shape: is A transposed\?"
    ):
        families.linear([W.a], np.ones((24, 3)))
    with pytest.raises(affinet.ShapeError, match=r"= 24\.$"):
        families.linear([W.a], np.ones((23, 3)))


def test_a_matrix_of_two_rows_is_read_by_lines_too() -> None:
    w = affinet.weights({"a": (2, 6), "b": (2,)})
    (one,) = found(families.linear([w.a, w.b], np.hstack([-np.eye(2), ordinary(2, 6)["row sums"]]), 0))
    assert isinstance(one, OtherOrder)
    assert one.order == ("b", "a")


def test_a_matrix_of_two_rows_column_by_column_is_suspected() -> None:
    w = affinet.weights({"a": (2, 5)})
    (one,) = found(families.linear([w.a], by_column(ordinary(2, 5)["row sums"], (2, 5)), 0))
    assert isinstance(one, ColumnMajor)
