"""Equivariant maps: as many as representation theory says, the ones that an SVD finds, and they commute."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch

import affinet
from affinet import families
from affinet.errors import ConstantError, NothingToTrainWarning, RuleError, ShapeError
from affinet.language import families as public
from affinet.language.calculus.terms import Floats
from affinet.language.families import SignedPermutation, direct_sum, kronecker_power, kronecker_sum, powers
from tests.language.counting import dense, free

DRAW = np.random.default_rng(0)
SO3 = [np.zeros((3, 3)) for _ in range(3)]
for axis, (i, j) in enumerate([(1, 2), (2, 0), (0, 1)]):
    SO3[axis][i, j], SO3[axis][j, i] = -1.0, 1.0
TURNS = [scipy.linalg.expm(1.1 * SO3[0]), scipy.linalg.expm(0.7 * SO3[2])]


def all_permutations(n: int) -> list[Any]:
    """Two generators of S_n."""
    return [np.array([1, 0, *range(2, n)]), np.roll(np.arange(n), 1)]


def weight(*shape: int) -> affinet.Expression:
    return affinet.weights({"w": shape})["w"]


def as_matrix(generator: Any) -> Floats:
    """`ρ` with `ρ @ x` what the documentation of `equivariant` says."""
    if isinstance(generator, SignedPermutation):
        return np.diag(generator.signs) @ np.eye(len(generator.signs))[generator.permutation]
    if scipy.sparse.issparse(generator):
        return np.asarray(generator.toarray())
    array = np.asarray(generator)
    return np.eye(len(array))[array] if array.ndim == 1 else array


def null_space(inputs: list[Any], outputs: list[Any]) -> Floats:
    """Orthonormal basis of the w with `ρ_out w == w ρ_in`, by SVD of the vectorised equations."""
    rows = []
    for into, out in zip(map(as_matrix, inputs), map(as_matrix, outputs), strict=True):
        rows.append(np.kron(out, np.eye(len(into))) - np.kron(np.eye(len(out)), into.T))
    return np.asarray(scipy.linalg.null_space(np.concatenate(rows), rcond=1e-10))


# Maron, Ben-Hamu, Shamir & Lipman 2019, Invariant and equivariant graph networks: equivariant maps from k-axis to
# l-axis tensors are bell(k + l) many. Zaheer et al. 2017, Deep Sets: two for vectors.
BELL = {(1, 1): 2, (2, 2): 15, (2, 1): 5, (1, 2): 5, (2, 0): 2, (0, 2): 2}


@pytest.mark.parametrize("n", [4, 5, 7])
@pytest.mark.parametrize(("into", "out"), BELL)
def test_tensors_under_all_permutations(n: int, into: int, out: int) -> None:
    moves = all_permutations(n)
    w = weight(n**out, n**into)
    rule = families.equivariant(w, [powers(p, into) for p in moves], [powers(p, out) for p in moves])
    assert free(rule, w) == BELL[into, out]
    assert rule.rows == w.size - BELL[into, out]


def test_six_million_entries_under_all_permutations_of_fifty() -> None:
    moves = [powers(p, 2) for p in all_permutations(50)]
    w = weight(2500, 2500)
    plan = affinet.plan(families.equivariant(w, moves, moves))
    assert (plan.free, plan.size, plan.rank) == (15, 6_250_000, 6_249_985)
    assert len(plan.blocks) == 1


@pytest.mark.parametrize(("into", "out", "count"), [(1, 1, 2), (2, 1, 5), (2, 0, 2)])
def test_fewer_axes_under_all_permutations_of_fifty(into: int, out: int, count: int) -> None:
    moves, w = all_permutations(50), weight(50**out, 50**into)
    assert free(families.equivariant(w, [powers(p, into) for p in moves], [powers(p, out) for p in moves]), w) == count


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_the_cyclic_group_leaves_a_circulant_matrix(n: int) -> None:
    w, shift = weight(n, n), np.roll(np.arange(n), 1)
    both = [families.equivariant(w, [shift], [shift]), families.circulant(w)]
    assert [free(rule, w) for rule in (*both, both)] == [n, n, n]


@pytest.mark.parametrize(("power", "count"), [(0, 1), (1, 1), (2, 3), (3, 15)])
def test_tensors_under_rotations_of_space(power: int, count: int) -> None:
    w = weight(3**power, 3**power)
    turns = [kronecker_power(turn, power) for turn in TURNS]
    algebra = [kronecker_sum(element, power) for element in SO3[:2]]
    by_turns = families.equivariant(w, turns, turns)
    by_algebra = families.equivariant(w, algebra, algebra, lie_algebra=True)
    # The multiplicities of spins in V⊗k: 1; 1; 1, 1, 1; 1, 3, 2, 1.
    assert [free(rule, w) for rule in (by_turns, by_algebra, [by_turns, by_algebra])] == [count] * 3


SIGNED = SignedPermutation([1, 2, 0], [1, -1, 1])
QUARTER = np.array([[np.cos(np.pi / 2), -1.0, 0], [1, np.cos(np.pi / 2), 0], [0, 0, 1]])
MIXED = DRAW.standard_normal((3, 3))
SIDES: dict[str, tuple[list[Any], list[Any]]] = {
    "permutations of both sides": ([[1, 2, 0, 3]], [[1, 0]]),
    "two generators": ([[1, 0, 2, 3], [1, 2, 3, 0]], [[1, 0, 2, 3], [1, 2, 3, 0]]),
    "permutation and signs": ([[1, 2, 0]], [SignedPermutation([1, 2, 0], [1, -1, -1])]),
    "signs on both sides": ([SIGNED, -np.eye(3)], [SIGNED, -np.eye(3)]),
    "signs with a fixed point": ([SignedPermutation([1, 0, 2], [1, 1, -1])], [SignedPermutation([0, 1], [1, -1])]),
    "a quarter turn of sines": ([QUARTER], [[1, 2, 3, 0]]),
    "rotations": (TURNS, TURNS),
    "a permutation and a matrix": ([[1, 2, 0]], [scipy.linalg.expm(2 * np.pi / 3 * SO3[1])]),
    "ties and matrices": ([[1, 0, 2], np.diag([1.0, 1, 2])], [[1, 0, 2], np.diag([1.0, 1, 2])]),
    "sparse matrices": ([scipy.sparse.csr_array(MIXED)], [scipy.sparse.coo_array(MIXED)]),
    "tensors and lists": ([torch.tensor(MIXED)], [MIXED.tolist()]),
}


@pytest.mark.parametrize("sides", SIDES)
def test_projecting_finds_what_the_null_space_of_an_svd_spans(sides: str) -> None:
    inputs, outputs = SIDES[sides]
    basis = null_space(inputs, outputs)
    shape = (len(as_matrix(outputs[0])), len(as_matrix(inputs[0])))
    w = weight(*shape)
    rule = families.equivariant(w, inputs, outputs)
    assert free(rule, w) == basis.shape[1] > 0
    start = DRAW.standard_normal(shape)
    start_tensor = torch.from_numpy(start)
    found = affinet.plan(rule).projector({"w": start_tensor}).project({"w": start_tensor})["w"].numpy()
    np.testing.assert_allclose(found.ravel(), basis @ (basis.T @ start.ravel()), atol=1e-13)
    for into, out in zip(map(as_matrix, inputs), map(as_matrix, outputs), strict=True):
        x = DRAW.standard_normal(shape[1])
        np.testing.assert_allclose(found @ into @ x, out @ found @ x, atol=1e-12)


def test_projected_maps_commute_with_every_element_of_the_group() -> None:
    n, w = 6, weight(36, 36)
    moves = [powers(p, 2) for p in all_permutations(n)]
    plan = affinet.plan(families.equivariant(w, moves, moves))
    found = plan.projector({"w": torch.zeros(36, 36)}).project({"w": torch.randn(36, 36)})["w"]
    for _ in range(20):
        p = powers(DRAW.permutation(n), 2)
        assert torch.equal(found[p][:, p], found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stack_of_matrices_is_tied_to_the_bit(dtype: torch.dtype) -> None:
    w = weight(300, 3, 16, 16)
    turn = SignedPermutation(np.roll(np.arange(16), 1), np.where(np.arange(16) == 0, -1, 1))
    plan = affinet.plan(families.equivariant(w, [turn], [turn]))
    assert w.size - int(str(plan.rank)) == 300 * 3 * 16
    start = torch.randn(300, 3, 16, 16).to(dtype)
    found = plan.projector({"w": start}).project({"w": start})["w"]
    matrix = torch.tensor(as_matrix(turn)).to(dtype)
    assert torch.equal(matrix @ found, found @ matrix)


def test_biases_are_invariant_vectors_and_their_transposes_functionals() -> None:
    moves = [powers(p, 2) for p in all_permutations(5)]
    b = weight(25)
    for rule in (families.equivariant(b, outputs=moves), families.equivariant(b, inputs=moves)):
        assert free(rule, b) == 2
    doubled = [kronecker_power(turn, 2) for turn in TURNS]
    algebra = [kronecker_sum(element, 2) for element in SO3]
    stack = weight(4, 9)
    for rule in (
        families.equivariant(stack, outputs=doubled),
        families.equivariant(stack, inputs=doubled),
        families.equivariant(stack, outputs=algebra, lie_algebra=True),
        families.equivariant(stack, inputs=algebra, lie_algebra=True),
    ):
        assert free(rule, stack) == 4
    skewed = np.array([[1.0, 2.0], [0.0, 1.0]])  # not orthogonal: vectors and functionals differ
    b = weight(2)
    assert np.abs(dense(families.equivariant(b, outputs=[skewed]), 2) @ [1, 0]).max() == 0
    assert np.abs(dense(families.equivariant(b, inputs=[skewed]), 2) @ [0, 1]).max() == 0


def test_signs_that_contradict_themselves_make_zeros() -> None:
    w = weight(2, 2)
    flip = SignedPermutation([1, 0], [1, 1]), SignedPermutation([0, 1], [1, -1])
    with pytest.warns(
        NothingToTrainWarning, match=r"nothing is left to train in w: its 4 entries .* by the rule .equiv"
    ):
        rule = families.equivariant(w, [[0, 1]] * 2, flip)
    assert rule.rows == affinet.plan(rule).rank == 4  # (a, a) and (0, b) meet in zero alone


@pytest.mark.parametrize("side", ["outputs", "inputs"])
def test_a_representation_without_invariants_leaves_nothing_to_train(side: str) -> None:
    rule = families.equivariant(weight(3), **{side: TURNS})
    with pytest.warns(NothingToTrainWarning, match="nothing is left to train in w: its 3 entries"):
        plan = affinet.plan(rule)
    assert plan.free == 0
    assert "nothing is left to train" in str(plan)


def test_how_it_is_said() -> None:
    w = weight(3, 3)
    assert families.equivariant(w, [[1, 2, 0]], [SignedPermutation([1, 2, 0], [1, -1, -1])]).text == (
        "equivariant(w, inputs=[[1, 2, 0]], outputs=[SignedPermutation([1, 2, 0], [1, -1, -1])])"
    )
    assert families.equivariant(weight(3), outputs=SO3, lie_algebra=True).text == (
        "equivariant(w, outputs=[array(3, 3), array(3, 3), array(3, 3)], lie_algebra=True)"
    )
    five = families.equivariant(w, [[0, 1, 2]] * 5, [[0, 1, 2]] * 5)
    assert five.text.endswith("outputs=[[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2], …])")


def test_what_fits_no_weight() -> None:
    w = weight(3, 3)
    swap, turn = [1, 0, 2], [1, 2, 0]
    with pytest.raises(RuleError, match="takes inputs=, outputs= or both"):
        families.equivariant(w)
    with pytest.raises(RuleError, match="there are 2 generators in inputs and 1 in outputs"):
        families.equivariant(w, [swap, turn], [swap])
    with pytest.raises(
        ShapeError, match=r"\(w\) has shape \(3, 3\), and its shape must end with \(2, 3\): outputs acts on 2"
    ):
        families.equivariant(w, [swap], [[1, 0]])
    with pytest.raises(ShapeError, match=r"\(w\) has shape \(3,\), and its shape must end with \(3, 3\)"):
        families.equivariant(weight(3), [swap], [swap])
    with pytest.raises(ShapeError, match=r"must end with \(4,\): outputs acts on 4"):
        families.equivariant(weight(3), outputs=[[1, 0, 2, 3]])
    with pytest.raises(RuleError, match="equivariant takes weights"):
        families.equivariant(3, [swap], [swap])  # type: ignore[arg-type]


def test_what_is_no_generator() -> None:
    w, swap = weight(3, 3), [1, 0, 2]
    for wrong in ([], [1, 0, 2], np.array([1, 0, 2]), 3, ["ab"], SIGNED, torch.tensor([1, 0, 2])):
        with pytest.raises(RuleError, match="inputs must be a list of generators, not empty"):
            families.equivariant(w, wrong, [swap])
    with pytest.raises(ShapeError, match=r"generator 1 of inputs, \[0, 0, 2\], is not a permutation: that holds"):
        families.equivariant(w, [swap, [0, 0, 2]], [swap, swap])
    with pytest.raises(ShapeError, match=r"generators of outputs have sizes \[3, 2\], and must have one size"):
        families.equivariant(w, [swap, swap], [swap, [1, 0]])
    with pytest.raises(ShapeError, match=r"generator 0 of inputs has shape \(3, 2\), and must be a square matrix"):
        families.equivariant(w, [np.ones((3, 2))], [swap])
    for singular in (np.ones((3, 3)), scipy.sparse.csr_array(np.diag([1.0, 2, 0]))):
        with pytest.raises(ShapeError, match=r"generator 0 of outputs is a singular matrix.*write lie_algebra=True"):
            families.equivariant(w, [swap], [singular])
    with pytest.raises(RuleError, match="generator 0 of inputs is a permutation, which is an element of a group"):
        families.equivariant(w, [swap], [SO3[0]], lie_algebra=True)
    with pytest.raises(ShapeError, match=r"the signs of SignedPermutation are \[1, 2, 1\], and must be 3 numbers"):
        SignedPermutation(swap, [1, 2, 1])
    with pytest.raises(ShapeError, match=r"the permutation of SignedPermutation, .*, is not a permutation"):
        SignedPermutation([0, 0, 1], [1, 1, 1])
    with pytest.raises(ConstantError, match="NaN or infinite"):
        families.equivariant(w, [np.full((3, 3), np.nan)], [swap])


def test_powers_and_sums_of_matrices_act_on_tensors() -> None:
    M, X, x = DRAW.standard_normal((3, 3)), SO3[0] + 0.3, DRAW.standard_normal((3, 3, 3))
    cubed = np.einsum("ai,bj,ck,ijk->abc", M, M, M, x)
    np.testing.assert_allclose(kronecker_power(M, 3) @ x.ravel(), cubed.ravel())
    added = sum(np.moveaxis(np.tensordot(X, x, (1, k)), 0, k) for k in range(3))
    np.testing.assert_allclose(kronecker_sum(X, 3) @ x.ravel(), np.ravel(added))
    np.testing.assert_allclose(scipy.linalg.expm(kronecker_sum(X, 2)), kronecker_power(scipy.linalg.expm(X), 2))
    assert (kronecker_power(M, 0).tolist(), kronecker_sum(X, 0).tolist()) == ([[1.0]], [[0.0]])
    p = np.array([2, 0, 1])
    np.testing.assert_array_equal(np.eye(9)[powers(p, 2)], kronecker_power(np.eye(3)[p], 2))
    for make in (kronecker_power, kronecker_sum):
        with pytest.raises(ShapeError, match=r"a generator must be a square matrix; got shape \(2, 3\)"):
            make(np.ones((2, 3)), 2)
        with pytest.raises(ShapeError, match="the power must be an integer from 0 to 64; got -1"):
            make(M, -1)
        with pytest.raises(affinet.TooLargeError, match="of 30 × 30"):
            make(np.eye(30), 6)


def test_direct_sums_are_as_simple_as_their_parts() -> None:
    plain = direct_sum([1, 0], [2, 0, 1])
    assert np.asarray(plain).tolist() == [1, 0, 4, 2, 3]
    signed = direct_sum([1, 0], SignedPermutation([1, 0], [1, -1]))
    assert isinstance(signed, SignedPermutation)
    assert (signed.permutation.tolist(), signed.signs.tolist()) == ([1, 0, 3, 2], [1, 1, 1, -1])
    parts = [SIGNED, MIXED, [1, 0]]
    np.testing.assert_array_equal(direct_sum(*parts), scipy.linalg.block_diag(*(as_matrix(part) for part in parts)))
    with pytest.raises(RuleError, match="direct_sum takes one part or more"):
        direct_sum()
    with pytest.raises(ShapeError, match="is not a permutation"):
        direct_sum([1, 1])
    with pytest.raises(ShapeError, match="must be a square matrix"):
        direct_sum(np.ones((2, 3)))


def test_a_layer_of_scalars_and_vectors_as_schur_says() -> None:
    """Maps between 2 scalars + 3 vectors: one number for each pair of equal irreducible parts."""
    turns = [direct_sum(np.eye(2), turn, turn, turn) for turn in TURNS]
    w = weight(11, 11)
    assert free(families.equivariant(w, turns, turns), w) == 2 * 2 + 3 * 3


def test_the_order_and_number_of_generators_do_not_matter() -> None:
    w, every = weight(4, 4), [list(p) for p in itertools.permutations(range(4))]
    assert free(families.equivariant(w, every, every), w) == 2
    assert set(public.__all__) >= {"equivariant", "SignedPermutation"}
