"""`A w = b`, subspaces, and symmetry under groups."""

from __future__ import annotations

import numpy as np

from affinet.errors import NothingToTrainWarning, RuleError, ShapeError
from affinet.language import families, groups
from tests.errors.case import case
from tests.errors.symbols import M, W, b

TURN = [1, 2, 0]


@case(ShapeError, "The number of columns of A is not the number of entries.", "Write one column per entry, in order.")
def a_matrix_of_another_width() -> object:
    return families.linear([W, b], np.ones((2, 12)), 0)


@case(ShapeError, "The length of b is not the number of rows of A.", "Write one number, or one per row.")
def a_right_hand_side_of_another_length() -> object:
    return families.linear([b], np.ones((2, 3)), [1, 2, 3])


@case(RuleError, "The weights are missing or are not expressions.", "Write a list such as [w.hidden.weight].")
def a_matrix_over_no_weights() -> object:
    return families.linear([], np.ones((1, 0)), 0)


@case(ShapeError, "The number of rows of the basis is not the number of entries.", "Write one row per entry.")
def a_basis_of_another_height() -> object:
    return families.subspace([b], np.ones((2, 1)))


@case(ShapeError, "The length of the offset is not the number of entries.", "Write one number, or one per entry.")
def an_offset_of_another_length() -> object:
    return families.subspace([b], np.ones((3, 1)), [1, 2])


@case(RuleError, "Neither inputs nor outputs.", "Give the generators for one side at least.")
def equivariance_without_a_group() -> object:
    return families.equivariant(M)


@case(RuleError, "The two sides have different numbers of generators.", "Write the identity where one does nothing.")
def generators_without_a_partner() -> object:
    return families.equivariant(M, inputs=[TURN, TURN], outputs=[TURN])


@case(ShapeError, "The matrix does not fit the generators.", "Check the order of inputs and outputs.")
def a_matrix_that_does_not_fit_the_group() -> object:
    return families.equivariant(W, inputs=[TURN], outputs=[TURN])


@case(ShapeError, "Signs other than 1 and -1, or too few.", "Write one sign per entry.")
def signs_that_are_none() -> object:
    return families.SignedPermutation(TURN, [1, 0, 1])


@case(RuleError, "The generators are not a list.", "Put brackets around them.")
def generators_that_are_no_list() -> object:
    return families.equivariant(M, inputs=3, outputs=[TURN])


@case(ShapeError, "Generators of different sizes.", "Each acts on the whole space.")
def generators_of_different_sizes() -> object:
    return families.equivariant(M, inputs=[TURN, [1, 0]], outputs=[TURN, TURN])


@case(ShapeError, "A permutation that lacks a place or repeats it.", "Write every integer from 0 to n - 1 once.")
def a_permutation_that_is_none() -> object:
    return families.equivariant(M, inputs=[[0, 0, 1]], outputs=[TURN])


@case(RuleError, "A permutation in place of an element of a Lie algebra.", "Leave `lie_algebra` out.")
def a_permutation_in_a_lie_algebra() -> object:
    return families.equivariant(M, inputs=[TURN], outputs=[TURN], lie_algebra=True)


@case(ShapeError, "A matrix that is not square.", "Write a square one.")
def a_generator_that_is_not_square() -> object:
    return families.equivariant(M, inputs=[np.ones((2, 3))], outputs=[TURN])


@case(ShapeError, "A matrix without an inverse.", "Check it, or write `lie_algebra=True`.")
def a_singular_generator() -> object:
    return families.equivariant(M, inputs=[np.ones((3, 3))], outputs=[TURN])


@case(RuleError, "A sum of no parts.", "Give one part or more.")
def a_direct_sum_of_nothing() -> object:
    return families.direct_sum()


@case(ShapeError, "A part that is not a square matrix.", "Write a square one.")
def a_part_that_is_not_square() -> object:
    return families.direct_sum(np.ones((2, 3)))


@case(ShapeError, "A negative power of a matrix.", "Write 0, 1, 2, …")
def a_negative_kronecker_power() -> object:
    return families.kronecker_power(np.eye(2), -1)


@case(ShapeError, "A negative power of a permutation.", "Write 0, 1, 2, …")
def a_negative_power_of_a_permutation() -> object:
    return families.powers(TURN, -1)


@case(NothingToTrainWarning, "Only zero commutes with this group.", "Give inputs and outputs a part in common.")
def a_group_that_leaves_nothing() -> object:
    return families.equivariant(b, outputs=[-np.eye(3)])


@case(ShapeError, "A matrix of a Lie algebra that is not square.", "Write a square one.")
def a_lie_element_that_is_not_square() -> object:
    return families.LieElement(np.ones((2, 3)))


@case(ShapeError, "Complex numbers in a generator.", "Write `families.real_blocks(matrix)`.")
def a_complex_generator() -> object:
    return families.equivariant(M, inputs=[1j * np.eye(3)], outputs=[TURN])


@case(RuleError, "An element of a Lie algebra on one side, of the group on the other.", "Write the same one on both.")
def a_lie_element_across_a_permutation() -> object:
    return families.equivariant(M, inputs=[TURN], outputs=[families.LieElement(np.zeros((3, 3)))])


@case(RuleError, "`lie_algebra` together with a representation.", "Leave it out.")
def a_representation_in_a_lie_algebra() -> object:
    return families.equivariant(M, groups.SO(3).T(1), groups.SO(3).T(1), lie_algebra=True)


@case(RuleError, "A representation on one side, a list on the other.", "Give representations of one group.")
def a_representation_beside_a_list() -> object:
    return families.equivariant(M, [TURN], groups.Z(3).T(1))


@case(RuleError, "Representations of different groups.", "Write `T(0)` of the other group where it does nothing.")
def representations_of_different_groups() -> object:
    return families.equivariant(M, groups.Z(3).T(1), groups.SO(3).T(1))


@case(ShapeError, "Tensors of a negative number of axes.", "Write 0, 1, 2, …")
def tensors_of_no_number_of_axes() -> object:
    return groups.SO(3).T(-1)


@case(ShapeError, "No copies of a representation.", "Write one or more.")
def no_copies_of_a_representation() -> object:
    return 0 * groups.SO(3).T(1)


@case(ShapeError, "A named group whose size is not a positive integer.", "Write 1, 2, 3, …")
def a_named_group_of_no_size() -> object:
    return groups.SO(0)


@case(RuleError, "A product where a Lie algebra has a sum.", "Write `families.kronecker_sum(X, k)`.")
def a_power_of_a_lie_element() -> object:
    return families.kronecker_power(families.LieElement(np.eye(2)), 2)


@case(RuleError, "A sum where a group has a product.", "Write `families.kronecker_power(p, k)`.")
def a_sum_of_permutations() -> object:
    return families.kronecker_sum(TURN, 2)


@case(RuleError, "Elements of a Lie algebra and of the group end to end.", "Make all of them `LieElement`.")
def a_direct_sum_of_both_kinds() -> object:
    return families.direct_sum(families.LieElement(np.eye(2)), np.eye(2))


@case(ShapeError, "The dual of a singular matrix.", "Check it, or write `families.LieElement(X)`.")
def a_dual_of_a_singular_matrix() -> object:
    return families.dual(np.ones((2, 2)))


@case(ShapeError, "Real blocks of a matrix that is not square.", "Write a square one.")
def real_blocks_of_no_square() -> object:
    return families.real_blocks(np.ones((2, 3)))
