"""Planning: what counts as a rule, and rules that cannot hold together."""

from __future__ import annotations

import numpy as np
import pytest

import affinet
from affinet.errors import AttachError, ConstantError, InfeasibleError, NothingToTrainWarning, RuleError, TooLargeError
from affinet.language import families
from affinet.language.forecast import limited
from tests.errors.case import case
from tests.errors.symbols import M, W, b

TOGETHER = "Rules that no numbers satisfy at once.", "Drop or change one of those listed; the rest can hold."
SEVERAL = list(affinet.weights({"left": (30, 30), "right": (20,)}))
LARGE = affinet.weights({"large": (300, 300)}).large


@case(RuleError, "Something that is not a rule was given as one.", "Write an equation between weights.")
def planning_a_number() -> None:
    affinet.plan(42)


@case(RuleError, "A norm of an expression that is not an array of weights.", "Give weights, or slices of them.")
def a_ball_of_a_sum() -> None:
    affinet.plan(families.l1_ball(2 * b + 1, 1.0))


@case(RuleError, "A norm of an expression that reads a weight twice.", "Give weights that differ.")
def a_ball_of_one_weight_twice() -> None:
    affinet.plan(families.l1_ball(b[[0, 0]], 1.0))


@case(RuleError, "A weight of bounded norm in another rule.", "Bound other weights, or leave one of the rules out.")
def a_ball_and_a_bound_of_one_weight() -> None:
    affinet.plan([families.l1_ball(b, 1.0), b[0] >= 0])


@case(InfeasibleError, "A lower bound above the upper.", "Change one of the two.")
def bounds_that_cross() -> None:
    affinet.plan([b >= 1, b <= 0])


@case(InfeasibleError, "A lower bound of many weights above the upper.", "Change one of the two.")
def bounds_of_many_weights_that_cross() -> None:
    affinet.plan([LARGE >= 1, LARGE <= 0])


@case(InfeasibleError, "A sum below the sum of the lower bounds.", "Change the sum or the bounds.")
def a_sum_below_its_bounds() -> None:
    affinet.plan([b >= 1, b.sum() <= 1])


@case(InfeasibleError, "Sums below the sums of the lower bounds.", "Change the sums or the bounds.")
def many_sums_below_their_bounds() -> None:
    affinet.plan([LARGE >= 1, LARGE.sum(dim=1) == 1])


@case(InfeasibleError, "A chain that is longer than its bounds.", "Change the gaps or the bounds.")
def chains_beyond_their_bounds() -> None:
    affinet.plan([LARGE.diff(dim=1) >= 1, affinet.between(0, LARGE, 1)])


@case(InfeasibleError, "Inequalities that no weights satisfy together.", "Drop or change one of those listed.")
def inequalities_without_a_point() -> None:
    affinet.plan([b[0] + b[1] >= 1, b[1] + b[2] >= 1, b[0] + b[2] >= 1, b[0] + b[1] + b[2] <= 1])


@case(InfeasibleError, "Weights that a mask fixes outside their bounds.", "Change the value or the bound.")
def fixed_entries_outside_their_bounds() -> None:
    affinet.plan([families.fix(LARGE, where=np.tri(300, k=200, dtype=bool), value=0.0), LARGE >= 1])


@case(InfeasibleError, "Sums that contradict beside bounds.", "Drop or change one of those listed.")
def sums_that_contradict_beside_bounds() -> None:
    affinet.plan([W[0].sum() == 0, W[0].sum() == 3, W >= -5])


@case(InfeasibleError, "A weight that is fixed outside its bounds.", "Change the value or the bound.")
def a_value_outside_its_bounds() -> None:
    affinet.plan([b == 0, b >= 1])


@case(RuleError, "A tolerance that is none.", "Leave it out, or give a small number.")
def a_tolerance_that_is_none() -> None:
    affinet.plan(b == 0, tolerance=-1)


