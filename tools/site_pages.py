"""Give Markdown pages what only the site has, from marks that forges do not show.

    <!-- pages -->           the pages that the next list or table links to stand in the site's navigation
    <!-- cards -->           the next list or table becomes a grid of cards
    - [Title](page.md): what it answers.
    | [<img src="picture.png" width="360" alt="what it shows">](page.md) | [Title](page.md): what it answers. |

Forges show the list, or the table; the source is one. Public names in backquotes, `affinet.project`, become links too.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet

MARKED = re.compile(r"^(?P<marks>(?:<!-- (?:pages|cards) -->\n)+)(?P<lines>(?:[-| ].*\n)+)", re.MULTILINE)
ITEM = re.compile(r"^- \[(?P<title>[^\]]+)\]\((?P<link>[^)]+)\)(?P<rest>.*(?:\n  .*)*)", re.MULTILINE)
ROW = re.compile(
    r"^\| \[<img src=\"(?P<picture>[^\"]+)\"[^>]*? alt=\"(?P<shows>[^\"]*)\">\]\([^)]+\) "
    r"\| \[(?P<title>[^\]]+)\]\((?P<link>[^)]+)\)(?P<rest>.*) \|$",
    re.MULTILINE,
)
HEADING = re.compile(r"^##+ (?P<text>.+)$", re.MULTILINE)
NAME = re.compile(r"(?<![`\w\[])`(?P<name>affinet(?:\.\w+)+)`(?![`\]])")


def prepared(text: str) -> str:
    """A page with a grid of cards and entries of the navigation in place of marks."""

    def replaced(found: re.Match[str]) -> str:
        lines = found["lines"]
        shown = _cards(lines) if "cards" in found["marks"] else lines
        headings = HEADING.findall(text, 0, found.start())
        return shown + (_navigation(lines, headings[-1] if headings else "") if "pages" in found["marks"] else "")

    return MARKED.sub(replaced, text)


def with_links(text: str, names: AbstractSet[str]) -> str:
    """A page in which code that is one of `names` is a link, outside of blocks, headings and other links."""
    lines, inside = [], False
    for line in text.splitlines(keepends=True):
        inside ^= line.startswith("```")
        plain = inside or line.startswith(("#", "```", "    "))
        lines.append(line if plain else NAME.sub(lambda found: _link(found, names), line))
    return "".join(lines)


def _link(found: re.Match[str], names: AbstractSet[str]) -> str:
    return f"{{py:obj}}`{found['name']}`" if found["name"] in names else found[0]


def _entries(lines: str) -> list[re.Match[str]]:
    entries = [*ROW.finditer(lines)] or [*ITEM.finditer(lines)]
    written = lines.count("<img") or len(re.findall("^- ", lines, re.MULTILINE))
    if len(entries) != written:
        raise ValueError(f"{written - len(entries)} of {written} entries are not of the form of tools/site_pages.py")
    return entries


def _cards(lines: str) -> str:
    cards = "\n".join(_card(entry) for entry in _entries(lines))
    return f"::::{{grid}} 1 2 2 3\n:gutter: 3\n\n{cards}\n::::\n"


def _card(entry: re.Match[str]) -> str:
    rest = entry["rest"].lstrip(",: ")
    parts = entry.groupdict()
    picture = [f":img-top: {parts['picture']}", f":img-alt: {parts['shows']}"] if "picture" in parts else []
    link = [f":link: {entry['link'].removesuffix('.md')}", ":link-type: doc"]
    text = rest[:1].upper() + rest[1:]
    return "\n".join([f":::{{grid-item-card}} {entry['title']}", *picture, *link, "", text, ":::"])


def _navigation(lines: str, caption: str) -> str:
    options = [":hidden:", f":caption: {caption}"] if caption else [":hidden:"]
    pages = [entry["link"].removesuffix(".md") for entry in _entries(lines)]
    return "\n" + "\n".join([":::{toctree}", *options, "", *pages, ":::"]) + "\n"
