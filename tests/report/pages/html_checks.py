"""Read a page as a browser does: its elements, texts and attributes, and what is wrong with its nesting."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img", "input", "source", "col", "area", "base", "embed", "track", "wbr"}


class Page(HTMLParser):
    """The elements of a page with their attributes, the text that readers see, and faults of its nesting."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.faults: list[str] = []
        self.shown = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{name}> is not closed" for name in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.faults += [f"<{tag}> has {name} twice" for name in set(names) if names.count(name) > 1]
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.faults.append(f"</{tag}> closes {self._open[-1:] or 'nothing'}")
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "title"):
            self.shown += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of one name."""
        return [attributes for name, attributes in self.elements if name == tag]


def checked(text: str) -> Page:
    """The page, which is well formed, has every id once, links only to itself, loads nothing and runs nothing."""
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n<html lang=")
    assert not page.faults
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not page.named("script")
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            assert name not in ("src", "srcset", "data", "action", "poster"), (tag, name, value)
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "xlink:href"):
                assert value in {f"#{each}" for each in ids}, value
            if name in ("aria-labelledby", "aria-describedby"):
                assert set((value or "").split()) <= set(ids), value
    assert text.count("url(") == text.count("url(#")
    assert "@import" not in text
    return page