@case(RuleError, "Rules about two models at once.", "Take all symbols from one `affinet.weights(model)`.")
def rules_of_two_models() -> None:
    other = affinet.weights({"hidden.weight": (5, 5)})["hidden.weight"]
    affinet.plan([W == 0, other == 0])


def shared_equations() -> list[affinet.Constraint]:
    """2,000 equations that share one weight, in a polyhedron."""
    w = affinet.weights({"u": (2_000,), "v": (2_000,), "t": (1,)})
    return [(w["u"] + w["v"] + w["t"][0] == 1).named("shared"), w["u"] >= 0, w["v"] >= 0, w["t"] >= 2]


@case(TooLargeError, "Very many equations of a polyhedron that share weights.", "Drop some of them.")
def equations_with_too_many_products() -> None:
    with limited(0, "", limit=2**25):
        affinet.plan(shared_equations()[:2])


@case(TooLargeError, "Very many equations and inequalities without a point.", "Drop some of them.")
def a_certificate_that_does_not_fit() -> None:
    with limited(0, "", limit=50_000_000):  # more than the products of the equations take
        affinet.plan(shared_equations())


@case(TooLargeError, "Very many inequalities of a polyhedron are active at once.", "Drop some of them.")
def active_rows_with_too_many_products() -> None:
    w = affinet.weights({"w": (600,), "t": (1,)})
    arrays = {"w": np.full(600, 9.0), "t": np.zeros(1)}
    with limited(0, "", limit=2**21):
        affinet.plan((w["w"] <= w["t"][0]).named("capped")).projector(arrays).project(arrays)


@case(TooLargeError, "Rules that need more memory than any plan should.", "Say them with sums over whole axes.")
def a_plan_beyond_memory() -> None:
    huge = affinet.weights({"huge": (100_000, 100_000)}).huge
    affinet.plan([huge.sum(dim=1) == 1, huge.sum(dim=0) == 1, huge[0, 0] == huge[1, 1]])


@case(NothingToTrainWarning, "The rules leave one value for every entry.", "Drop a rule, or say `families.fix`.")
def rules_that_leave_nothing() -> None:
    affinet.plan([(b.sum() == 0).named("sum"), (b[0] == b[1]).named("first"), (b[1] == b[2]).named("second")])


@case(InfeasibleError, *TOGETHER)
def two_values_for_one_entry() -> None:
    affinet.plan([(W == 0).named("all zero"), (W.sum(dim=1) == 1).named("rows sum to one")])


@case(InfeasibleError, "A rule that no numbers satisfy, whatever the others say.", "Change it or drop it.")
def a_rule_that_cannot_hold() -> None:
    affinet.plan(b[0] == b[0] + 1)


@case(ConstantError, "A number beyond 1e140 in a rule.", "Divide the rule by it.")
def a_value_beyond_floats() -> None:
    affinet.plan(b[0] * 1e-300 == 1e300)


@case(ConstantError, "Quotients of numbers leave float64.", "Measure weights in other units, or write 0.")
def numbers_of_one_rule_far_apart() -> None:
    affinet.plan(1e-200 * b[0] + 1e-200 * b[1] == 1e130)


@case(ConstantError, "Quotients of numbers leave float64.", "Measure weights in other units, or write 0.")
def numbers_of_rules_far_apart() -> None:
    far = (1e-250 * b[0] - 1e100 * b[1] == 0).named("far")
    affinet.plan([far, (1e-200 * b[2] - 1e120 * b[1] == 0).named("farther")])


@case(InfeasibleError, *TOGETHER, fragment="hidden.bias[0] == 1")
def an_entry_said_twice() -> None:
    affinet.plan([b[0] == 0, b[0] == 1])


@case(InfeasibleError, *TOGETHER, fragment="hidden.bias[0] == hidden.bias[2] + 2")
def a_circle_of_ties() -> None:
    affinet.plan([b[0] == b[1], b[1] == b[2], b[0] == b[2] + 2])


