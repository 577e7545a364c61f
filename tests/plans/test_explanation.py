"""Why a weight is what it is: the sentence, the chain of ties, the equations, and what is asked wrongly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import affinet
from affinet import families
from affinet.analysis.lookup import tracing

SHAPES = {"hidden.weight": (4, 6), "bias": (9,), "x": (), "big": (400, 400), "g": (5000,)}
W = affinet.weights(SHAPES)


def shown(entry: object, *rules: affinet.Constraint) -> str:
    return str(affinet.explain(affinet.plan(rules), entry))  # type: ignore[arg-type]


def test_a_tie_is_shown_link_by_link() -> None:
    text = shown(
        "bias[0]", W.bias[0] == W.bias[1], (2 * W.bias[1] == W.bias[2] + 1).named("twice"), W.bias[2] == W.bias[3]
    )
    assert (
        text
        == """\
bias[0] moves with 3 other entries: one number decides them.
  free: 0.1 (0 is determined, 1 is free)
  moves with: bias[1:4]
  tied to bias[2] by:
    bias[0] - bias[1] == 0    "bias[0] == bias[1]"
    2 * bias[1] - bias[2] == 1    "twice"
  in 1 equation:
    bias[0] - bias[1] == 0    "bias[0] == bias[1]\""""
    )


def test_a_pinned_entry_names_the_rules_that_pin_it() -> None:
    rules = [(W.bias[:3].sum() == 2).named("three"), (W.bias[1] + W.bias[2] == 0).named("two"), W.bias[4] == 1]
    found = affinet.explain(affinet.plan(rules), "bias[0]")
    assert (found.value, found.freedom, found.decided_by) == (2.0, 0.0, ("three", "two"))
    assert str(found).startswith('bias[0] can only be 2: the rules "three" and "two" together say so.')
    outright = affinet.explain(affinet.plan(rules), "bias[4]")
    assert str(outright).startswith('bias[4] can only be 1: the rule "bias[4] == 1" says so.')


def test_all_rules_that_pin_an_entry_are_named_where_a_tiny_coefficient_tells_them_apart() -> None:
    rules = [(1e-20 * W.bias[0] + W.bias[1:3].sum() == 2).named("tiny"), (W.bias[1] + W.bias[2] == 1).named("sum")]
    assert shown("bias[0]", *rules).startswith('bias[0] can only be 1e+20: the rules "tiny" and "sum" together say so.')


def test_entries_made_equal_by_sums_name_the_rules() -> None:
    rules = [(W.bias[:3].sum() == 1).named("one"), (W.bias[0] + W.bias[1] + W.bias[3] == 1).named("other")]
    found = affinet.explain(affinet.plan(rules), W.bias[2])
    assert (found.tied_to, found.decided_by, found.chain) == ("bias[3]", ("one", "other"), ())
    assert 'one number decides them: the rules "one" and "other" together say so.' in str(found)


def test_an_entry_that_is_held_and_not_determined() -> None:
    text = shown(W.hidden.weight[0, 1], (W.hidden.weight.sum(dim=1) == 1).named("rows"))
    assert text.startswith("hidden.weight[0, 1] is held by 1 equation, and not determined by it.\n  free: 0.833 ")
    assert '+ hidden.weight[0, 3] + … (6 entries) == 1    "rows"[0]' in text


def test_an_entry_in_no_rule() -> None:
    assert shown("bias[8]", W.bias[0] == 1).startswith("bias[8] is in no rule: nothing constrains it.\n  free: 1 ")
    assert shown("big[3, 3]", families.symmetric(W.big)).startswith("big[3, 3] is in no rule")


def test_a_weight_of_the_model_that_no_rule_speaks_of() -> None:
    assert shown(W.hidden.weight[0, 1], W.bias[0] == 1) == (
        "hidden.weight[0, 1] is in no rule: nothing constrains it.\n  free: 1 (0 is determined, 1 is free)"
    )
    assert shown(W.hidden.weight, W.bias[0] == 1).startswith("hidden.weight: 24 entries\n  24 in no rule\n  free: 1 ")


def test_the_sample_of_a_large_weight_sees_a_diagonal_as_often_as_it_is_there() -> None:
    w = affinet.weights({"square": (64, 64)})
    found = affinet.explain(affinet.plan([families.banded(w.square, 0, 0)]), "square")
    assert found.looked_at == 50
    assert found.determined >= 47
    assert found.untouched <= 3
    halves = affinet.explain(affinet.plan([w.square[:32] == 0]), "square")
    assert halves.determined == 25


def test_mirrors_pairs_and_borders() -> None:
    text = shown("big[3, 5]", families.symmetric(W.big).named("mirror"), W.big.sum(dim=0) == 0)
    assert "moves with: big[5, 3]" in text
    assert 'tied to big[5, 3] by:\n    big[3, 5] - big[5, 3] == 0    "mirror"[3, 5]' in text
    text = shown("big[0, 1]", W.big.sum(dim=1) == 1, W.big[0, 1] == W.bias[2])
    assert "moves with: bias[2]" in text


def test_long_chains_leave_out_their_middle() -> None:
    chain = W.g[:-1] == 2 * W.g[1:]
    text = shown("g[40]", chain)
    assert "tied to g[0] by:" in text
    assert "    … 28 more …" in text
    assert len(text.splitlines()) < 25


def test_ties_too_long_to_follow_are_said_without_their_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "MOST_VISITED", 5)
    monkeypatch.setattr(tracing, "MOST_EQUATIONS", 5)
    found = affinet.explain(affinet.plan(W.g[:-1] == W.g[1:]), "g[40]")
    assert (found.classmates, found.chain, found.decided_by) == (4_999, (), ())


