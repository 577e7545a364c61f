from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import affinet
from affinet.language.constraint import Constraint
from affinet.report.pages import Contents, page
from affinet.report.pages.contents import Comparison, Curve, Figure, Price, Prices
from affinet.report.pages.curve_charts import whole_ticks
from affinet.report.pages.rule_marks import RuleReader
from affinet.report.pages.sampling import panel_of, sample_of
from affinet.report.pages.shown_numbers import shown_number, with_minus_signs
from affinet.report.plan_text import split_plan_text
from tests.report.pages.html_checks import checked

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><b>",
    "</title><img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "a\u202eb\u2066c\x00\x1b[31m",
    "]]><!--",
    "&lt;i&gt;&amp;",
)
LIMIT = 3_000_000


def contents_named(name: str) -> Contents:
    """Contents with a name in every place that takes text, and numbers that charts have to survive."""
    weights = affinet.weights({name: (3, 4)})
    plan = affinet.plan([(weights[name].sum(dim=1) == 1).named(name), (weights[name] >= 0).named(f"{name} 2")])
    sample = sample_of((3, 4), 64)
    panel = panel_of(name, np.array([[1.0, 0, 0, 0], [0.25] * 4, [np.nan, np.inf, 0, 1]]), sample)
    picture = RuleReader(plan.system).picture(plan.parameters[0], sample, (panel,), 1e-7)
    curve = Curve(name, name, name, (1, 2, 3), (1.0, np.nan, 3.0), True, (name, 2.0))
    prices = Prices((Price(name, 2.0, -0.02, (name,)),), 1, 0.5, 0.01, name)
    return Contents(
        name,
        "unfinished",
        name,
        (Figure(name, name),),
        (name,),
        name,
        (name,),
        (picture,),
        name,
        (curve, replace(curve, values=(0.0, 0.0, 0.0)), replace(curve, places=(), values=())),
        prices,
        Comparison(name, ((name, name, name),)),
        (name,),
        ((name, name),),
        f"{name}\n{name}",
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_text(name: str) -> None:
    plain, hostile = page(contents_named("plain")), page(contents_named(name))
    read = checked(hostile)
    assert [tag for tag, _ in read.elements] == [tag for tag, _ in checked(plain).elements]
    assert not any(not c.isprintable() and c not in "\n\t" for c in hostile)
    shown = name.encode("unicode_escape").decode() if not name.isprintable() else name
    assert shown in read.shown


def test_a_page_of_nothing_is_a_page() -> None:
    read = checked(page(Contents("run", "unfinished", "No epoch is finished.")))
    assert "No epoch is finished." in read.shown
    assert not read.named("h2")


def test_long_lists_are_cut_and_say_so() -> None:
    many = tuple(f"rule number {k} keeps a sum of weights" for k in range(100_000))
    prices = Prices(tuple(Price(name, 1.0, -0.01) for name in many[:1000]), len(many), None, 0.01)
    contents = Contents("run", "finished", "", sentences=many, findings=many, prices=prices, job="x" * 10_000_000)
    text = page(replace(contents, plan="y" * 10_000_000))
    assert len(text.encode()) <= LIMIT
    assert checked(text).shown.count("The first 200 of 100,000 are shown.") == 3


def test_long_curves_are_sampled() -> None:
    steps = tuple(float(k) for k in range(100_000))
    text = page(Contents("run", "finished", "", curves=(Curve("Loss", "", "step", steps, steps),)))
    assert len(text.encode()) <= 200_000
    assert "One row of every 1,000, of 100,000 in all." in checked(text).shown


def test_every_chart_has_its_numbers_for_screen_readers() -> None:
    read = checked(page(contents_named("plain")))
    drawings = [attributes for attributes in read.named("svg") if attributes.get("viewbox")]
    assert drawings
    assert all(attributes.get("aria-hidden") == "true" for attributes in drawings)
    assert len(read.named("figcaption")) == len(read.named("figure"))
    assert all("tabindex" in attributes for attributes in read.named("div") if attributes.get("class") == "scroll")


def pictures_of(rules: list[Constraint], values: np.ndarray) -> str:
    """The page of rules on one weight `a` that has these values, as it is read."""
    plan = affinet.plan(rules)
    sample = sample_of(values.shape, 64)
    panel = panel_of("With the rules", values, sample)
    picture = RuleReader(plan.system).picture(plan.parameters[0], sample, (panel,), 1e-7)
    return " ".join(checked(page(Contents("run", "finished", "", pictures=(picture,)))).shown.split())


def test_entries_that_equations_tie_in_pairs_are_drawn_as_the_words_say() -> None:
    """Opposite, scaled and shifted pairs are ties in words, and in pictures too."""
    a = affinet.weights({"a": (5, 3)})["a"]
    rules = [
        (a[0, 0] == -a[0, 1]).named("opposite"),
        (a[0, 0] == 3 * a[0, 2]).named("scaled"),
        (a[1, 0] == a[1, 1] + 0.5).named("shifted"),
    ]
    assert str(affinet.plan(rules)).count("ties 1 pair of weights") == 3
    assert "5 tied in 2 groups, 10 free" in pictures_of(rules, np.ones((5, 3)))


def test_sums_name_their_row_and_are_shown_without_rounding() -> None:
    a = affinet.weights({"a": (3, 2)})["a"]
    values = np.array([[1.0, 7e-9], [0.5, 0.5], [0.5, -0.5]])
    assert "; row 1 sums to 1; columns sum to between 0 and 2." in pictures_of(
        [(a[1].sum() == 1).named("row"), (a.sum(dim=0) >= 0).named("columns")], values
    )
    assert "From 0 to 1; rows sum to 1" in pictures_of(
        [(a.sum(dim=1) == 1).named("rows")], np.array([[1.0, 0], [0, 1], [0.5, 0.5]])
    )


def test_rules_of_rows_that_are_not_drawn_are_counted() -> None:
    a = affinet.weights({"a": (200, 2)})["a"]
    rules = [(a[k, 0] >= -1).named(f"rule {k}") for k in range(200)]
    assert "rule 5, … (200 in all)" in pictures_of(rules, np.ones((200, 2)))
    shown = split_plan_text(str(affinet.plan(rules))).sentences
    assert shown[30] == "… 160 more"
    assert len(shown) == 41


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((1, 1), [1]),
        ((1, 3), [1, 2, 3]),
        ((1, 7), [2, 4, 6]),
        ((0, 50_000), [*range(0, 50_001, 10_000)]),
        ((0.5, 3), []),
    ],
)
def test_epochs_on_an_axis_are_whole_and_occur_once(ends: tuple[float, float], ticks: list[int]) -> None:
    assert whole_ticks(*ends) == ticks


def test_parts_of_an_emoji_stay_joined_and_other_joiners_are_shown() -> None:
    read = checked(page(Contents("\U0001f469\u200d\U0001f52c a\u200db", "finished", "")))
    assert "\U0001f469\u200d\U0001f52c a\\u200db" in read.shown


def test_numbers_have_one_kind_of_minus() -> None:
    assert shown_number(-0.0) == "0"
    assert with_minus_signs("R² -0.3, 2e-07 of rule-3 and a-1") == "R² −0.3, 2e−07 of rule-3 and a-1"
