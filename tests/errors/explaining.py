"""Why an entry is what it is: `affinet.explain(plan, entry)`."""

from __future__ import annotations

import numpy as np

import affinet
from affinet.errors import AttachError, RuleError, ShapeError, UnknownWeightError
from tests.errors.case import case
from tests.errors.symbols import W, w

PLAN = affinet.plan(W.sum(dim=1) == 1)


@case(RuleError, "The rules or the model in place of the plan.", "Give `affinet.plan(rules)`.")
def explaining_what_is_no_plan() -> object:
    return affinet.explain([W == 0], "hidden.weight[0, 0]")  # type: ignore[arg-type]


@case(RuleError, "Something that is not an entry.", "Write its name and its index.")
def explaining_a_number() -> object:
    return affinet.explain(PLAN, 3)  # type: ignore[arg-type]


@case(UnknownWeightError, "A weight that no rule of the plan is about.", "Name one that a rule is about.")
def explaining_another_weight() -> object:
    return affinet.explain(PLAN, "hidden.bias[0]")


@case(UnknownWeightError, "A misspelt weight.", "Take one of those listed.")
def explaining_a_misspelt_weight() -> object:
    return affinet.explain(PLAN, "hidden.weigth[0, 0]")


@case(ShapeError, "A weight of another model, of the same name and another shape.", "Take the plan's own symbols.")
def explaining_a_weight_of_another_shape() -> object:
    return affinet.explain(PLAN, affinet.weights({"hidden.weight": (5, 4)}).hidden.weight[0, 0])


@case(RuleError, "An index that is no number.", "Write integers and slices.")
def explaining_an_index_of_text() -> object:
    return affinet.explain(PLAN, "hidden.weight[first]")


@case(RuleError, "A sum or a multiple of entries.", "Ask for the entries one by one.")
def explaining_a_sum() -> object:
    return affinet.explain(PLAN, 2 * w.hidden.weight[0, 1])


@case(
    AttachError, "Weights without names, to explain an entry at.", "Give the model, or a mapping of names to tensors."
)
def explaining_at_weights_without_names() -> object:
    return affinet.explain(affinet.plan(W >= 0), "hidden.weight[0, 0]", weights=[1.0, 2.0])


def priced(rules: list[str] | None) -> object:
    """The one-sided prices of 501 bounds that are stated twice."""
    weights = {"w": np.zeros(501)}
    v = affinet.weights(weights)["w"]
    plan = affinet.plan([(v <= 0).named("once"), (2 * v <= 0).named("again")])
    return plan.projector(weights).one_sided_multipliers(weights, weights, rules)


@case(RuleError, "One-sided prices of very many rows that depend on each other.", "Name the rules that matter.")
def too_many_one_sided_prices() -> object:
    return priced(None)


@case(RuleError, "The name of no rule.", "Take one of those listed.")
def one_sided_prices_of_an_unknown_rule() -> object:
    return priced(["twice"])
