"""Write the site's page of public names: each a Python object with its whole docstring, to search for and to link to.

`docs/api.md` shows the same names on a forge, with the first sentence of each docstring (tools/api_page.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import affinet
from tools import api_page, api_sources

OPENING = """\
# All public names

Each name with its signature and docstring, and the page that explains it. What is not listed here may change without
notice.
"""
PARAGRAPHS = re.compile(r"\n(?=(?:Laws?|Errors|Source|Raises|Warns)\b)")
"""Where a docstring goes on with another subject on a line of its own, which Markdown would join to the last one."""


def page() -> str:
    """The whole page in MyST's Markdown."""
    opened: set[str] = set()
    return "\n".join([OPENING, *(line for section in api_page.SECTIONS for line in _section(section, opened))])


def full_names() -> Iterator[str]:
    """Every public name and promised member: `affinet.project`, `affinet.Handle.violation`, `affinet.families.tie`."""
    for section in api_page.SECTIONS:
        module = module_of(section)
        for definition in api_page.definitions(section):
            yield f"{module}.{definition.name}"
            yield from (f"{module}.{definition.name}.{name}" for name in definition.fields)
            yield from (f"{module}.{definition.name}.{member.name}" for member in definition.members)


def module_of(section: api_page.Section) -> str:
    """The module that users import the names of a section from: `affinet.families`, not `affinet.language.families`."""
    if section.module is affinet and not section.source:
        return "affinet"
    return f"affinet.{section.source or section.module.__name__.rpartition('.')[2]}"


def _section(section: api_page.Section, opened: set[str]) -> Iterator[str]:
    module = module_of(section)
    yield f"## {section.title}\n\nExplained in {section.explained}.\n"
    yield f":::{{py:{'currentmodule' if module in opened else 'module'}}} {module}\n:::\n"
    opened.add(module)
    for definition in api_page.definitions(section):
        name = f"{module}.{definition.name}"
        if name in MODULES:
            if name not in {module_of(other) for other in api_page.SECTIONS}:
                yield f":::{{py:module}} {name}\n:::\n\n:::{{py:currentmodule}} {module}\n:::\n"
            yield f"`{name}`: {api_page.first_sentence(definition.docstring)}\n"
        else:
            yield from _object(definition)


def _object(definition: api_sources.Definition) -> Iterator[str]:
    if definition.is_exception:
        kind = "exception"
    elif definition.is_class:
        kind = "class"
    else:
        kind = "function" if definition.signature else "data"
    shown = definition.name + (definition.signature if _is_called(definition) else "")
    yield f":::::{{py:{kind}}} {shown}\n\n{_body(definition.docstring)}\n"
    for name in definition.fields:
        yield f"::::{{py:attribute}} {name}\n::::\n"
    for member in definition.members:
        kind = "property" if member.signature is None else "method"
        yield f"::::{{py:{kind}}} {member.name}{member.signature or ''}\n\n{_body(member.docstring)}\n\n::::\n"
    yield ":::::\n"


def _is_called(definition: api_sources.Definition) -> bool:
    return not definition.is_class or definition.name in api_page.MADE_BY_USERS


def _body(docstring: str) -> str:
    """A docstring with its subjects as paragraphs, in which public names are links."""
    return QUOTED.sub(_linked, PARAGRAPHS.sub("\n\n", docstring))


def _linked(quoted: re.Match[str]) -> str:
    name = quoted["name"].removeprefix("affinet.")
    return f"{{py:obj}}`affinet.{name}`" if name in affinet.__all__ and name not in LEFT_AS_THEY_ARE else quoted[0]


QUOTED = re.compile(r"(?<![`\w])`(?P<name>[\w.]+)`(?!`)")
LEFT_AS_THEY_ARE = ("weights", "equations", "plan", "groups", "errors", "families", "__version__")
"""Names of functions that docstrings also use for their own arguments and values."""

MODULES = frozenset(module_of(section) for section in api_page.SECTIONS) | {"affinet.errors"}
"""Modules, which are public names of `affinet` too."""