@case(InfeasibleError, *TOGETHER, fragment="hidden.bias[0] == 3 * hidden.bias[1] + 1")
def a_circle_of_ratios() -> None:
    affinet.plan([b[0] == b[1], b[0] == 2 * b[1] + 1, b[0] == 3 * b[1] + 1])


@case(InfeasibleError, *TOGETHER, fragment="hidden.bias.sum() == 2")
def a_sum_said_twice() -> None:
    affinet.plan([b.sum() == 1, b.sum() == 2])


@case(InfeasibleError, *TOGETHER, fragment='"their sum"')
def a_sum_of_two_equations() -> None:
    x, y = b[0] + b[1] + W[0, 0], b[1] + W[0, 0] + W[2, 3]
    affinet.plan([x == 0, y == 0, (x + y == 1).named("their sum")])


@case(InfeasibleError, *TOGETHER, fragment='"their sum"')
def a_large_component() -> None:
    places = np.arange(520)
    first, second, third = places, (7 * places + 1) % 520, (13 * places + 5) % 520
    rows = LARGE.flatten()[first] + 2 * LARGE.flatten()[second] + 3 * LARGE.flatten()[third]
    affinet.plan([(rows[:519] == 1).named("rows"), (rows[:519].sum() == 1).named("their sum")])


@case(InfeasibleError, *TOGETHER, fragment="these rules cannot hold together")
def two_dense_matrices() -> None:
    matrix = np.random.default_rng(0).standard_normal((160, 920))
    first, second = families.linear(SEVERAL, matrix[:81], 1), families.linear(SEVERAL, matrix[80:], 2)
    affinet.plan([first.named("first"), second.named("second")])


@case(InfeasibleError, *TOGETHER, fragment='"twice the rows"')
def rows_of_a_large_matrix() -> None:
    affinet.plan([(LARGE.sum(dim=1) == 1).named("rows"), ((2 * LARGE).sum(dim=1) == 3).named("twice the rows")])


@case(InfeasibleError, *TOGETHER, fragment='"columns"')
def rows_and_columns_of_a_large_matrix() -> None:
    affinet.plan([(LARGE.sum(dim=1) == 1).named("rows"), (LARGE.sum(dim=0) == 2).named("columns")])


@case(InfeasibleError, *TOGETHER, fragment='"everything"')
def a_few_equations_beside_a_large_matrix() -> None:
    affinet.plan(
        [
            (LARGE.sum(dim=1) == 1).named("rows"),
            (LARGE.sum(dim=0) == 1).named("columns"),
            (LARGE[0, 1:] == 0).named("everything"),
            (LARGE[0, 0] == 2).named("first"),
        ]
    )


@case(InfeasibleError, *TOGETHER, fragment='"the rest"')
def a_few_sums_beside_a_large_matrix() -> None:
    affinet.plan(
        [
            (LARGE.sum(dim=1) == 1).named("rows"),
            (LARGE.sum(dim=0) == 1).named("columns"),
            (LARGE[0, :100].sum() == 0).named("the beginning"),
            (LARGE[0, 100:].sum() == 2).named("the rest"),
        ]
    )


@case(InfeasibleError, *TOGETHER, fragment='"columns"')
def a_large_symmetric_matrix() -> None:
    affinet.plan(
        [
            families.symmetric(LARGE).named("symmetric"),
            (LARGE.sum(dim=1) == 1).named("rows"),
            (LARGE.sum(dim=0) == 2).named("columns"),
        ]
    )


@case(InfeasibleError, "Rules that no numbers satisfy at once, too long to be read number by number.", TOGETHER[1])
def rules_of_very_many_numbers() -> None:
    weight = affinet.weights({"weight": (4096, 2048)}).weight
    affinet.plan([(weight.sum(dim=1) == 1).named("rows sum to one"), (weight[0] == 0).named("first row is zero")])


