"""Numbers in rules: what can stand beside the weights."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse
import torch

from affinet.errors import ConstantError, RuleError
from affinet.language import families
from tests.errors.case import case
from tests.errors.symbols import M, W, b


@case(
    ConstantError,
    "A rule with weights on one side and neither weights nor numbers on the other.",
    "Write a number, a list or an array.",
)
def text_as_a_constant() -> object:
    return W == "zero"


@case(ConstantError, "NaN or infinity as a number of a rule.", "Write a finite number.")
def nan_as_a_constant() -> object:
    return W == float("nan")


@case(ConstantError, "An array with NaN or infinities.", "Clean the array first, as with `np.isfinite`.")
def an_array_with_nan() -> object:
    return b == np.array([1.0, np.nan, np.inf])


@case(ConstantError, "A bound that is NaN, or that no weight can satisfy.", "Give a number, or inf for no upper bound.")
def a_bound_below_all_numbers() -> object:
    return W <= -float("inf")


@case(ConstantError, "An array of bounds with NaN or the wrong infinity.", "Give -inf where there is no lower bound.")
def an_array_of_bounds_with_nan() -> object:
    return b >= np.array([0.0, np.nan, -np.inf])


@case(ConstantError, "A lower bound above the upper bound.", "Exchange the bounds.")
def bounds_in_the_wrong_order() -> object:
    return families.between([0, 2, 0], b, 1)


@case(RuleError, "The weights in the place of a bound of `between`.", "Write `between(lower, w, upper)`.")
def weights_in_the_place_of_a_bound() -> object:
    return families.between(b, 0, 1)


@case(ConstantError, "A ball without a radius.", "Give a positive radius, or write `families.fix`.")
def a_radius_of_zero() -> object:
    return families.l2_ball(W, [1, 0, 1], dim=1)


@case(ConstantError, "Sums of rows and of columns with different totals.", "Scale one of them.")
def different_totals() -> object:
    return families.transport(W, 1, 1)


@case(ConstantError, "An integer beyond 1e308.", "Scale the rule.")
def an_integer_beyond_floats() -> object:
    return W == 10**400


@case(ConstantError, "A list with an integer beyond 1e308.", "Scale the rule.")
def a_list_with_an_integer_beyond_floats() -> object:
    return b == [1, 2, 10**400]


@case(ConstantError, "Complex numbers.", "Write real and imaginary parts as two rules.")
def complex_constants() -> object:
    return b == np.array([1j, 0, 0])


@case(ConstantError, "A list of lists of different lengths.", "Make all rows equally long.", foreign="(?<=numbers: ).*")
def a_ragged_list() -> object:
    return M == [[1, 2, 3], [4, 5]]


@case(ConstantError, "A list that holds weights.", "Join weights with `affinet.stack` or `affinet.concat`.")
def a_list_of_weights() -> object:
    return W[0, :3] == [b[0], 1, 2]


@case(ConstantError, "A masked array of NumPy.", "Fill in the hidden numbers.")
def a_masked_array() -> object:
    return b == np.ma.masked_equal([1, 2, 3], 2)


@case(ConstantError, "A tensor on the meta device.", "Make the tensor on a real device.")
def a_tensor_without_numbers() -> object:
    return b == torch.zeros(3, device="meta")


@case(ConstantError, "A parameter in place of its symbol.", "Take the symbol from `affinet.weights(model)`.")
def a_parameter_as_a_constant() -> object:
    return b == torch.nn.Parameter(torch.zeros(3))


@case(ConstantError, "A quantized tensor.", "Write `.dequantize()`.")
def a_quantized_tensor() -> object:
    with warnings.catch_warnings():  # torch says that they will go
        warnings.simplefilter("ignore")
        quantized = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)
    return b == quantized


@case(ConstantError, "A sparse matrix outside of a product.", "Write `.toarray()`.")
def a_sparse_matrix_as_a_constant() -> object:
    return M == scipy.sparse.eye_array(3)


@case(ConstantError, "A complex sparse matrix.", "Keep its real part.")
def a_complex_sparse_matrix() -> object:
    return families.linear([b], scipy.sparse.eye_array(3, dtype=complex), 0)


@case(ConstantError, "A division by zero.", "Multiply the other side of the rule.")
def division_by_zero() -> object:
    return b / [1, 0, 2] == 1


@case(ConstantError, "A product of constants beyond 1e308.", "Scale the rule.")
def constants_that_overflow() -> object:
    return (b * 1e200) * 1e200 == 0


@case(ConstantError, "Weights in place of numbers.", "Write a rule with `==`.", fragment="is not a number, array")
def weights_as_a_value() -> object:
    return families.fix(b, value=b)
