"""The page of a run in a browser: it requests nothing, complains of nothing, and can be heard, typed and narrow."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from affinet.cli.commands import commands
from tests.browser.pictures import compare_picture
from tests.browser.visits import Visitor

JOB = """\
[data]
source = "sklearn:iris"

[model]
hidden = [6]

[train]
optimizer = "Adam"
learning_rate = 0.01
epochs = 5

[[rule]]
name = "rows sum to one"
says = "hidden1.weight.sum(dim=1) == 1"

[[rule]]
name = "<script>document.title='owned'</script>"
says = "hidden1.weight[:, 0] == hidden1.weight[:, 3]"

[[rule]]
name = "small outputs"
says = "output.weight <= 0.2"
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small run."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "job.toml").write_text(JOB)
    for words in (("train", folder / "job.toml", "--out", folder / "run"), ("report", folder / "run")):
        result = CliRunner().invoke(commands, [str(word) for word in words], catch_exceptions=False)
        assert result.exit_code == 0, result.output
    return folder / "run" / "report.html"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1160])
def test_the_page_is_quiet_and_accessible(visit: Visitor, page: Path, width: int, dark: bool) -> None:
    seen = visit(page, width=width, dark=dark)
    seen.page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    seen.check()
    seen.check_accessible()
    assert seen.requests == [seen.address]
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= width
    assert seen.page.title() != "owned"


def test_every_figure_is_drawn(visit: Visitor, page: Path) -> None:
    seen = visit(page, width=1160)
    boxes = seen.page.evaluate(
        "[...document.querySelectorAll('figure > svg')].map(each => "
        "[...['width', 'height'].map(side => each.getBoundingClientRect()[side]), "
        "each.querySelectorAll('path').length])"
    )
    assert len(boxes) == 13  # two weights at three times and with their rules, four curves, and the prices
    assert all(width > 20 and height > 10 and paths for width, height, paths in boxes), boxes


def test_a_keyboard_reaches_every_part(visit: Visitor, page: Path) -> None:
    seen = visit(page)
    seen.page.keyboard.press("Tab")
    assert seen.page.evaluate("document.activeElement.textContent") == "Skip to the report"
    parts = seen.page.evaluate("document.querySelectorAll('nav a').length")
    reached = []
    for _ in range(parts):
        seen.page.keyboard.press("Tab")
        reached.append(seen.page.evaluate("document.activeElement.getAttribute('href')"))
    assert len(set(reached)) == parts
    assert all(seen.page.evaluate("each => Boolean(document.querySelector(each))", each) for each in reached)


def test_paper_has_no_dark_background(visit: Visitor, page: Path) -> None:
    seen = visit(page, dark=True)
    seen.page.emulate_media(media="print", color_scheme="dark")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert seen.page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


@pytest.mark.parametrize(("name", "dark"), [("report_light", False), ("report_dark", True)])
def test_the_page_looks_as_it_did(visit: Visitor, page: Path, name: str, dark: bool) -> None:
    compare_picture(visit(page, width=1160, dark=dark), name)
