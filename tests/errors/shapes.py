"""Shapes, axes and indices of expressions."""

from __future__ import annotations

import numpy as np

import affinet
from affinet.errors import ShapeError, UnknownWeightError
from affinet.language.evaluation import evaluate
from tests.errors.case import case
from tests.errors.symbols import K, M, W, b, empty


@case(ShapeError, "A bound of shape (m, 1) for weights of shape (m,).", "Give the bound the shape of the weights.")
def a_bound_that_repeats_the_weights() -> object:
    return b <= np.ones((b.size, 1))


@case(ShapeError, "An index beyond the end of an axis.", "Indices run from 0 to the size minus one.")
def an_index_out_of_range() -> object:
    return W[3, 0]


@case(ShapeError, "An index array with a number beyond the end.", "Indices run from 0 to the size minus one.")
def an_index_array_out_of_range() -> object:
    return W[[0, 7]]


@case(ShapeError, "An index beyond the end, next to an array.", "Indices run from 0 to the size minus one.")
def an_index_out_of_range_beside_an_array() -> object:
    return W[[0, 1], 9]


@case(ShapeError, "A mask or positions in a tensor of uint8.", "Write `.bool()` or `.long()`.")
def an_index_of_bytes() -> object:
    import torch

    return b[torch.tensor([1, 0, 1], dtype=torch.uint8)]


@case(ShapeError, "A ragged index list.", "Make all rows equally long.")
def a_ragged_index() -> object:
    return W[[[0, 1], [2]]]


@case(ShapeError, "An index that is not an integer.", "Write integers.")
def an_index_of_text() -> object:
    return W["first"]


@case(ShapeError, "An index array of fractions.", "Write integers.")
def an_index_of_fractions() -> object:
    return W[[0.5, 1.5]]


@case(ShapeError, "`...` twice.", "Write it once.")
def two_ellipses() -> object:
    return W[..., 0, ...]


@case(ShapeError, "More indices than axes.", "Give at most one index per axis.")
def too_many_indices() -> object:
    return W[0, 0, 0]


@case(ShapeError, "A mask of another shape.", "Give the mask the shape of the axes that it indexes.")
def a_mask_of_another_shape() -> object:
    return W[[True, False]]


@case(ShapeError, "A slice whose bounds are not integers.", "Write integers.")
def a_slice_with_fractions() -> object:
    return W[0.5:2]


@case(ShapeError, "A slice with step 0.", "Write another step.")
def a_slice_without_step() -> object:
    return W[::0]


@case(ShapeError, "Index arrays that do not fit each other.", "Give all the same length.")
def index_arrays_that_do_not_broadcast() -> object:
    return W[[0, 1], [0, 1, 2]]


@case(ShapeError, "Two shapes that do not broadcast.", "Reshape, transpose or index one side.")
def shapes_that_do_not_broadcast() -> object:
    return W == b


@case(ShapeError, "A matrix product with sizes that differ.", "Transpose one side.")
def a_product_that_does_not_fit() -> object:
    return [[1, 2]] @ W


@case(ShapeError, "`@` with a single number.", "Write `*`.")
def a_product_with_a_number() -> object:
    return 2 @ W


@case(ShapeError, "An axis that is not an integer.", "Count axes from 0, or from the end with -1.")
def an_axis_of_text() -> object:
    return W.sum(dim="rows")


@case(ShapeError, "An axis that the expression does not have.", "Count axes from 0, or from the end with -1.")
def an_axis_out_of_range() -> object:
    return W.sum(dim=2)


@case(ShapeError, "One axis named twice.", "Name it once.")
def an_axis_twice() -> object:
    return W.sum(dim=(0, -2))


@case(ShapeError, "A permutation that leaves axes out.", "Name every axis once.")
def a_short_permutation() -> object:
    return W.permute(0)


@case(ShapeError, "`flatten` with the axes in the wrong order.", "Give the first axis first.")
def flattening_backwards() -> object:
    return W.flatten(1, 0)


@case(ShapeError, "The numbers of shifts and of axes differ.", "Give one shift per axis.")
def shifts_that_do_not_fit() -> object:
    return W.roll((1, 2), (0,))


@case(ShapeError, "A diagonal along one axis.", "Name two different axes.")
def a_diagonal_along_one_axis() -> object:
    return W.diagonal(0, 1, 1)


@case(ShapeError, "A shape with another number of entries.", "The product of the sizes must stay the same.")
def a_reshape_that_does_not_fit() -> object:
    return W.reshape(5, -1)


@case(ShapeError, "The mean of no entries.", "Leave the rule out where the axis is empty.")
def a_mean_of_nothing() -> object:
    return empty.mean(dim=0)


