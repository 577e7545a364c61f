"""Named groups and their representations: dimensions from representation theory, dense null spaces, laws of tensors."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import torch

import affinet
from affinet import families, groups
from affinet.errors import NothingToTrainWarning, RuleError, ShapeError, TooLargeError
from affinet.language.calculus.terms import Floats
from affinet.language.groups.elements import Generator
from affinet.language.groups.representation import Representation, same

DRAW = np.random.default_rng(0)


def invariants(space: Representation) -> int:
    """Dimensions of the tensors that the group leaves as they are."""
    w = affinet.weights({"w": (space.size,)}).w
    plan = affinet.plan(families.equivariant(w, outputs=space))
    return space.size - int(str(plan.rank))


def maps(inputs: Representation, outputs: Representation) -> int:
    """Dimensions of the matrices that commute with the group."""
    w = affinet.weights({"w": (outputs.size, inputs.size)}).w
    plan = affinet.plan(families.equivariant(w, inputs, outputs))
    return w.size - int(str(plan.rank))


def null_space(inputs: Representation, outputs: Representation) -> Floats:
    """Orthonormal basis of the flattened w with `ρ_out w == w ρ_in`, by a dense SVD."""
    left, right = np.eye(outputs.size), np.eye(inputs.size)
    pairs = zip(outputs.matrices, inputs.matrices, strict=True)
    equations = [np.kron(out.toarray(), right) - np.kron(left, into.toarray().T) for out, into in pairs]
    return np.asarray(scipy.linalg.null_space(np.concatenate(equations), rcond=1e-10))


# Weyl, The classical groups (first fundamental theorems): invariants of O(n) are products of δ, those of SO(n) may have
# one ε more, those of Sp(n) are products of ω, those of GL(n) pair vectors and functionals, and SL(n) has determinants.
# Permutations: Bell numbers (Maron et al. 2019). Finite rotations: (1/n) Σ_k (2 cos 2πk/n)^p, and half of that with
# the reflections, whose trace is 0. SU(2) acts on C² as unit quaternions, whose real commutant is the quaternions.
CLOSED: list[tuple[str, groups.Group, dict[tuple[int, int], int]]] = [
    ("SO(2)", groups.SO(2), {(1, 0): 0, (2, 0): 2, (4, 0): 6, (6, 0): 20}),
    ("SO(3)", groups.SO(3), {(0, 0): 1, (1, 0): 0, (2, 0): 1, (3, 0): 1, (4, 0): 3, (5, 0): 6, (6, 0): 15}),
    ("SO(4)", groups.SO(4), {(2, 0): 1, (3, 0): 0, (4, 0): 4}),
    ("O(2)", groups.O(2), {(2, 0): 1, (4, 0): 3, (6, 0): 10}),
    ("O(3)", groups.O(3), {(2, 0): 1, (3, 0): 0, (4, 0): 3, (5, 0): 0, (6, 0): 15}),
    ("SL(2)", groups.SL(2), {(2, 0): 1, (1, 1): 1, (0, 2): 1, (2, 2): 2, (6, 0): 5}),
    ("SL(3)", groups.SL(3), {(2, 0): 0, (1, 1): 1, (3, 0): 1, (0, 3): 1, (2, 2): 2}),
    ("GL(2)", groups.GL(2), {(1, 0): 0, (2, 0): 0, (1, 1): 1, (2, 2): 2, (3, 3): 5}),
    ("Sp(1)", groups.Sp(1), {(1, 0): 0, (2, 0): 1, (1, 1): 1, (4, 0): 2, (6, 0): 5}),
    ("Sp(2)", groups.Sp(2), {(2, 0): 1, (1, 1): 1, (3, 0): 0, (4, 0): 3, (2, 2): 3}),
    ("Lorentz", groups.Lorentz(), {(1, 0): 0, (2, 0): 1, (1, 1): 1, (4, 0): 3, (2, 2): 3}),
    ("ProperLorentz", groups.ProperLorentz(), {(2, 0): 1, (4, 0): 4, (2, 2): 4}),
    ("S(2)", groups.S(2), {(1, 0): 1, (2, 0): 2, (3, 0): 4}),
    ("S(5)", groups.S(5), {(0, 0): 1, (1, 0): 1, (2, 0): 2, (3, 0): 5, (4, 0): 15}),
    ("Z(6)", groups.Z(6), {(1, 0): 1, (2, 0): 6, (3, 0): 36}),
    ("C(3)", groups.C(3), {(1, 0): 0, (2, 0): 2, (3, 0): 2, (4, 0): 6}),
    ("C(5)", groups.C(5), {(2, 0): 2, (4, 0): 6, (5, 0): 2}),
    ("D(3)", groups.D(3), {(1, 0): 0, (2, 0): 1, (3, 0): 1, (4, 0): 3}),
    ("D(4)", groups.D(4), {(2, 0): 1, (3, 0): 0, (4, 0): 4}),
    ("U(1)", groups.U(1), {(1, 0): 0, (1, 1): 2}),
    ("U(2)", groups.U(2), {(1, 0): 0, (1, 1): 2}),
    ("SU(2)", groups.SU(2), {(1, 1): 4, (2, 0): 4}),
    ("SU(3)", groups.SU(3), {(1, 1): 2}),
]


@pytest.mark.filterwarnings("ignore::affinet.errors.NothingToTrainWarning")
@pytest.mark.parametrize(("group", "counts"), [case[1:] for case in CLOSED], ids=[case[0] for case in CLOSED])
def test_invariant_tensors_are_as_many_as_the_theory_says(
    group: groups.Group, counts: dict[tuple[int, int], int]
) -> None:
    assert {axes: invariants(group.T(*axes)) for axes in counts} == counts


DIMENSIONS: list[tuple[groups.Group, int]] = [
    *((groups.SO(n), n * (n - 1) // 2) for n in (2, 3, 5)),
    *((groups.SL(n), n * n - 1) for n in (2, 3, 4)),
    *((groups.GL(n), n * n) for n in (1, 2, 3)),
    *((groups.Sp(n), n * (2 * n + 1)) for n in (1, 2, 3)),
    *((groups.U(n), n * n) for n in (1, 2, 3)),
    *((groups.SU(n), n * n - 1) for n in (2, 3)),
    (groups.Lorentz(), 6),
]


def algebra(group: groups.Group) -> list[Floats]:
    """A basis of what the brackets of the Lie elements of a group span."""
    basis: list[Floats] = []
    waiting = [x.toarray() for x in map(scipy.sparse.csr_array, (g.matrix() for g in group.generators if g.lie))]
    while waiting:
        new = waiting.pop()
        if np.linalg.matrix_rank(np.array([x.ravel() for x in (*basis, new)]), tol=1e-9) > len(basis):
            waiting += [new @ x - x @ new for x in basis]
            basis.append(new)
    return basis


@pytest.mark.parametrize(("group", "dimension"), DIMENSIONS, ids=[str(group) for group, _ in DIMENSIONS])
def test_few_elements_make_the_whole_algebra(group: groups.Group, dimension: int) -> None:
    assert len(algebra(group)) == dimension


def _preserves(form: Floats) -> Callable[[Floats], bool]:
    return lambda M: bool(np.allclose(M.T @ form @ M, form))


J = np.block([[np.zeros((2, 2)), np.eye(2)], [-np.eye(2), np.zeros((2, 2))]])
KEEPS = {
    "SO": (groups.SO(4), lambda M: np.allclose(M.T @ M, np.eye(4)) and np.linalg.det(M) > 0),
    "O": (groups.O(3), lambda M: np.allclose(M.T @ M, np.eye(3))),
    "SL": (groups.SL(3), lambda M: np.isclose(np.linalg.det(M), 1)),
    "Sp": (groups.Sp(2), _preserves(J)),
    "Lorentz": (groups.Lorentz(), _preserves(np.diag([-1.0, 1, 1, 1]))),
    "D": (groups.D(5), lambda M: np.allclose(M.T @ M, np.eye(2))),
    "SU": (groups.SU(2), lambda M: np.allclose(M.T @ M, np.eye(4)) and np.allclose(M[:2, :2], M[2:, 2:])),
}


def elements(space: Representation, count: int = 5) -> list[Floats]:
    """Products of exponentials of the Lie elements and of the others, drawn at random, on the space."""
    kinds = [x.lie for group in space.groups for x in group.generators]
    found = []
    for seed in range(count):
        draw, product = np.random.default_rng(seed), np.eye(space.size)
        for k in draw.integers(0, len(kinds), 6):
            matrix = space.matrices[k].toarray()
            product = product @ (scipy.linalg.expm(draw.normal() * matrix) if kinds[k] else matrix)
        found.append(product)
    return found


@pytest.mark.parametrize("name", KEEPS)
def test_elements_of_a_group_keep_what_defines_it(name: str) -> None:
    group, holds = KEEPS[name]
    assert all(holds(M) for M in elements(group.T(1)))


def test_tensors_move_as_products_of_vectors_and_functionals() -> None:
    group = groups.SL(2)
    for vector, mixed in zip(elements(group.T(1)), elements(group.T(2, 1)), strict=True):
        inverse = np.linalg.inv(vector).T
        np.testing.assert_allclose(mixed, np.kron(np.kron(vector, vector), inverse), atol=1e-12 * np.abs(mixed).max())


SO3, O3, S4, Z3 = groups.SO(3), groups.O(3), groups.S(4), groups.Z(3)
SPACES = {
    "sums": (2 * SO3.T(0) + SO3.T(1), SO3.T(2) + SO3.T(1)),
    "copies of a tensor": (2 * O3.T(2), 3 * O3.T(1) + O3.T(0)),
    "duals": (groups.SL(2).T(1, 1), groups.SL(2).T(1).dual @ groups.SL(2).T(1) + groups.SL(2).T(0)),
    "a product of groups": (SO3.T(1) @ S4.T(1), SO3.T(1) @ S4.T(1)),
    "a product in another order": (SO3.T(1) @ Z3.T(1), Z3.T(2) @ SO3.T(1)),
    "one factor does nothing": (S4.T(0) @ O3.T(1), S4.T(1) @ O3.T(1)),
    "a sum over two groups": (Z3.T(1) + S4.T(1), S4.T(1) @ Z3.T(1)),
    "two groups of one kind": (Z3.T(1) @ Z3.named("other").T(1), Z3.named("other").T(1) @ Z3.T(1)),
    "permutations and rotations": (groups.D(3).T(2), groups.D(3).T(1) + groups.D(3).T(0)),
    "complex numbers": (groups.U(1).T(1), 2 * groups.U(1).T(1)),
}


@pytest.mark.parametrize("name", SPACES)
def test_projecting_finds_what_the_null_space_of_an_svd_spans(name: str) -> None:
    inputs, outputs = SPACES[name]
    ordered = Representation(inputs.text, outputs.groups, tuple(inputs.under(group) for group in outputs.groups))
    basis = null_space(ordered, outputs)
    assert maps(inputs, outputs) == basis.shape[1] > 0
    w = affinet.weights({"w": (outputs.size, inputs.size)}).w
    start = torch.from_numpy(DRAW.standard_normal(w.shape))
    plan = affinet.plan(families.equivariant(w, inputs, outputs))
    found = plan.projector({"w": start}).project({"w": start})["w"].numpy()
    np.testing.assert_allclose(found.ravel(), basis @ (basis.T @ start.numpy().ravel()), atol=1e-12)
    for out, into in zip(elements(outputs), elements(ordered), strict=True):
        np.testing.assert_allclose(out @ found, found @ into, atol=1e-11 * np.abs(out).max() * np.abs(into).max())


def test_schur_counts_pairs_of_equal_parts() -> None:
    """Maps between 2 scalars + 3 vectors: one number for each pair of equal irreducible parts."""
    space = 2 * SO3.T(0) + 3 * SO3.T(1)
    assert maps(space, space) == 2 * 2 + 3 * 3
    assert maps(SO3.T(1) @ S4.T(1), SO3.T(1) @ S4.T(1)) == 1 * 2  # the product of both counts


def test_lie_elements_stand_beside_permutations_in_one_list() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 0]])
    flip = families.SignedPermutation([0, 1, 2], [1, 1, -1])
    both = [families.LieElement(turn), families.LieElement(np.roll(turn, (1, 1), (0, 1))), flip]
    tensors = [families.kronecker_sum(x, 2) for x in both[:2]] + [families.kronecker_power(flip, 2)]
    w = affinet.weights({"w": (9, 9)}).w
    one = families.equivariant(w, tensors, tensors)
    side = "[LieElement(array(9, 9)), LieElement(array(9, 9)), SignedPermutation(array(9), array(9))]"
    assert one.text == f"equivariant(w, inputs={side}, outputs={side})"
    lie = [x.matrix for x in tensors[:2]]
    two = [families.equivariant(w, lie, lie, lie_algebra=True), families.equivariant(w, tensors[2:], tensors[2:])]
    assert affinet.plan(one).free == affinet.plan(two).free == 3
    assert maps(O3.T(2), O3.T(2)) == 3


def test_how_representations_are_said() -> None:
    w = affinet.weights({"w": (9, 3)}).w
    assert families.equivariant(w, O3.T(1), O3.T(2)).text == "equivariant(w, inputs=O(3).T(1), outputs=O(3).T(2))"
    space = 2 * (SO3.T(0) + S4.T(1, 1)) @ SO3.T(1) + SO3.T(1).dual
    assert str(space) == "(2 * (SO(3).T(0) + S(4).T(1, 1))) @ SO(3).T(1) + SO(3).T(1).dual"
    assert str((SO3.T(1) + SO3.T(1)) ** 2) == "(SO(3).T(1) + SO(3).T(1))**2"
    assert ((SO3.T(1) ** 2).size, (3 * S4.T(2)).size, space.size) == (9, 48, 2 * 17 * 3 + 3)


def test_a_group_is_told_by_its_name_and_its_generators() -> None:
    assert same(groups.SO(3), groups.SO(3))
    assert not same(groups.SO(3), groups.SO(3).named("other"))
    assert not same(groups.Group("SO(3)", [[1, 2, 0]]), groups.SO(3))
    assert not same(groups.Group("g", [[1, 2, 0]]), groups.Group("g", [[2, 0, 1]]))
    assert not same(groups.Group("g", [np.eye(2)[::-1]]), groups.Group("g", [families.LieElement(np.eye(2)[::-1])]))
    assert str(groups.SO(3)) == "SO(3)"


def test_a_group_of_ones_own() -> None:
    quarter = [[0, -1], [1, 0]]
    assert invariants(groups.Group("quarter turns", [quarter]).T(2)) == invariants(groups.C(4).T(2)) == 2


def test_tensor_powers_of_sparse_matrices_stay_sparse() -> None:
    M = scipy.sparse.random_array((3, 3), density=0.5, rng=1)
    for make, dense in ((families.kronecker_power, np.array), (families.kronecker_sum, np.array)):
        for k in range(4):
            found = make(M, k)
            assert scipy.sparse.issparse(found)
            np.testing.assert_allclose(found.toarray(), make(dense(M.toarray()), k), atol=1e-15)
    chain = scipy.sparse.csr_array(np.diag(np.ones(9), 1) - np.diag(np.ones(9), -1))
    large = families.kronecker_sum(chain, 5)  # dense it would be 74 GiB
    assert (large.shape, large.nnz) == ((10**5, 10**5), 5 * 18 * 10**4)
    torch_sparse = torch.from_numpy(M.toarray()).to_sparse()
    np.testing.assert_allclose(families.kronecker_power(torch_sparse, 2).toarray(), np.kron(M.toarray(), M.toarray()))


def test_tensor_powers_of_permutations_are_permutations() -> None:
    p, signed = [2, 0, 1], families.SignedPermutation([1, 0], [1, -1])
    assert np.array_equal(families.kronecker_power(p, 2), families.powers(p, 2))
    cubed = families.kronecker_power(signed, 3)
    matrix = np.diag([1, -1]) @ np.eye(2)[[1, 0]]
    dense = families.kronecker_power(matrix, 3)
    np.testing.assert_array_equal(np.diag(cubed.signs) @ np.eye(8)[cubed.permutation], dense)


def test_duals_pair_with_what_they_are_dual_to() -> None:
    M = DRAW.standard_normal((3, 3))
    np.testing.assert_allclose(families.dual(M).T @ M, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(families.dual(scipy.sparse.csr_array(M)).toarray(), families.dual(M))
    turn = scipy.linalg.expm(np.array([[0.0, -1], [1, 0]]))
    assert np.array_equal(families.dual(turn), turn)
    X = families.LieElement(M)
    assert np.array_equal(families.dual(X).matrix, -M.T)
    assert np.asarray(families.dual([1, 2, 0])).tolist() == [1, 2, 0]
    np.testing.assert_allclose(
        families.dual(scipy.linalg.expm(M)), scipy.linalg.expm(families.dual(X).matrix), atol=1e-10
    )


def test_complex_generators_act_on_real_and_imaginary_parts() -> None:
    M, N = (DRAW.standard_normal((3, 3)) + 1j * DRAW.standard_normal((3, 3)) for _ in range(2))
    x = DRAW.standard_normal(3) + 1j * DRAW.standard_normal(3)
    parts = families.real_blocks(M) @ np.concatenate([x.real, x.imag])
    np.testing.assert_allclose(parts, np.concatenate([(M @ x).real, (M @ x).imag]))
    np.testing.assert_allclose(families.real_blocks(M @ N), families.real_blocks(M) @ families.real_blocks(N))
    np.testing.assert_array_equal(families.real_blocks(torch.from_numpy(M)), families.real_blocks(M))
    sparse = families.real_blocks(scipy.sparse.csr_array(M))
    assert scipy.sparse.issparse(sparse)
    np.testing.assert_array_equal(sparse.toarray(), families.real_blocks(M))
    assert families.real_blocks(np.eye(2)).tolist() == np.eye(4).tolist()
    w = affinet.weights({"w": (2, 2)}).w
    turn = families.real_blocks(np.array([[np.exp(0.3j)]]))
    assert affinet.plan(families.equivariant(w, [turn], [turn])).free == 2  # multiplication by a complex number


def test_direct_sums_of_lie_elements_and_of_sparse_matrices() -> None:
    X = np.array([[0.0, -1], [1, 0]])
    both = families.direct_sum(families.LieElement(X), families.LieElement(np.zeros((1, 1))))
    np.testing.assert_array_equal(both.matrix, scipy.linalg.block_diag(X, 0))
    sparse = families.direct_sum(scipy.sparse.csr_array(X), [1, 0], X)
    assert scipy.sparse.issparse(sparse)
    np.testing.assert_array_equal(sparse.toarray(), scipy.linalg.block_diag(X, np.eye(2)[[1, 0]], X))


def test_matrices_of_mostly_zeros_are_held_sparse_and_say_the_same() -> None:
    draw = np.random.default_rng(3)
    X = np.where(draw.random((20, 20)) < 0.1, draw.standard_normal((20, 20)), 0.0)
    w = affinet.weights({"w": (20,)}).w
    plans = [
        affinet.plan(families.equivariant(w, outputs=[form], lie_algebra=True))
        for form in (X, scipy.sparse.csr_array(X), torch.from_numpy(X), X.tolist())
    ]
    assert len({plan.rank for plan in plans}) == 1
    single = families.equivariant(w, outputs=[X.astype(np.float32)], lie_algebra=True)
    assert single.expression.epsilon == float(np.finfo(np.float32).eps)


def test_a_vector_that_a_group_turns_wholly_leaves_nothing() -> None:
    for space in (SO3.T(1), groups.C(5).T(1), groups.SL(2).T(1), groups.SL(2).T(3)):
        w = affinet.weights({"w": (space.size,)}).w
        rule = families.equivariant(w, outputs=space)
        with pytest.warns(NothingToTrainWarning, match=re.escape(f"equivariant(w, outputs={space})")):
            affinet.plan(rule)


def test_what_is_no_representation() -> None:
    w = affinet.weights({"w": (3, 3)}).w
    with pytest.raises(RuleError, match="inputs is a list of generators and the other side is a representation"):
        families.equivariant(w, [[1, 2, 0]], SO3.T(1))
    with pytest.raises(RuleError, match="outputs is a list of generators and the other side"):
        families.equivariant(w, SO3.T(1), [[1, 2, 0]])
    with pytest.raises(RuleError, match=r"Z\(3\) acts on Z\(3\).T\(1\) but not on outputs=SO\(3\).T\(1\)"):
        families.equivariant(w, Z3.T(1), SO3.T(1))
    with pytest.raises(RuleError, match=r"S\(4\) acts on .* but not on inputs=SO\(3\).T\(1\)"):
        families.equivariant(w, SO3.T(1), SO3.T(1) @ S4.T(0))
    with pytest.raises(RuleError, match="lie_algebra=True is for lists of matrices"):
        families.equivariant(w, SO3.T(1), SO3.T(1), lie_algebra=True)
    with pytest.raises(ShapeError, match="must end with"):
        families.equivariant(w, SO3.T(2), SO3.T(1))
    with pytest.raises(RuleError, match="generator 0 is an element of a Lie algebra in outputs and one of the group"):
        families.equivariant(w, [[1, 2, 0]], [families.LieElement(np.zeros((3, 3)))])
    for wrong in ((-1,), (1, 65), (True,), (0.5,)):
        with pytest.raises(ShapeError, match="takes integers from 0 to 64; got T"):
            SO3.T(*wrong)
    for make in (lambda: 0 * SO3.T(1), lambda: SO3.T(1) ** 0, lambda: -2 * SO3.T(1)):
        with pytest.raises(ShapeError, match="and needs one or more"):
            make()
    V = SO3.T(1)
    for operation in (lambda: 1.5 * V, lambda: V + 1, lambda: V @ "V", lambda: V**0.5):
        with pytest.raises(TypeError):
            operation()
    for named in (
        groups.SO,
        groups.O,
        groups.SL,
        groups.GL,
        groups.Sp,
        groups.S,
        groups.Z,
        groups.C,
        groups.D,
        groups.U,
    ):
        for size in (0, -1, 2.0, True, "3"):
            with pytest.raises(ShapeError, match="takes an integer n from 1"):
                named(size)
    with pytest.raises(ShapeError, match="the group mine"):
        groups.Group("mine", [np.ones((2, 3))])


def test_what_is_no_element() -> None:
    w, X = affinet.weights({"w": (3,)}).w, families.LieElement(np.eye(3))
    with pytest.raises(ShapeError, match=r"the matrix of LieElement has shape \(2, 3\)"):
        families.LieElement(np.ones((2, 3)))
    for wrong in (np.eye(3) * 1j, (np.eye(3) * 1j).tolist(), torch.eye(3, dtype=torch.complex64)):
        with pytest.raises(ShapeError, match=r"generator 0 of outputs is complex.*real_blocks"):
            families.equivariant(w, outputs=[wrong])
    with pytest.raises(RuleError, match="kronecker_power takes group elements"):
        families.kronecker_power(X, 2)
    with pytest.raises(RuleError, match="kronecker_sum takes elements of a Lie algebra"):
        families.kronecker_sum([1, 0], 2)
    with pytest.raises(RuleError, match="some parts of direct_sum are a LieElement and some are not"):
        families.direct_sum(X, np.eye(2))
    with pytest.raises(ShapeError, match="singular, so it is not an element of a group and has no dual"):
        families.dual(np.ones((2, 2)))
    for make in (families.real_blocks, families.dual):
        with pytest.raises(ShapeError, match="must be a square matrix"):
            make(np.ones((2, 3)))


def test_generators_are_minimal() -> None:
    """One element less for each bracket: so(5) has 10 dimensions, and 4 turns of neighbouring axes make them."""
    count: dict[str, int] = {str(group): len(group.generators) for group, _ in DIMENSIONS}
    assert (count["SO(5)"], count["SL(4)"], count["Sp(3)"], count["SU(3)"], count["Lorentz()"]) == (4, 6, 6, 4, 5)
    for first, second in pairwise(groups.SO(4).generators):
        assert _brackets(first, second) > 0


def _brackets(first: Generator, second: Generator) -> float:
    a, b = (scipy.sparse.csr_array(x.matrix()).toarray() for x in (first, second))
    return float(np.abs(a @ b - b @ a).max())


@pytest.mark.parametrize("make", [groups.SO, groups.O, groups.SL, groups.GL, groups.Sp, groups.U, groups.SU])
def test_a_group_of_more_generators_than_memory_holds_is_refused_before_it_is_made(make: Any) -> None:
    with pytest.raises(TooLargeError, match=r"generators of 1,000,000 × 1,000,000 would|generators of 2,000,000 × 2"):
        make(1_000_000)


def test_copies_are_laid_end_to_end_in_order() -> None:
    space = groups.SO(2).T(1) + groups.SO(2).T(0)
    turn = space.matrices[0].toarray()
    for count in (1, 2, 3, 7):
        np.testing.assert_array_equal((count * space).matrices[0].toarray(), np.kron(np.eye(count), turn))
