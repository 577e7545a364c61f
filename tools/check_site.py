"""Check a built site: every public name has an entry in objects.inv, links lead somewhere, and no page needs a network.

python -m tools.check_site build/site
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools import api_objects

LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href"}
"""What a browser fetches without being asked, by the attribute that says where from."""
WRITTEN_BY_SPHINX = ("search.html", "genindex.html", "py-modindex.html")


@dataclass
class Page(HTMLParser):
    """The places of a page that links lead to, its links, and what it loads."""

    text: str
    places: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the text."""
        super().__init__()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element says about places, links and files."""
        values = {name: value for name, value in attrs if value is not None}
        self.places |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if values.get(LOADED.get(tag, "")):
            self.loaded.append(values[LOADED[tag]])


def faults(site: Path) -> Iterator[str]:
    """A sentence on each fault. Raises FileNotFoundError where no site was built."""
    known = inventory(site)
    yield from (f"objects.inv has no entry for {name}" for name in api_objects.full_names() if name not in known)
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        shown = path.relative_to(site)
        yield from (f"{shown} loads {url} from a network" for url in page.loaded if urlsplit(url).netloc)
        if path.name not in WRITTEN_BY_SPHINX:
            yield from (
                f"{shown}: the link {link} leads nowhere" for link in page.links if not _leads(link, path, pages)
            )


def inventory(site: Path) -> set[str]:
    """The names of Python objects in objects.inv, which Sphinx writes as four lines and a compressed list."""
    lines = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    listed = zlib.decompress(lines).decode("utf-8").splitlines()
    return {name for name, kind, *_ in map(str.split, listed) if kind.startswith("py:")}


def _leads(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return False
    return not parts.fragment or target not in pages or unquote(parts.fragment) in pages[target].places


def main(arguments: list[str]) -> int:
    """Print the faults of the site in the folder named; exit status 1 where there is one."""
    found = [*faults(Path(arguments[0]).resolve())]
    print("\n".join(found) if found else f"{arguments[0]}: every public name is listed, and every link leads somewhere")
    return int(bool(found))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