def test_many_equations_are_counted() -> None:
    text = shown("bias[0]", *[W.bias[0] + W.bias[k] + k * W.hidden.weight[0, 0] == 0 for k in range(1, 9)])
    assert "in 8 equations:" in text
    assert "… 2 more" in text


def test_a_slice_gives_a_summary() -> None:
    rules = [W.bias[0] == 1, (W.bias[1] == W.bias[2]).named("a tie"), (W.bias[3:6].sum() == 1).named("a sum")]
    assert (
        shown("bias[:7]", *rules)
        == """\
bias[:7]: 7 entries
  1 determined: can take one value only
  2 tied: one number decides each together with other entries
  3 held by equations, and not determined
  1 in no rule
  free: 0.571 on average (0 is determined, 1 is free)
  by "bias[0] == 1", "a tie" and "a sum\""""
    )
    assert "big: 160,000 entries, of which 50 were looked at, drawn at random" in shown("big", W.big.sum(dim=1) == 1)
    assert shown(W.bias[:1], *rules).startswith("bias[0] can only be 1")


def test_frozen_weights_are_said_to_be_constants() -> None:
    model = torch.nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    w = affinet.weights(model)
    rule = w.weight.sum(dim=1) == w.bias
    handle = affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), rule)
    assert "frozen weights are constants in this plan" in str(affinet.explain(handle.projector.plan, "weight[0, 0]"))
    assert "frozen" not in str(affinet.explain(handle.plan, "weight[0, 0]"))
    text = str(affinet.explain(handle.projector.plan, "bias[0]"))
    assert text.startswith("bias[0] is frozen: in this plan it is a constant, at the value it had.\n  free: 0 ")
    assert str(affinet.explain(handle.projector.plan, w.bias[0])) == text
    with pytest.raises(affinet.UnknownWeightError, match="no rule of this plan is about a weight named 'ias'"):
        affinet.explain(handle.projector.plan, "ias[0]")


@pytest.mark.parametrize(
    ("entry", "error", "match"),
    [
        ("nothing[0]", affinet.UnknownWeightError, "no rule of this plan is about a weight named 'nothing'"),
        ("bia[0]", affinet.UnknownWeightError, "Did you mean 'bias'.* Its rules are about: bias"),
        (2 * W.big[0, 0], affinet.errors.RuleError, "is computed from weights"),
        ("bias[9]", affinet.ShapeError, "out of range"),
        ("bias[0, 1]", affinet.ShapeError, "bias"),
        ("bias[a]", affinet.errors.RuleError, "is not an entry: an index holds integers and slices"),
        ("bias[0", affinet.errors.RuleError, "is not an entry"),
        (3, affinet.errors.RuleError, "3 is not an entry of a weight"),
        (W.bias[4:4], affinet.errors.RuleError, "is not an entry of a weight"),
        (2 * W.bias[0], affinet.errors.RuleError, "is computed from weights; explain takes entries as they are"),
        (W.bias.sum(), affinet.errors.RuleError, "is computed from weights"),
        (W.bias[0] + W.bias[1], affinet.errors.RuleError, "is computed from weights"),
        (affinet.weights({"bias": (4,)}).bias[0], affinet.ShapeError, r"shape \(4,\) here and \(9,\) in this plan"),
    ],
    ids=str,
)
def test_what_is_no_entry(entry: object, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        shown(entry, W.bias == 1)


def test_a_plan_is_asked_for() -> None:
    with pytest.raises(affinet.errors.RuleError, match="explain takes a plan, made with affinet"):
        affinet.explain([W.bias == 1], "bias[0]")  # type: ignore[arg-type]


def test_numbers_and_dots_in_an_index() -> None:
    plan = affinet.plan([W.hidden.weight.sum(dim=1) == 1, W.x == 1])
    assert affinet.explain(plan, "hidden.weight[-1, 2]").entry == "hidden.weight[3, 2]"
    assert affinet.explain(plan, "hidden.weight[..., 0]").entries == 4
    assert affinet.explain(plan, "hidden.weight[0:4:2, 1]").entries == 2
    assert affinet.explain(plan, "x").entry == "x"


@pytest.mark.filterwarnings("ignore::affinet.NothingToTrainWarning")
def test_an_entry_that_is_fixed_beside_an_equation_over_all_of_them() -> None:
    """The equation over all entries says nothing beyond what fixes each of them."""
    plan = affinet.plan([3 * W.big - 2 * W.big == 1, W.big[::2].sum() - W.big[1::2].sum() == 0])
    assert [type(block).__name__ for block in plan.blocks] == ["Fixed"]
    assert plan.rank == plan.size
    found = affinet.explain(plan, "big[3, 2]")
    assert found.freedom == pytest.approx(0.0, abs=1e-12)


def test_a_layout_of_billions_is_explained_from_its_description() -> None:
    shapes = {f"layers.{k}.weight": (11008, 4096) for k in range(160)}
    w = affinet.weights(shapes)
    plan = affinet.plan([rule for name in shapes for rule in (w[name].sum(0) == 0, w[name].sum(1) == 0)])
    found = affinet.explain(plan, "layers.80.weight[11007, 4095]")
    assert found.freedom == pytest.approx((1 - 1 / 11008) * (1 - 1 / 4096))
    assert plan.findings == ()
    assert np.prod((11008, 4096)) * 160 > 7e9
