"""Every family against its definition in NumPy: what holds, how many equations, how it is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch

from affinet.errors import AffinetError, RuleError, ShapeError, TooLargeError
from affinet.language import families
from affinet.language.calculus.terms import Floats, Parameter, held_bytes, lower
from affinet.language.constraint import Constraint
from affinet.language.evaluation import evaluate
from affinet.language.expression import Expression, weight

RANDOM = np.random.default_rng(0)
SHAPES = {"a": (2, 3), "b": (2,), "S": (4, 4), "K": (2, 3, 3)}
a, b, S, K = (weight(Parameter(name, shape)) for name, shape in SHAPES.items())


def matrix(rule: Constraint, order: tuple[str, ...]) -> Floats:
    """The rule's A over the named weights, dense."""
    first = dict(zip(order, np.cumsum([0, *(int(np.prod(SHAPES[name])) for name in order)]), strict=False))
    dense = np.zeros((rule.rows, sum(int(np.prod(SHAPES[name])) for name in order)))
    for term in rule.expression.terms:
        rows, entries, values = lower(term, rule.shape)
        np.add.at(dense, (rows, entries + first[term.parameter.name]), values)
    return dense


def violation(rule: Constraint, **values: Floats) -> float:
    return float(np.abs(evaluate(rule.expression, values)).max(initial=0.0))


@pytest.mark.parametrize(
    "form", [np.asarray, scipy.sparse.csr_array, torch.tensor, scipy.sparse.coo_matrix, np.ndarray.tolist]
)
def test_linear_is_a_times_w_equals_b(form: Callable[[Any], Any]) -> None:
    A, rhs = RANDOM.standard_normal((5, 8)), RANDOM.standard_normal(5)
    rule = families.linear([a, b], form(A), rhs)
    assert rule.shape == (5,)
    np.testing.assert_allclose(matrix(rule, ("a", "b")), A)
    np.testing.assert_allclose(rule.expression.constant, -rhs)


def test_linear_of_one_equation_and_of_a_number() -> None:
    rule = families.linear([b, a], np.arange(8), 3)
    assert (rule.shape, rule.expression.constant) == ((), -3.0)
    np.testing.assert_allclose(matrix(rule, ("b", "a"))[0], np.arange(8))
    assert rule.text == "linear([b, a], A=array(8), b=3)"


def test_linear_with_a_large_sparse_matrix_stays_small() -> None:
    w = weight(Parameter("w", (1000, 2000)))
    A = scipy.sparse.random_array((3000, 2_000_000), density=1e-6, rng=0)
    rule = families.linear([w], A, 1)
    assert sum(held_bytes(term) for term in rule.expression.terms) < 30 * A.nnz


def test_linear_says_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"A has shape \(5, 7\), and needs 8 columns.*: a \(6\) \+ b \(2\) = 8"):
        families.linear([a, b], np.ones((5, 7)))
    with pytest.raises(
        ShapeError, match=r"b has shape \(4,\); with A of shape \(5, 8\) it must be a number or have shape \(5,\)"
    ):
        families.linear([a, b], np.ones((5, 8)), np.ones(4))
    with pytest.raises(RuleError, match="a list of expressions, not empty"):
        families.linear([], np.ones((5, 8)))
    with pytest.raises(RuleError, match="a list of expressions, not empty"):
        families.linear([a, 1], np.ones((5, 8)))  # type: ignore[list-item]


def test_a_basis_becomes_the_equations_of_its_span() -> None:
    basis, offset = RANDOM.standard_normal((8, 3)), RANDOM.standard_normal(8)
    basis = np.hstack([basis, basis[:, :1] * 1e6, np.zeros((8, 1))])
    rule = families.subspace([a, b], basis, offset)
    assert rule.shape == (5,)
    A = matrix(rule, ("a", "b"))
    assert np.linalg.matrix_rank(A) == 5
    inside = basis @ RANDOM.standard_normal(5) * 1e-3 + offset
    assert violation(rule, a=inside[:6].reshape(2, 3), b=inside[6:]) < 1e-9
    assert rule.text == "subspace([a, b], basis=array(8, 5), offset=array(8))"


def test_ties_given_as_a_basis_come_out_as_ties() -> None:
    classes = np.array([0, 1, 0, 2, 1, 0, 2, 2])
    basis = np.eye(3)[classes] @ RANDOM.standard_normal((3, 3))
    A = matrix(families.subspace([a, b], basis), ("a", "b"))
    assert sorted({*A.ravel()}) == [-1.0, 0.0, 1.0]
    assert (np.count_nonzero(A, axis=1) == 2).all()


def test_the_ends_of_a_basis_and_its_dtype() -> None:
    assert families.subspace([b], np.zeros((2, 3))).rows == 2
    assert families.subspace([b], np.eye(2)).rows == 0
    assert families.subspace([b], np.ones((2, 1), np.float32)).expression.epsilon == 2.0**-23
    with pytest.raises(ShapeError, match=r"the basis has shape \(7, 2\), and needs 8 rows.*a \(6\) \+ b \(2\) = 8"):
        families.subspace([a, b], np.ones((7, 2)))
    with pytest.raises(ShapeError, match=r"the offset has shape \(3,\)"):
        families.subspace([a, b], np.ones((8, 2)), np.ones(3))


def test_fix_sets_entries_to_a_value() -> None:
    mask = np.array([[True, False, True], [False, True, False]])
    rule = families.fix(a, where=mask, value=[1, 2, 3])
    assert rule.shape == (3,)
    assert violation(rule, a=np.array([[1.0, 9, 2], [9, 3, 9]])) == 0
    assert families.fix(a).text == "fix(a, value=0)"
    assert families.fix(a, where=(0, slice(1, None)), value=2).text == "fix(a[0, 1:], value=2)"
    with pytest.raises(ShapeError, match=r"the value of shape \(2, 3, 1\) does not fit \(b\)"):
        families.fix(b, value=np.ones((2, 3, 1)))