@case(ShapeError, "A triangle of an expression with one axis.", "Use it on matrices.")
def a_triangle_of_a_vector() -> object:
    return b.tril()


@case(ShapeError, "Parts whose other axes differ.", "Transpose or slice one of them.")
def concatenating_what_does_not_fit() -> object:
    return affinet.concat([W, M])


@case(ShapeError, "Parts of different shapes.", "Slice them to one shape.")
def stacking_what_does_not_fit() -> object:
    return affinet.stack([W, M])


@case(ShapeError, "An empty list.", "Give one expression or more.")
def concatenating_nothing() -> object:
    return affinet.concat([])


@case(ShapeError, "An empty list.", "Give one expression or more.")
def stacking_nothing() -> object:
    return affinet.stack([])


@case(ShapeError, "A value that is not a list.", "Put brackets around the parts.")
def stacking_a_number() -> object:
    return affinet.stack(3)


@case(ShapeError, "The numbers for a weight have another shape.", "Give an array of the weight's shape.")
def evaluating_with_another_shape() -> object:
    return evaluate(b, {"hidden.bias": [1, 2]})


@case(UnknownWeightError, "The numbers for a weight are missing.", "Give an array for each weight of the expression.")
def evaluating_without_a_weight() -> object:
    return evaluate(b, {"bias": [1, 2, 3]})


@case(ShapeError, "The subscripts of einsum were left out.", "Write them first, as text.")
def einsum_without_subscripts() -> object:
    return affinet.einsum(W, [0, 1])  # type: ignore[arg-type]


@case(ShapeError, "Subscripts for more operands than there are.", "Give an operand for each.")
def einsum_of_too_few_operands() -> object:
    return affinet.einsum("ij,j->i", W)


@case(ShapeError, "Subscripts that are not letters.", "Write a letter for each axis.")
def einsum_with_numbers_for_letters() -> object:
    return affinet.einsum("i1->i", W)


@case(ShapeError, "Subscripts with another number of axes.", "Write a letter for each axis, or `...`.")
def einsum_with_too_many_letters() -> object:
    return affinet.einsum("ijk->i", W)


@case(ShapeError, "A letter of the result that no operand has.", "Take letters of the operands, each once.")
def einsum_with_an_unknown_letter() -> object:
    return affinet.einsum("ij->k", W)


@case(ShapeError, "One letter for axes of two sizes.", "Take another letter, or slice to one size.")
def einsum_over_two_sizes() -> object:
    return affinet.einsum("ij,j->i", W, [1, 2, 3])


@case(ShapeError, "One letter for axes of two sizes.", "Take another letter, or slice to one size.", fragment="named i")
def einsum_of_a_diagonal_of_two_sizes() -> object:
    return affinet.einsum("ii->i", W)


@case(ShapeError, "One letter for an axis and one of size one.", "Slice to one size.", fragment="named i")
def einsum_of_a_diagonal_of_one() -> object:
    return affinet.einsum("ii->i", W[:, :1])


@case(ShapeError, "A rotation of one axis, or of three.", "Name the two axes of the plane.")
def a_turn_about_one_axis() -> object:
    return K.rot90(1, (0,))


@case(ShapeError, "Axes moved to fewer places.", "Name a place for each.")
def a_move_of_axes_to_nowhere() -> object:
    return K.movedim((0, 1), 2)


@case(ShapeError, "`expand` repeats an axis whose size is not one.", "Use `repeat`, or the shape that it has.")
def an_expansion_of_a_long_axis() -> object:
    return W.expand(6, 4)


@case(ShapeError, "Fewer counts than axes.", "Give a count for each axis, or call `tile`.")
def a_repetition_of_too_few_axes() -> object:
    return W.repeat(2)


@case(ShapeError, "Counts that are negative or not integers.", "Count how often each position is repeated.")
def a_negative_count() -> object:
    return b.repeat_interleave(-1)


@case(ShapeError, "The number of counts is not the size of the axis.", "Give one count, or one for each position.")
def counts_of_another_length() -> object:
    return b.repeat_interleave([1, 2], dim=0)


@case(ShapeError, "`squeeze` of an axis whose size is not one.", "Take an index on it, or leave it.")
def a_squeeze_of_a_long_axis() -> object:
    return W.squeeze(0)


@case(ShapeError, "A new axis beyond the last.", "Name a place in the result.")
def a_new_axis_beyond_the_last() -> object:
    return W.unsqueeze(3)


@case(ShapeError, "An order that depends on the memory layout, which weights in a rule do not have.", 'Write "F".')
def an_order_of_memory() -> object:
    return W.ravel("A")
