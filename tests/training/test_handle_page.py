from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import affinet
from affinet.analysis import prices
from tests.report.pages.html_checks import Page, checked

HANDLES = ("project", "reparametrize", "lagrange")


class Net(nn.Module):
    """Two layers; the weights of the second one may be frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 2)


def rules_of(model: Net) -> list[affinet.Constraint]:
    w = affinet.weights(model)
    return [
        (w.first.weight.sum(dim=1) == 1).named("rows & <sums>"),
        (w.second.bias[0] == w.second.bias[1]).named("a tie"),
    ]


def attached(kind: str, model: Net) -> tuple[affinet.Handle, torch.optim.Optimizer]:
    if kind == "reparametrize":
        handle = affinet.reparametrize(model, rules_of(model))
        return handle, torch.optim.SGD(model.parameters(), lr=0.1)  # type: ignore[return-value]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return getattr(affinet, kind)(model, optimizer, rules_of(model)), optimizer


def step(model: Net, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model.second(model.first(torch.ones(5, 4))).square().sum().backward()
    optimizer.step()


def written(path: Path) -> Page:
    return checked(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", HANDLES)
def test_the_page_of_a_report_has_rules_weights_and_prices(kind: str, tmp_path: Path) -> None:
    model = Net()
    handle, optimizer = attached(kind, model)
    step(model, optimizer)
    path = handle.report().html(tmp_path / "report.html")
    page = written(path)
    for text in ("rows & <sums>", "What the rules cost", "Present weights", "rows sum to", "2 tied in 1 group"):
        assert text in page.shown
    before = path.read_bytes()
    assert handle.html(path) == path
    assert path.read_bytes() == before


@pytest.mark.parametrize("kind", HANDLES)
def test_without_gradients_the_page_says_how_to_capture_them(kind: str, tmp_path: Path) -> None:
    page = written(attached(kind, Net())[0].html(tmp_path / "report.html"))
    assert "handle.capture()" in page.shown
    assert "Loosening" not in page.shown
    assert "Present weights" in page.shown


def test_observations_become_curves(tmp_path: Path) -> None:
    model = Net()
    handle, optimizer = attached("project", model)
    watch = handle.watch()
    for _ in range(3):
        step(model, optimizer)
    page = written(handle.report().html(tmp_path / "report.html", history=watch.history))
    for text in ("Largest violation", "Stationarity", "Undone by the projection"):
        assert text in page.shown
    assert "watch.history" not in page.shown


def test_frozen_weights_and_weights_of_16_bits_are_drawn(tmp_path: Path) -> None:
    model = Net().bfloat16()
    nn.init.zeros_(model.second.bias)
    model.second.requires_grad_(False)
    optimizer = torch.optim.SGD(model.first.parameters(), lr=0.1)
    with pytest.warns(affinet.errors.NothingTrainedWarning):
        handle = affinet.project(model, optimizer, rules_of(model))
    page = written(handle.html(tmp_path / "report.html"))
    assert "second.bias" in page.shown
    assert "first.weight" in page.shown


def test_nonlinear_rules_and_active_bounds_are_drawn(tmp_path: Path) -> None:
    model = Net()
    w = affinet.weights(model)
    rules = [
        affinet.families.unit_norm(w.first.weight, dim=1).named("lengths"),
        (w.second.weight >= 0.2).named("at least"),
        (w.second.weight <= 0.3).named("at most"),
        affinet.families.l2_ball(w.first.bias, 0.1).named("ball"),
    ]
    handle = affinet.project(model, torch.optim.SGD(model.parameters(), lr=0.1), rules)
    page = written(handle.html(tmp_path / "report.html"))
    active = sum(bounds.count for name, bounds in handle.active().items() if name.startswith("at "))
    assert active > 0
    assert f"{active} at a bound" in page.shown
    assert "12 in an equation" in page.shown
    assert "3 in an equation" in page.shown


def test_prices_that_take_minutes_are_left_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prices, "MOST_PRICED", 1)
    model = Net()
    handle, optimizer = attached("project", model)
    step(model, optimizer)
    page = written(handle.html(tmp_path / "report.html"))
    assert "of 14 pairs of a row and an entry that takes minutes. handle.report().html(path)" in page.shown
    assert "Loosening" not in page.shown
    assert "Loosening" in written(handle.report().html(tmp_path / "report.html")).shown
