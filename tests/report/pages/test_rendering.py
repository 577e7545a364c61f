from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import affinet
from affinet.report.pages import Contents, page
from affinet.report.pages.contents import Comparison, Curve, Figure, Price, Prices
from affinet.report.pages.rule_marks import RuleReader
from affinet.report.pages.sampling import panel_of, sample_of
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
    assert "Every 1000th of 100,000 rows." in checked(text).shown


def test_every_chart_has_its_numbers_for_screen_readers() -> None:
    read = checked(page(contents_named("plain")))
    drawings = [attributes for attributes in read.named("svg") if attributes.get("viewbox")]
    assert drawings
    assert all(attributes.get("aria-hidden") == "true" for attributes in drawings)
    assert len(read.named("figcaption")) == len(read.named("figure"))
    assert all("tabindex" in attributes for attributes in read.named("div") if attributes.get("class") == "scroll")
