"""What the site makes of pages: cards, navigation, objects for public names, and the check of what was built."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import pytest

from tools import api_objects, api_page, check_site, site_pages

DOCS = Path(__file__).parents[1] / "docs"
LIST = (
    "## To begin\n\n<!-- pages -->\n<!-- cards -->\n"
    "- [First](first.md): one `rule`.\n- [Others](more/README.md): some\n  more.\n"
)
TABLE = (
    "<!-- cards -->\n| | |\n|---|---|\n"
    '| [<img src="a.png" width="360" alt="a curve">](a.md) | [A curve](a.md), with any optimizer |\n'
)
GALLERY = sorted(page for page in (DOCS / "gallery").glob("*.md") if page.name != "README.md")
PARTS = (
    *("**The question.**", "**The mathematics.**", "```python\n", ".png)"),
    *("**What to look at.**", "**What another tool would do.**"),
)


def test_a_marked_list_becomes_cards_and_navigation() -> None:
    text = site_pages.prepared(LIST)
    assert text.count(":::{grid-item-card}") == 2
    assert ":::{grid-item-card} First\n:link: first\n:link-type: doc\n\nOne `rule`.\n:::" in text
    assert "\nSome\n  more.\n:::" in text
    assert ":::{toctree}\n:hidden:\n:caption: To begin\n\nfirst\nmore/README\n:::" in text
    assert "- [" not in text


def test_a_marked_table_becomes_cards_with_pictures() -> None:
    text = site_pages.prepared(TABLE)
    assert ":img-top: a.png\n:img-alt: a curve\n:link: a\n" in text
    assert "With any optimizer" in text
    assert "|---|" not in text
    assert "toctree" not in text


@pytest.mark.parametrize("line", ["- no link\n", "| <img src='a.png'> | [A](a.md) |\n"])
def test_an_entry_of_another_form_is_not_dropped(line: str) -> None:
    with pytest.raises(ValueError, match="1 of 1 entries are not of the form"):
        site_pages.prepared("<!-- cards -->\n" + line)


def test_text_without_marks_stays() -> None:
    plain = LIST.replace("<!-- pages -->\n<!-- cards -->\n", "")
    assert site_pages.prepared(plain) == plain


def test_public_names_are_links_where_they_are_prose() -> None:
    names = {"affinet.plan"}
    assert site_pages.with_links("a `affinet.plan`, `affinet.no`", names) == "a {py:obj}`affinet.plan`, `affinet.no`"
    for same in ("# `affinet.plan`\n", "[`affinet.plan`](a.md)", "```text\n`affinet.plan`\n```\n", "`affinet.plan(w)`"):
        assert site_pages.with_links(same, names) == same


def test_every_gallery_page_is_a_card() -> None:
    cards = re.findall(
        r"^:link: (\w+)$", site_pages.prepared((DOCS / "gallery" / "README.md").read_text("utf-8")), re.M
    )
    assert len(cards) >= 24
    assert sorted(cards) == [page.stem for page in GALLERY]


@pytest.mark.parametrize("page", GALLERY, ids=lambda page: page.stem)
def test_gallery_pages_have_their_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [part for part in PARTS if part not in text]
    assert not missing


def test_every_public_name_is_an_object_of_the_page() -> None:
    text = api_objects.page()
    objects = set(re.findall(r"^:{3,5}\{py:\w+\} ([\w.]+)", text, re.M))
    names = {name.rsplit(".", 1)[1] for name in api_objects.full_names()}
    modules = {name.rsplit(".", 1)[-1] for name in api_objects.MODULES}
    assert names - objects <= modules
    assert {name for section in api_page.SECTIONS for name in section.names} <= names
    assert "Errors: {py:obj}`affinet.RuleError` for any other source" in text


def test_names_that_pages_mention_are_public() -> None:
    names = {*api_objects.full_names(), *api_objects.MODULES, "affinet.families.py"}
    for page in (DOCS.parent / "README.md", *DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        mentioned = {name.rstrip(".") for name in re.findall(r"`(affinet\.[\w.]+)", text)}
        mentioned |= {f"affinet.{name}" for name in re.findall(r"\bfamilies\.\w+", text)}
        assert not mentioned - names, page


@pytest.mark.parametrize("package", ["torch", "numpy", "scipy", "numba", "scikit-learn", "jax", "optax", "keras"])
@pytest.mark.parametrize("pins", ["ci.txt", "oldest.txt"])
def test_the_page_of_limits_has_the_versions_that_are_pinned(package: str, pins: str) -> None:
    pinned = re.search(rf"^{package}==(\d+\.\d+)", (DOCS.parent / "constraints" / pins).read_text("utf-8"), re.M)
    name = {"torch": "PyTorch", "jax": "JAX"}.get(package, package)
    rows = (DOCS / "limits.md").read_text(encoding="utf-8").lower().splitlines()
    row = next(row for row in rows if row.startswith("|") and name.lower() in row.split("|")[1])
    assert pinned is not None or pins == "oldest.txt"
    assert pinned is None or re.search(rf"\b{re.escape(pinned[1])}\b", row.split("|")[2])


@pytest.fixture
def site(tmp_path: Path) -> Path:
    entries = "".join(f"{name} py:function 1 docs/api.html#$ -\n" for name in api_objects.full_names())
    (tmp_path / "objects.inv").write_bytes(b"#\n#\n#\n#\n" + zlib.compress(entries.encode()))
    (tmp_path / "index.html").write_text('<a href="#here" id="here">', encoding="utf-8")
    return tmp_path


def test_a_whole_site_has_no_faults(site: Path) -> None:
    assert not check_site.main([str(site)])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<a href="gone.html">', "index.html: the link gone.html leads nowhere"),
        ('<a href="#gone">', "index.html: the link #gone leads nowhere"),
        (
            '<script src="https://example.org/x.js"></script>',
            "index.html loads https://example.org/x.js from a network",
        ),
        ('<link href="//example.org/x.css">', "index.html loads //example.org/x.css from a network"),
    ],
)
def test_faults_of_pages_are_found(site: Path, text: str, fault: str) -> None:
    (site / "index.html").write_text(text, encoding="utf-8")
    assert [*check_site.faults(site)] == [fault]


def test_a_missing_name_is_found(site: Path) -> None:
    entries = "".join(f"{name} py:function 1 x -\n" for name in api_objects.full_names() if name != "affinet.plan")
    (site / "objects.inv").write_bytes(b"#\n#\n#\n#\n" + zlib.compress(entries.encode()))
    assert [*check_site.faults(site)] == ["objects.inv has no entry for affinet.plan"]
