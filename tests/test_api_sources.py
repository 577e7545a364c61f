"""What is read from the source of a module is what importing it shows: names, signatures, members, first sentences."""

from __future__ import annotations

from importlib import import_module

import pytest

from tools import api_page, api_sources

NEEDED = {"scipy": "scipy", "optax": "optax", "keras": "keras", "sklearn": "sklearn", "skorch": "skorch"}


@pytest.mark.parametrize("module", NEEDED)
def test_the_lines_are_those_of_the_imported_module(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    pytest.importorskip(NEEDED[module])
    try:
        imported = import_module(f"affinet.{module}")
    except ImportError as missing:
        pytest.skip(str(missing))
    shown, read = (
        [*api_page._section(section)]
        for section in (api_page.Section("", "", imported), api_page.Section("", "", source=module))
    )
    # Fields of a NamedTuple are no fields of a dataclass, and are shown from the source alone.
    named_tuples = {f"- values: {', '.join(f'`{name}`' for name in fields)}" for fields in _fields(imported)}
    assert [line for line in read if line and line not in named_tuples] == [line for line in shown if line]


def _fields(module: object) -> list[tuple[str, ...]]:
    values = [getattr(module, name) for name in module.__all__]  # type: ignore[attr-defined]
    return [value._fields for value in values if hasattr(value, "_fields")]


def test_a_name_without_a_definition_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing is not defined where it is imported from"):
        api_sources._definition("nothing", api_sources._parsed("affinet.scipy"))
