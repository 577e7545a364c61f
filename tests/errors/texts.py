"""Rules as text: `affinet.parse`, and `says` in a job file."""

from __future__ import annotations

import affinet
from affinet.errors import ConstantError, ParseError, RuleError, ShapeError
from tests.errors.case import case
from tests.errors.symbols import w


@case(ParseError, "The magnitude of weights, as text.", "Write `between(-1, w, 1)`, or `l1_ball(w, radius)`.")
def a_magnitude_as_text() -> object:
    return affinet.parse("abs(hidden.bias) <= 1", w)


@case(ParseError, "The first argument is not text.", "Give the rule as text first, and the weights after it.")
def a_rule_that_is_no_text() -> object:
    return affinet.parse(3, w)


@case(RuleError, "The second argument is not the weights of a model.", "Give `affinet.weights(model)`.")
def a_text_about_a_model() -> object:
    return affinet.parse("scale == 0", {"scale": ()})


@case(ParseError, "A text of several rules has no rule.", "Write a rule on a line.")
def lines_without_a_rule() -> object:
    return affinet.parse_lines("# rules\n", w)


@case(ParseError, "The text is longer than any rule.", "Write the rule with slices and sums.")
def a_very_long_text() -> object:
    return affinet.parse("scale + " * 20_000 + "scale == 0", w)


@case(ParseError, "A character that is invisible in editors.", "Type the rule again.")
def an_unprintable_character() -> object:
    return affinet.parse("scale == \x00", w)


@case(ParseError, "Nothing but blanks or a comment.", "Write an equation.")
def an_empty_text() -> object:
    return affinet.parse("  # to do", w)


@case(ParseError, "One `=` in place of two.", "Write `==`.", foreign="(?<=not a rule: ).*(?=Equations)")
def one_equals_sign() -> object:
    return affinet.parse("scale = 1", w)


@case(
    ParseError,
    "A bracket is missing, or a sign too many.",
    "Look at the mark.",
    foreign="(?<=not a rule: ).*(?=A rule)",
)
def a_missing_bracket() -> object:
    return affinet.parse("hidden.bias[0 == 1", w)


@case(ParseError, "Hundreds of brackets inside each other.", "Write the rule with slices and sums.")
def a_rule_nested_too_deep() -> object:
    return affinet.parse("-" * 5000 + "scale == 1", w)


@case(ParseError, "A long chain of signs.", "Write the rule with slices and sums.", fragment="nested too deep")
def a_rule_nested_deep() -> object:
    return affinet.parse("scale == " + "-" * 700 + "1", w)


@case(ParseError, "An expression alone.", "Write what it is equal to.")
def a_text_without_an_equation() -> object:
    return affinet.parse("hidden.weight.sum(dim=1)", w)


@case(ParseError, "A chain of `==`.", "Write two rules, or `tie`.")
def two_equations_in_a_text() -> object:
    return affinet.parse("hidden.weight[0] == hidden.weight[1] == hidden.weight[2]", w)


@case(ParseError, "A strict inequality.", "Write `<=` or `>=`.")
def a_strict_inequality_in_a_text() -> object:
    return affinet.parse("scale > 0", w)


@case(ParseError, "A comparison that is not a rule.", "Write `==`, `<=` or `>=`.")
def a_text_of_what_is_not_equal() -> object:
    return affinet.parse("scale != 0", w)


@case(ParseError, "Two bounds in one comparison.", "Write `between`.", fragment="as between(0, a, 1)")
def two_bounds_in_a_text() -> object:
    return affinet.parse("0 <= scale <= 1", w)


@case(ParseError, "An equation between numbers.", "Name a weight on one side.")
def a_text_without_weights() -> object:
    return affinet.parse("1 == 1", w)


@case(ParseError, "Text where a number or a weight is meant.", "Write names in brackets after `w`.")
def quotes_in_a_text() -> object:
    return affinet.parse("scale == 'one'", w)


@case(ParseError, "A number beyond 1e308.", "Scale the rule.")
def a_large_number_in_a_text() -> object:
    return affinet.parse("scale == 1e999", w)


@case(ParseError, "The name of a function without its arguments.", "Write brackets after it.")
def a_function_without_brackets() -> object:
    return affinet.parse("stack == 1", w)


@case(ParseError, "A method without its brackets.", "Write brackets after it.")
def a_method_without_brackets() -> object:
    return affinet.parse("hidden.weight.sum == 1", w)


@case(ParseError, "A property that expressions do not have.", "Take one of those listed.")
def an_unknown_property_in_a_text() -> object:
    return affinet.parse("hidden.weight.t == 1", w)


@case(ParseError, "A method that expressions do not have.", "Take one of those listed.")
def an_unknown_method_in_a_text() -> object:
    return affinet.parse("hidden.weight.total() == 1", w)


@case(ParseError, "A dot after a number or a list.", "Write the numbers themselves.")
def a_property_of_a_list() -> object:
    return affinet.parse("hidden.bias == [1, 2, 3].T", w)


@case(ParseError, "An index array where the name of a weight is meant.", "Index by a number or a name.")
def a_module_indexed_by_a_list() -> object:
    return affinet.parse("w[[0, 1]] == 0", w)


@case(ParseError, "Brackets after a number.", "Write the number itself.")
def an_index_of_a_number() -> object:
    return affinet.parse("hidden.bias == 3[0]", w)


@case(ParseError, "A family on one side of `==`.", "Write it alone.")
def a_family_inside_an_equation() -> object:
    return affinet.parse("symmetric(out.weight) == 0", w)


def group(text: str) -> object:
    return affinet.parse(f"equivariant(hidden.bias, outputs={text})", w)


