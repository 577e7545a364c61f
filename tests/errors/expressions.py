"""Expressions in the weights: functions that rules cannot have, and what NumPy does that an expression cannot."""

from __future__ import annotations

import numpy as np
import torch

import affinet
from affinet.errors import (
    ConstantError,
    MissingOperationError,
    NotAffineError,
    RuleError,
    ShapeError,
    TruthValueError,
)
from affinet.language.substitution import substitute
from tests.errors.case import case
from tests.errors.symbols import M, W, b, scale, w


@case(NotAffineError, "Weights in an exponent.", "Take logarithms on both sides.")
def an_exponential() -> object:
    return 2**b


@case(NotAffineError, "An exponent that is a weight.", "Take logarithms on both sides.", fragment="in the exponent")
def a_power_of_weights() -> object:
    return b**b


@case(NotAffineError, "A power that is not whole.", "Write `exp(p * log(x))`.", fragment="the exponent must be")
def a_power_that_is_not_whole() -> object:
    return b**0.3


@case(NotAffineError, "A norm of another order.", "Take a family such as `l1_ball`.", fragment="Euclidean lengths only")
def a_sum_of_magnitudes() -> object:
    return W.norm(1)


@case(NotAffineError, "The spectral norm.", "Write Euclidean lengths, `.norm(dim=…)`.", fragment="the spectral norm")
def a_spectral_norm() -> object:
    return np.linalg.norm(W, 2)  # type: ignore[arg-type]


@case(ShapeError, "A matrix product with a single number of weights.", "Write `*`.", fragment="write `*`")
def a_matrix_product_with_a_number() -> object:
    return W @ scale


@case(ShapeError, "A matrix product of weights of other sizes.", "Transpose one of them.", fragment="inner sizes")
def a_matrix_product_of_other_sizes() -> object:
    return W @ b


@case(ShapeError, "Stacks of weights of other numbers.", "Take as many matrices on both sides.", fragment="stacks of")
def stacks_of_other_numbers() -> object:
    return affinet.stack([M, M]) @ affinet.stack([M, M, M])


@case(ShapeError, "A determinant or an inverse of a matrix that is not square.", "Take a square part of it.")
def a_determinant_of_a_matrix_that_is_not_square() -> object:
    return W.det()


@case(ConstantError, "A function of a constant at which it has no value.", "Look at the constant.")
def a_logarithm_of_a_negative_constant() -> object:
    return affinet.einsum("i,->i", [-1.0, 1.0], 1.0).log()


@case(ConstantError, "The inverse of a singular matrix of constants.", "Look at the matrix.")
def an_inverse_of_a_singular_constant() -> object:
    return affinet.stack([[1.0, 1.0], [1.0, 1.0]]).inverse()


@case(ConstantError, "A function of frozen weights that has no value there.", "Train the weights, or change them.")
def a_logarithm_of_frozen_weights() -> object:
    return substitute(b.log(), {"hidden.bias": [-1.0, 1.0, 1.0]})


@case(NotAffineError, "An absolute value.", "Write the rule for one sign.")
def an_absolute_value() -> object:
    return abs(W)


@case(NotAffineError, "Floor division.", "Write `/`.")
def floor_division() -> object:
    return W // 2


@case(NotAffineError, "A remainder.", "Write the rule without `%`.")
def a_remainder() -> object:
    return W % 2


@case(RuleError, "`!=` between weights and numbers.", "Write `==`, `<=` or `>=`.")
def what_is_not_equal() -> object:
    return W != 0


@case(RuleError, "A strict inequality.", "Write `<=`.", fragment="Write `<=`")
def less() -> object:
    return W < 0


@case(RuleError, "A strict inequality.", "Write `>=`.", fragment="Write `>=`")
def greater() -> object:
    return W > 0


@case(TruthValueError, "Two bounds in one comparison.", "Write `affinet.between`.")
def a_chain_of_bounds() -> object:
    return 0 <= W <= 1


@case(TruthValueError, "A chain of `==`, or a rule after `if`.", "Write two rules, or `families.tie`.")
def a_chain_of_equations() -> object:
    return W[0] == W[1] == W[2]


