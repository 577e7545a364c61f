"""Translate pydantic's errors about a job into sentences for the author of the file: key, value, accepted values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from affinet.cli.jobs.job import DataTable, Job, ModelTable, RuleTable, TrainTable
from affinet.cli.jobs.locate import KeyPath
from affinet.cli.words import did_you_mean

TABLES: dict[str, type[BaseModel]] = {"data": DataTable, "model": ModelTable, "train": TrainTable, "rule": RuleTable}


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a job file: the path of the key and a sentence about it."""

    key: KeyPath
    fact: str


def mistakes(error: ValidationError) -> list[Mistake]:
    """One mistake per key, in the order of the file's tables; the complaints of a union are one mistake."""
    by_key: dict[KeyPath, Mistake] = {}
    for details in error.errors(include_url=False, include_context=False):
        mistake = _mistake(details)
        by_key.setdefault(mistake.key, mistake)
    return list(by_key.values())


def shown_key(key: KeyPath) -> str:
    """A key's path as text: `train.epochs`, `model.hidden[0]`, `says of rule 2` (rules are counted from 1)."""
    match key:
        case ("rule", int(index)):
            return f"rule {index + 1}"
        case ("rule", int(index), *names):
            return f"{_dotted(names)} of rule {index + 1}"
    return _dotted(key)


def _mistake(details: ErrorDetails) -> Mistake:
    key, table = _path_and_table(details["loc"])
    value = details["input"]
    if details["loc"] == ("rules", "", "[key]"):
        return Mistake(key, 'a rule of [rules] has an empty name: a line is "name" = "rule".')
    match details["type"]:
        case "extra_forbidden":
            return Mistake(key, _unknown_key(key, table))
        case "missing":
            return Mistake(key, _missing_key(key, table))
        case _ if key == ("rule",):
            return Mistake(
                key, "rules are tables opened by [[rule]], with two brackets on each side, or lines of [rules]."
            )
    return Mistake(
        key, f"{shown_key(key)} = {_shortened(value)} is not valid; it takes {_accepted_values(key, table)}."
    )


def _path_and_table(location: tuple[int | str, ...]) -> tuple[KeyPath, type[BaseModel]]:
    """The path without pydantic's names for members of a union, and the table that the key belongs to."""
    table = TABLES.get(str(location[0]), Job) if len(location) > 1 else Job
    depth = 3 if location[0] == "rule" else 2
    indices = tuple(part for part in location[depth:] if isinstance(part, int))
    return (*location[:depth], *indices), table


def _unknown_key(key: KeyPath, table: type[BaseModel]) -> str:
    name, known_names = str(key[-1]), list(table.model_fields)
    opening = "a job file" if table is Job else _header(key)
    owners = [_header((title,)) for title, other in TABLES.items() if name in other.model_fields and other is not table]
    hint = f" It belongs to {' or '.join(owners)}." if owners else did_you_mean(name, known_names)
    return f"{opening} has no key {name!r}.{hint} It takes: {', '.join(known_names)}."


def _missing_key(key: KeyPath, table: type[BaseModel]) -> str:
    if table is Job:
        return f"the table [{key[0]}] is missing. It takes: {', '.join(TABLES[str(key[0])].model_fields)}."
    return f"{_header(key)} lacks the key {str(key[-1])!r}, which takes {_accepted_values(key, table)}."


def _accepted_values(key: KeyPath, table: type[BaseModel]) -> str:
    known_parts = [part for part in key if part in table.model_fields]
    return str(table.model_fields[str(known_parts[-1])].description)


def _header(key: KeyPath) -> str:
    return "[[rule]]" if key[0] == "rule" else f"[{key[0]}]"


def _dotted(parts: Any) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).removeprefix(".")


def _shortened(value: object, limit: int = 60) -> str:
    text = "true" if value is True else "false" if value is False else repr(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