@case(ParseError, "A group that is not among the named groups.", "Take one of those listed, or write its generators.")
def an_unknown_group_in_a_text() -> object:
    return group("SO3(3).T(1)")


@case(ParseError, "A group without its size.", "Write it, as in SO(3).")
def a_group_without_its_size() -> object:
    return group("SO.T(1)")


@case(ParseError, "A weight or a number where a group is meant.", "Take one of those listed.")
def no_group_in_a_text() -> object:
    return group("hidden.bias")


@case(ParseError, "A group in place of a space.", "Write `.T(1)` for its vectors.")
def a_group_that_is_no_space() -> object:
    return group("SO(3)")


@case(ParseError, "Tensors without their axes.", "Write `.T(1)`.")
def tensors_without_axes() -> object:
    return group("SO(3).T")


@case(ParseError, "A difference or a quotient of spaces.", "Write sums, products, powers and duals.")
def a_difference_of_spaces() -> object:
    return group("SO(3).T(1) - SO(3).T(0)")


@case(ParseError, "A space that is larger than the weight.", "Check its tensors and copies.")
def a_space_beyond_the_weight() -> object:
    return group("SO(3).T(2)")


@case(ParseError, "Too many numbers for a group.", "Write those that it takes.", foreign="(?<=SO: ).*(?=It takes)")
def too_many_numbers_for_a_group() -> object:
    return group("SO(3, 3).T(1)")


@case(ParseError, "A size that is not an integer.", "Write an integer.")
def a_size_of_a_group_that_is_no_integer() -> object:
    return group("SO(3.5).T(1)")


@case(ParseError, "A space of a group outside of `inputs` and `outputs`, or in a list.", "Write it there, alone.")
def a_group_in_an_equation() -> object:
    return affinet.parse("SO(3).T(1) == 1", w)


@case(ParseError, "A function that the language does not have.", "Take one of those listed.")
def an_unknown_function() -> object:
    return affinet.parse("norm(scale) == 1", w)


@case(ParseError, "A value that is not a function is called.", "Remove the second brackets.")
def a_call_of_a_call() -> object:
    return affinet.parse("hidden.weight.sum()() == 1", w)


@case(ParseError, "A weight is called.", "Remove the brackets, or write `[…]`.")
def a_call_of_a_weight() -> object:
    return affinet.parse("hidden.weight(0) == 1", w)


@case(ParseError, "`*` before an argument.", "Write the arguments out.")
def a_starred_argument() -> object:
    return affinet.parse("stack(*scale) == 1", w)


@case(ParseError, "`**` before an argument.", "Write the arguments out.")
def a_doubly_starred_argument() -> object:
    return affinet.parse("hidden.weight.sum(**scale) == 1", w)


@case(
    ParseError, "Arguments that the function does not take.", "Take those listed.", foreign="(?<=sum: ).*(?=It takes)"
)
def an_unknown_argument() -> object:
    return affinet.parse("hidden.weight.sum(over=1) == 1", w)


@case(ParseError, "A minus before a list.", "Write the signs inside.")
def a_list_with_a_sign() -> object:
    return affinet.parse("hidden.bias == -[1, 2, 3]", w)


@case(ParseError, "Arithmetic between constants that are lists.", "Write the result.")
def arithmetic_between_lists() -> object:
    return affinet.parse("hidden.bias == 2 * [1, 2, 3]", w)


@case(ParseError, "A division by zero.", "Write the number.")
def a_text_that_divides_by_zero() -> object:
    return affinet.parse("scale == 1 / 0", w)


@case(RuleError, "An identity matrix without a number of rows.", "Write a whole number, 1 or more.")
def an_identity_of_no_rows() -> object:
    return affinet.parse("out.weight == eye(0)", w)


@case(ParseError, "A sum or product of identity matrices.", "Multiply one with a number.")
def a_sum_of_identities() -> object:
    return affinet.parse("out.weight == eye(3) + eye(3)", w)


@case(ParseError, "An identity matrix divided by zero.", "Divide by another number.", fragment="divides by zero")
def an_identity_divided_by_zero() -> object:
    return affinet.parse("out.weight == eye(3) / 0", w)


@case(ParseError, "Arithmetic with a value that is not a number.", "Write a number or a weight.")
def arithmetic_with_none() -> object:
    return affinet.parse("scale + None == 1", w)


@case(ParseError, "Python that is not part of the language.", "Write sums, products and indices.")
def python_in_a_text() -> object:
    return affinet.parse("[x for x in scale] == 1", w)


@case(ShapeError, "Any error of the language, raised by a text.", "See the error itself.")
def an_error_inside_a_text() -> object:
    return affinet.parse("scale == 1 +\n hidden.bias[7]", w)


@case(ParseError, "Subscripts of einsum that are not text.", "Write them first, in quotes.")
def einsum_without_quotes() -> object:
    return affinet.parse("einsum(hidden.weight, 1) == 0", w)


@case(ParseError, "A power beyond any float64.", "Write a smaller number.", fragment="larger than any float64")
def a_power_without_end() -> object:
    return affinet.parse("scale == 9**9**9", w)


@case(ParseError, "A root of a negative number.", "Look at the sign.", fragment="not a real number")
def a_root_of_a_negative_number() -> object:
    return affinet.parse("scale == (-8)**0.5", w)


@case(RuleError, "A function of something else than weights or a number.", "Look at the argument.")
def a_function_of_a_list() -> object:
    return affinet.parse("scale == sqrt([1])", w)


@case(ConstantError, "A function of a number at which it has no value.", "Look at the number.")
def a_logarithm_of_zero() -> object:
    return affinet.parse("scale == log(0)", w)
