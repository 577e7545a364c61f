"""The rank of equality blocks of linear programs, exact, and their nearest feasible points."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import sparse

import affinet
from affinet import families
from tests.peers.lp_blocks import ADLITTLE, AFIRO, GALENET, Block, flows, quadratic_assignment, transport

RING = [(k, (k + 1) % 40) for k in range(40)]
TWO_PARTS = [(k, k + 1) for k in range(20)] + [(k, k + 1) for k in range(21, 39)] + [(0, 5), (3, 17), (22, 30)]

# Netlib's AFIRO and ADLITTLE, GALENET, QAP04: ranks of a rational elimination. A transport problem has one redundant
# equation, a network one for each connected part (Ahuja, Magnanti and Orlin, Network flows, 1993, 11.3).
BLOCKS: dict[str, tuple[Block, int]] = {
    "AFIRO": (AFIRO, 8),
    "ADLITTLE": (ADLITTLE, 15),
    "GALENET": (GALENET, 2),
    "QAP03": (quadratic_assignment(3), 22),
    "QAP04": (quadratic_assignment(4), 66),
    "transport 7 to 5": (transport(7, 5), 11),
    "transport 30 to 20": (transport(30, 20), 49),
    "a ring": (flows(RING, 40), 39),
    "two parts": (flows(TWO_PARTS, 40), 38),
}


def exact_rank(rows: list[dict[int, float]]) -> int:
    """By elimination over the rational numbers that the coefficients are in decimal."""
    left = [{column: Fraction(repr(value)) for column, value in row.items()} for row in rows]
    rank = 0
    while left := [row for row in left if row]:
        pivot = min(left, key=len)
        left.remove(pivot)
        column, head = next(iter(pivot.items()))
        rank += 1
        for row in left:
            if column in row:
                share = row[column] / head
                for other, value in pivot.items():
                    row[other] = row.get(other, Fraction(0)) - share * value
                    if not row[other]:
                        del row[other]
    return rank


def matrix(block: Block) -> tuple[sparse.csr_array, np.ndarray]:
    width, rows, rhs = block
    places = [(k, column, value) for k, row in enumerate(rows) for column, value in row.items()]
    row, column, value = zip(*places, strict=True)
    return sparse.csr_array((np.array(value, np.float64), (row, column)), shape=(len(rows), width)), np.array(rhs)


@pytest.mark.parametrize("name", BLOCKS)
def test_the_rank_is_that_of_an_exact_elimination(name: str) -> None:
    block, rank = BLOCKS[name]
    A, b = matrix(block)
    assert exact_rank(block[1]) == rank
    w = affinet.weights({"x": (A.shape[1],)}).x
    sparse_rule, dense_rule = (families.linear([w], form, b) for form in (A, A.toarray()))
    one_by_one = [sum(v * w[k] for k, v in row.items()) == b[i] for i, row in enumerate(block[1])]
    for rules in (sparse_rule, dense_rule, one_by_one, [sparse_rule, *one_by_one]):
        assert affinet.plan(rules).rank == rank


@pytest.mark.parametrize("name", BLOCKS)
def test_the_nearest_point_is_that_of_a_pseudo_inverse(name: str) -> None:
    block, _ = BLOCKS[name]
    A, b = matrix(block)
    norms = np.sqrt((A.multiply(A)).sum(axis=1))
    even, rhs = A.toarray() / norms[:, None], b / norms
    start = np.random.default_rng(0).standard_normal(A.shape[1])
    inverse = np.linalg.pinv(even, rcond=1e-12)
    nearest = start - inverse @ (even @ start - rhs)
    w = affinet.weights({"x": start.shape}).x
    given = {"x": torch.from_numpy(start)}
    found = affinet.plan(families.linear([w], A, b)).projector(given).project(given)["x"].numpy()
    # Least squares by an orthogonal method: a constant of the size, times the condition (Higham 2002, section 20.1).
    condition = np.linalg.norm(even, 2) * np.linalg.norm(inverse, 2)
    bound = sum(even.shape) * 2.0**-52 * condition * (np.abs(start).max() + np.abs(nearest).max())
    assert np.abs(found - nearest).max() <= bound
    assert (np.abs(A @ found - b) <= A.shape[1] * 2.0**-52 * (abs(A) @ np.abs(found) + np.abs(b))).all()


@pytest.mark.parametrize("name", ["QAP03", "QAP04", "transport 7 to 5", "a ring", "two parts"])
def test_a_redundant_equation_that_disagrees_is_a_contradiction(name: str) -> None:
    A, b = matrix(BLOCKS[name][0])
    w = affinet.weights({"x": (A.shape[1],)}).x
    b[-1] += 1
    with pytest.raises(affinet.InfeasibleError):
        affinet.plan(families.linear([w], A, b))