@case(InfeasibleError, "The last weight would be 1e400, and floats end at 1.8e308.", "Take ratios nearer to one.")
def a_chain_of_ratios_beyond_floats() -> None:
    scores = affinet.weights({"scores": (5,)}).scores
    affinet.plan([(scores[0] == 1).named("first"), (scores[:4] == 1e-100 * scores[1:]).named("ratios")])


@case(
    InfeasibleError,
    "Many rules over many numbers: finding out which of them it is would take long.",
    "Drop or change one of those listed, and plan again.",
    foreign="(?<=A=array).*(?=Drop)",
)
def many_rules_of_a_dense_core() -> None:
    draw = np.random.default_rng(0)
    matrix = draw.standard_normal((90, 30))
    rhs = matrix @ draw.standard_normal(30)
    rhs[0] += 1
    scores = affinet.weights({"scores": (30,)}).scores
    with pytest.MonkeyPatch.context() as patch:  # in place of many thousands of equations
        patch.setattr("affinet.analysis.diagnosis.searching.SMALL_CORE", 0)
        patch.setattr("affinet.planning.elimination.combinations.MOST_WORK", 1)
        affinet.plan([families.linear([scores], matrix[k::30], rhs[k::30]).named(f"part {k}") for k in range(30)])


@case(AttachError, "A projector for something that holds no tensors.", "Give the model.")
def a_projector_for_text() -> None:
    affinet.plan(M == 0).projector("model")


@case(InfeasibleError, *TOGETHER)
def large_rules_that_fix_an_entry_apart() -> None:
    affinet.plan([LARGE == 0, (LARGE[:250] == 1).named("ones")])


@case(InfeasibleError, *TOGETHER)
def a_symmetric_matrix_with_large_rules_that_are_not() -> None:
    counting = (LARGE == np.arange(90_000.0).reshape(300, 300)).named("counting")
    affinet.plan([families.symmetric(LARGE), counting])


@case(InfeasibleError, "A sum over a large weight below the sum of its lower bounds.", "Change the sum or the bounds.")
def a_sum_over_a_large_weight_below_its_bounds() -> None:
    large = affinet.weights({"large": (400, 400)})["large"]
    affinet.plan([large >= 1, large.sum() <= 3])


@case(RuleError, "A ball of an expression that is not affine.", "Bound the sum of its squares.")
def a_ball_of_squares() -> None:
    affinet.plan(families.l2_ball(b**2, 1.0))


@case(RuleError, "A ball on weights of a nonlinear equation.", "Write the rules about different weights.")
def a_ball_on_a_sphere() -> None:
    affinet.plan([b.norm() == 1, families.l1_ball(b, 1.0)])


@case(RuleError, "Bounded singular values of weights in another rule.", "Leave one of the rules out.")
def a_spectrum_and_a_bound_of_one_weight() -> None:
    wide = affinet.weights({"wide": (2, 3)})["wide"]
    affinet.plan([families.spectral_norm(wide, 1.0), wide[0] >= 0])


@case(RuleError, "Many inequalities on the weights of a nonlinear equation.", "Train towards them by multipliers.")
def many_inequalities_on_a_sphere() -> None:
    large = affinet.weights({"large": (400, 400)})["large"]
    affinet.plan([(large**2).sum() == 1, large.sum(dim=0) <= 1])


@case(InfeasibleError, "A nonlinear equation all of whose weights are fixed.", "Change the value or the equation.")
def a_nonlinear_equation_of_fixed_weights() -> None:
    large = affinet.weights({"large": (400, 400)})["large"]
    affinet.plan([large == 2.0, large[:5, :5].det() == 3])


@case(InfeasibleError, "A nonlinear equation whose weights cancel.", "Change or drop it.")
def a_nonlinear_equation_without_weights() -> None:
    affinet.plan(b[0] ** 2 - b[0] ** 2 == 1)