def test_tie_makes_all_equal() -> None:
    rule = families.tie(S[0], S[1], S[:, 2])
    assert (rule.shape, rule.text) == ((2, 4), "tie(S[0], S[1], S[:, 2])")
    assert violation(rule, S=np.ones((4, 4))) == 0
    assert families.tie(S[0], S[1]).shape == (4,)
    with pytest.raises(RuleError, match="tie takes two expressions or more"):
        families.tie(S)
    with pytest.raises(ShapeError, match=r"\(S\) has \(4, 4\) and \(a\) has \(2, 3\)"):
        families.tie(S, a)
    with pytest.raises(RuleError, match=r"tie takes weights, such as .*; got 3 \(int\)"):
        families.tie(S[0, 0], 3)  # type: ignore[arg-type]


def test_share_ties_equal_numbers() -> None:
    pattern = np.array([[5, -1, 2], [2, 5, 5]])
    rule = families.share(a, pattern)
    assert rule.rows == 5 - 2
    assert violation(rule, a=np.array([[5.0, 77, 2], [2, 5, 5]])) == 0
    assert np.linalg.matrix_rank(matrix(rule, ("a",))) == 3
    assert families.share(a, torch.arange(6).reshape(2, 3)).rows == 0
    with pytest.raises(ShapeError, match=r"the pattern has shape \(2,\), and \(a\) has shape \(2, 3\)"):
        families.share(a, [1, 2])
    with pytest.raises(ShapeError, match="holds float64, and needs integers"):
        families.share(a, np.ones((2, 3)))


def test_sums_and_means() -> None:
    assert families.sum_to(a, 1, dim=1).text == "sum_to(a, total=1, dim=1)"
    assert families.sum_to(a, [1, 2], dim=1).shape == (2,)
    assert families.sum_to(a, 3).shape == ()
    assert families.zero_mean(a).shape == (2,)
    assert families.zero_mean(K).shape == (2,)
    assert families.zero_mean(K, dim=0).text == "zero_mean(K, dim=0)"
    np.testing.assert_allclose(matrix(families.zero_mean(b), ("b",)), [[0.5, 0.5]])


def _centred(x: Floats) -> Floats:
    return x - x.mean(1, keepdims=True)


MATRICES: dict[str, tuple[Callable[[Expression], Constraint], Callable[[Floats], Floats], int]] = {
    "symmetric": (families.symmetric, lambda x: x + x.T, 10),
    "skew": (families.skew, lambda x: x - x.T, 6),
    "toeplitz": (families.toeplitz, lambda x: scipy.linalg.toeplitz(x[0], x[:, 1]), 7),
    "persymmetric": (families.persymmetric, lambda x: x + x[::-1, ::-1].T, 10),
    "hankel": (families.hankel, lambda x: scipy.linalg.hankel(x[0], x[-1]), 7),
    "circulant": (families.circulant, lambda x: scipy.linalg.circulant(x[0]), 4),
    "doubly_centred": (families.doubly_centred, lambda x: _centred(_centred(x).T).T, 9),
}


@pytest.mark.parametrize("family", MATRICES)
def test_families_of_matrices(family: str) -> None:
    make, member, free = MATRICES[family]
    rule = make(S)
    assert rule.text == f"{family}(S)"
    assert rule.name is None
    assert violation(rule, S=member(RANDOM.standard_normal((4, 4)))) < 1e-15
    assert 16 - np.linalg.matrix_rank(matrix(rule, ("S",))) == free
    batch = np.stack([member(RANDOM.standard_normal((3, 3))) for _ in range(2)])
    assert violation(make(K), K=batch) < 1e-15
    assert all(isinstance(v.source, int) for term in make(S).expression.terms for v in term.variables)
    with pytest.raises(ShapeError, match=rf"{family} is about matrices: \(b\) has shape \(2,\)"):
        make(b)
    with pytest.raises(RuleError, match=f"{family} takes weights"):
        make(1)  # type: ignore[arg-type]
    if family in ("toeplitz", "hankel", "doubly_centred"):
        assert make(a).shape == {"doubly_centred": (5,)}.get(family, (1, 2))
    else:
        with pytest.raises(ShapeError, match=rf"{family} is about square matrices: .* \(2, 3\) differ"):
            make(a)


def test_powers_act_on_tensor_entries() -> None:
    permutation, w = np.array([2, 0, 1]), RANDOM.standard_normal((3, 3, 3))
    moved = families.powers(permutation, 3)
    np.testing.assert_array_equal(w.reshape(-1)[moved], w[np.ix_(permutation, permutation, permutation)].reshape(-1))
    assert families.powers([1, 0], 0).tolist() == [0]
    assert families.powers(torch.tensor([1, 0]), 1).tolist() == [1, 0]
    for wrong in ([0, 0], [1, 2], [0.0, 1.0], [[0]]):
        with pytest.raises(ShapeError, match="is not a permutation"):
            families.powers(wrong, 2)
    with pytest.raises(ShapeError, match="the power must be an integer from 0 to 64; got -1"):
        families.powers([0], -1)
    with pytest.raises(TooLargeError, match=r"the permutation of 10\*\*12 entries"):
        families.powers(range(10), 12)


def test_families_raise_only_our_errors() -> None:
    for family in (families.fix, families.symmetric, families.sum_to, families.share, families.zero_mean):
        with pytest.raises(AffinetError):
            family("a", "b") if family in (families.sum_to, families.share) else family("a")  # type: ignore[operator]
