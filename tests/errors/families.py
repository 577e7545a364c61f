"""Families of rules: fixed entries, ties, patterns, matrices and stencils."""

from __future__ import annotations

import numpy as np

import affinet
from affinet.errors import ConstantError, RuleError, ShapeError
from affinet.language import families
from tests.errors.case import case
from tests.errors.symbols import K, M, W, b, w


@case(RuleError, "A model, an array or a name in place of a symbol.", "Take the symbol from `affinet.weights(model)`.")
def a_family_of_no_weights() -> object:
    return families.symmetric("out.weight")


@case(ShapeError, "A mask of the numbers 0 and 1.", "Make it booleans: `mask.astype(bool)`.")
def a_mask_of_numbers() -> object:
    return families.fix(b, where=np.ones(b.shape, int))


@case(ShapeError, "A family of matrices given a vector.", "Reshape it to a matrix.")
def a_family_of_matrices_given_a_vector() -> object:
    return families.toeplitz(b)


@case(ShapeError, "A family of square matrices given a matrix that is not square.", "Take a square part of it.")
def a_family_of_square_matrices() -> object:
    return families.symmetric(W)


@case(ShapeError, "The value of `fix` has another shape.", "Give one number, or one per entry.")
def fixing_to_another_shape() -> object:
    return families.fix(W, value=[[[1]]])


@case(RuleError, "`tie` of a single expression.", "Name the other, or write `share`.")
def tying_one_thing() -> object:
    return families.tie(W)


@case(ShapeError, "`tie` of different shapes.", "Slice them to one shape.")
def tying_different_shapes() -> object:
    return families.tie(W, M)


@case(ShapeError, "A sign other than -1, 0 and 1.", "Write -1, 0 or 1.")
def a_sign_that_is_none() -> object:
    return families.share(b, [0, 0, 1], signs=[1, 2, 1])


@case(ShapeError, "A pattern that is not of integers.", "Number the classes 0, 1, 2, …")
def a_pattern_of_fractions() -> object:
    return families.share(b, [0.5, 0.5, 1.0])


@case(ShapeError, "A pattern of another shape.", "Write one number per entry.")
def a_pattern_of_another_shape() -> object:
    return families.share(b, [0, 0])


@case(ShapeError, "A width of a band that is not an integer.", "Count the diagonals.")
def a_band_of_fractions() -> object:
    return families.banded(M, 0.5, 1)


@case(ShapeError, "A band that ends before it begins.", "Make lower + upper 0 or more.")
def an_empty_band() -> object:
    return families.banded(M, 1, -2)


@case(ShapeError, "Blocks that do not add up to the matrix.", "Change the sizes.")
def blocks_that_do_not_add_up() -> object:
    return families.block_diagonal(M, [1, 1])


@case(ShapeError, "A number of blocks that does not divide the matrix.", "Give the sizes one by one.")
def blocks_that_do_not_divide() -> object:
    return families.block_diagonal(M, 2)


@case(ShapeError, "Blocks that are neither a number nor sizes.", "Write integers or pairs of them.")
def blocks_that_are_none() -> object:
    return families.block_diagonal(M, "two")


@case(RuleError, "Rotations other than quarter and half turns.", "Write order=4 or order=2.")
def rotations_by_thirds() -> object:
    return families.rotations(K, order=3)


@case(RuleError, "`order` does not exceed the order of the derivative.", "Write a larger order.")
def moments_of_too_low_order() -> object:
    return families.moments(K, [[-1, 0, 1]] * 2, derivative=(2, 0), order=1)


@case(RuleError, "A derivative whose order is negative or not an integer.", "Write 0, 1, 2, …")
def a_derivative_that_is_none() -> object:
    return families.moments(K, [[-1, 0, 1]] * 2, derivative=(-1, 0), order=2)


@case(ShapeError, "Offsets that do not fit the stencil.", "Write one array per axis.")
def offsets_that_do_not_fit() -> object:
    return families.moments(K, [[-1, 0, 1]], derivative=(1, 0), order=2)


@case(ShapeError, "A padding of another kind.", 'Write numbers, "valid" or "same".')
def a_padding_that_is_none() -> object:
    return families.convolution(W, size=(4,), kernel_size=2, padding="full")


@case(ShapeError, "The size of the image does not say how many axes it has.", "Write a tuple.")
def an_image_without_axes() -> object:
    return families.convolution(W, size=4, kernel_size=2)


@case(ShapeError, "A stride, dilation or kernel that is not an integer.", "Write one integer, or one per axis.")
def a_stride_that_is_none() -> object:
    return families.convolution(W, size=(4,), kernel_size=2, stride=0)