@case(TruthValueError, "Weights after `if`, `and` or `not`.", "Ask the model for its numbers.")
def an_expression_as_a_condition() -> object:
    return not W


@case(RuleError, "The name of a rule is empty or not text.", 'Write `.named("rows sum to one")`.')
def a_rule_without_a_name() -> object:
    return (W == 0).named("")


@case(MissingOperationError, "A misspelt method.", "Take one of those listed.")
def a_misspelt_method() -> object:
    return W.summ()


@case(MissingOperationError, "A method of tensors that has another name here.", "Write the name in the message.")
def a_method_of_tensors() -> object:
    return W.view(12)


@case(MissingOperationError, "A function that is not affine.", "Write the rule without it.")
def a_function_that_is_not_affine() -> object:
    return torch.relu(W)


@case(MissingOperationError, "A NumPy function with arguments in NumPy's order.", "Call the method by its name.")
def a_function_with_unclear_arguments() -> object:
    return np.diff(W, 2)


@case(ShapeError, "`dim` and `axis` at once.", "Give one of them.")
def dim_and_axis() -> object:
    return W.sum(dim=0, axis=1)


@case(TypeError, "A loop over a single number.", "Use the number itself.")
def iterating_over_a_number() -> object:
    return list(scale)


@case(ShapeError, "More axes than NumPy has.", "Write the rule with fewer `None`.")
def too_many_axes() -> object:
    return affinet.weights({"deep": (1,) * 32}).deep[..., None]


@case(NotAffineError, "A number is wanted from an expression.", "Take it from the model.")
def an_expression_as_a_number() -> object:
    return float(b[0])  # type: ignore[arg-type]


@case(MissingOperationError, "An option that only NumPy has, or an axis left out.", "Write the method.")
def an_option_of_numpy() -> object:
    return np.sum(W, where=True)  # type: ignore[call-overload]


@case(MissingOperationError, "A function of NumPy that is not affine.", "Write the rule without it.")
def a_maximum() -> object:
    return np.maximum(W, 0)  # type: ignore[call-overload]


@case(MissingOperationError, "A reduction by one of NumPy's own functions.", "Call the method.")
def a_reduction_of_numpy() -> object:
    return np.add.reduce(W)  # type: ignore[arg-type]


@case(RuleError, "A strict inequality of an array.", "Write `>=`.", fragment="Write `>=`")
def an_array_that_is_less() -> object:
    return np.ones(4) < W


@case(MissingOperationError, "An array of an expression.", "Write `affinet.stack`.")
def an_array_of_an_expression() -> object:
    return np.asarray(W, dtype=float)


@case(MissingOperationError, "The length of an expression.", "Write `.shape[0]`.")
def the_length_of_an_expression() -> object:
    return len(W)


@case(MissingOperationError, "An expression used as a mapping.", "Write `affinet.weights(model).items()`.")
def a_dictionary_of_an_expression() -> object:
    return dict(W)


@case(ShapeError, "An index of a group that could mean two things.", "Write `[0, ...]`, or take the weight of a list.")
def an_index_of_a_group() -> object:
    return w["*.weight"][0]


@case(ShapeError, "Two groups of different lengths.", "Take groups with the same number of weights.")
def groups_of_different_lengths() -> object:
    return w["*.weight"] - w["*.bias"]


@case(MissingOperationError, "An attribute that groups of weights do not have.", "Take one of those listed.")
def the_shape_of_a_group() -> object:
    return w["*.weight"].shape


@case(MissingOperationError, "An array of several weights.", "Write `affinet.stack`.")
def an_array_of_a_group() -> object:
    return np.array(w["*.weight"], dtype=float)


@case(TruthValueError, "A group of weights after `if`.", "Ask the model for its numbers.", fragment="no truth value")
def a_group_as_a_condition() -> object:
    return not w["*.weight"]


@case(TruthValueError, "A chain of `==`, or rules after `if`.", "Write two rules.", fragment="no truth value")
def rules_as_a_condition() -> object:
    return bool(w["*.weight"].sum() == 0)