@case(ShapeError, 'padding="same" with a stride.', "Give the padding as numbers.")
def same_padding_with_a_stride() -> object:
    return families.convolution(W, size=(4,), kernel_size=2, stride=2, padding="same")


@case(ShapeError, "A kernel larger than the image.", "Make it smaller, or pad the image.")
def a_kernel_beyond_the_image() -> object:
    return families.convolution(W, size=(4,), kernel_size=5)


@case(ShapeError, "A weight whose shape does not fit the convolution.", "Check size, kernel and padding.")
def a_matrix_that_is_no_convolution() -> object:
    return families.convolution(W, size=(3,), kernel_size=2)


@case(ShapeError, "Groups that do not divide the channels.", "Check the number of channels.")
def groups_that_do_not_divide() -> object:
    return families.convolution(W, size=(4,), kernel_size=2, groups=2)


@case(ShapeError, "A mask that fits the first and the last axes.", "Write `where=(..., mask)` or `where=(mask, ...)`.")
def a_mask_that_fits_twice() -> object:
    return families.fix(M, where=[True, False, True])


@case(ShapeError, "A value that fits the chosen entries and the weight.", "Give a value of one of the two shapes.")
def a_value_that_fits_twice() -> object:
    cube = affinet.weights({"cube": (3, 3, 3, 3)}).cube
    return families.fix(cube, where=(..., np.eye(3) > 0), value=np.ones((3, 3)))


@case(RuleError, "Modules whose weights have different names.", "Tie the weights one by one.")
def tying_modules_of_other_names() -> object:
    return families.tie(w.hidden, w.out)


@case(RuleError, "A module and a weight.", "Give modules, or weights.")
def tying_a_module_and_a_weight() -> object:
    return families.tie(w.hidden, W)


@case(RuleError, "A single module.", "Give two or more.")
def tying_one_module() -> object:
    return families.tie(w.hidden)


@case(ShapeError, "The radii of balls do not fit the vectors.", "Give one radius, or one per vector.")
def radii_that_do_not_fit() -> object:
    return families.l1_ball(W, np.ones(4), dim=1)


@case(RuleError, "A sense that rules do not have.", 'Write "==", "<=" or ">=".')
def a_strict_linear_rule() -> object:
    return families.linear([b], np.ones((1, 3)), sense="<")  # type: ignore[arg-type]


@case(ShapeError, "Lengths of another shape.", "Give one number, or one for each vector.", fragment="of the vectors")
def lengths_of_another_shape() -> object:
    return families.unit_norm(W, 1, [1, 2])


@case(ShapeError, "Neither rows nor columns.", 'Write `of="rows"` or `of="columns"`.', fragment="of='row'")
def orthogonal_of_another_word() -> object:
    return families.orthogonal(W, of="row")


@case(ShapeError, "More rows than entries in each.", 'Write `of="columns"`.', fragment="to each other")
def too_many_orthogonal_rows() -> object:
    return families.orthogonal(W.T)


@case(ShapeError, "A wavelet filter of odd length.", "Take an even number of entries.", fragment="even length")
def a_wavelet_of_odd_length() -> object:
    return families.wavelet(b)


@case(ShapeError, "More vanishing moments than half the entries.", "Take fewer moments.", fragment="vanishing moments")
def too_many_vanishing_moments() -> object:
    return families.wavelet(W, 3)


@case(ShapeError, "The factor of spd has other rows.", "Give it a row per row of the matrix.", fragment="spd takes a")
def a_factor_of_another_shape() -> object:
    return families.spd(W[:, :3], b[:2, None])


@case(ConstantError, "A negative floor of spd.", "Write 0 or a positive number.", fragment="the floor of spd")
def a_negative_floor() -> object:
    return families.spd(W[:, :3], W, floor=-1)


@case(
    ShapeError, "A table of monomials without pairs of entries and powers.", "Look at its columns.", fragment="row or"
)
def a_table_of_another_shape() -> object:
    return families.polynomial([b], [[0, 1.0, 0]])


@case(ShapeError, "A monomial of an entry that is not there.", "Count entries from 0.", fragment="the entries in the")
def a_monomial_of_another_entry() -> object:
    return families.polynomial([b], [[0, 1.0, 9, 1]])


@case(ShapeError, "An equation without monomials.", "Number the equations 0, 1, 2, …", fragment="has no monomials")
def an_equation_without_monomials() -> object:
    return families.polynomial([b], [[1, 1.0, 0, 1], [1, 1.0, 1, 1]])
