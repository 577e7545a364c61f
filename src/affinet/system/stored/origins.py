"""Store and restore the origin of a rule: inferred from the rule's text if possible, else written next to the text.

Files of the first two formats hold no origins, so this is the only place that reads the text of rules. A rule whose
text would be misread (a weight may be called "equivariant(x") is written with its origin.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, get_args

from affinet.language.origin import LONGEST_SUBJECT, Family, FamilyName, Linear, Origin, WrittenEquation
from affinet.language.sense import Sense
from affinet.language.wording import Word, say
from affinet.system.malformed import Malformed, fields, items, shown, text
from affinet.system.system import Rule

ORIGIN_KEYS = ("origin", "constants")
"""Keys that only files of the third format hold."""

_FAMILIES: Mapping[str, FamilyName] = {f"{name}(": name for name in get_args(FamilyName)}
INEQUALITIES = ("concave", "convex", "l1_ball", "l2_ball", "monotone", "psd", "spectral_norm")
"""Families of rules that are not equations."""

_LINEAR = "linear(["
_NUMBER = re.compile(r"-?[\d.]+(e[-+]?\d+)?")
_WORD = re.compile(r"(?<![\w.])[\w.]+")


def stored_origin(rule: Rule, weights: Collection[str]) -> dict[str, Any]:
    """The table of a rule's origin and constants, empty for most rules, whose text tells both."""
    table: dict[str, Any] = {}
    if _table(rule.origin) != _table(_of_text(rule.text, weights, rule.sense)):
        table["origin"] = _table(rule.origin)
    if rule.constants:
        table["constants"] = list(rule.constants)
    return table


def restored_origin(
    table: Mapping[str, Any], where: str, wording: str, weights: Collection[str], sense: Sense
) -> tuple[Origin, tuple[str, ...]]:
    """The origin, and the names of the weights that are constants in the rule. Raises Malformed."""
    has_origin = "origin" in table
    origin = _restore(table["origin"], f"origin of {where}") if has_origin else _of_text(wording, weights, sense)
    if "constants" in table:
        constants = [text(name, f"constant of {where}") for name in items(table["constants"], f"constants of {where}")]
    else:
        constants = _constant_names(wording, weights) if "size" in table else []
    return origin, tuple(sorted(set(constants)))


def _table(origin: Origin) -> dict[str, Any]:
    match origin:
        case WrittenEquation():
            if origin.number is None or not origin.subject:
                return {}
            return {"left": origin.subject, "number": say(origin.number)}
        case Linear():
            return {"linear": list(origin.weights), "sparse": origin.sparse}
        case Family():
            return {"family": origin.name}


def _restore(value: object, where: str) -> Origin:
    table = fields(value, where, (), ("left", "number", "linear", "sparse", "family"))
    match table:
        case {"family": name, **others} if not others and isinstance(name, str) and f"{name}(" in _FAMILIES:
            return Family(_FAMILIES[f"{name}("])
        case {"linear": weights, "sparse": bool(sparse), **others} if not others:
            listed = items(weights, f"weights of {where}")
            return Linear(tuple(None if name is None else text(name, f"weight of {where}") for name in listed), sparse)
        case {"left": left, "number": number, **others} if not others:
            return WrittenEquation(Word(text(left, f"left of {where}")), Word(text(number, f"number of {where}")))
        case {**others} if not others:
            return WrittenEquation()
    raise Malformed(f"{where} is {shown(dict(table))}, not that of an equation, of linear or of a family")


def _of_text(wording: str, weights: Collection[str], sense: Sense) -> Origin:
    """The origin of a rule in a file that does not hold it."""
    if wording.startswith(_LINEAR):
        return _linear(wording[len(_LINEAR) :], weights)
    opening = wording[: wording.find("(") + 1]
    if opening in _FAMILIES and (_FAMILIES[opening] in INEQUALITIES) == (sense != "=="):
        return Family(_FAMILIES[opening])
    return _equation(wording, sense)


def _linear(wording: str, weights: Collection[str]) -> Linear:
    """The origin in a text of `linear`; a text that was cut short shows no weights, so none is listed in full."""
    listed, closed, matrix = wording.partition("], A=")
    names = [_listed_weight(name, weights) for name in listed.split(", ")] if closed else [None]
    return Linear(tuple(names), matrix.startswith("sparse("))


def _listed_weight(name: str, weights: Collection[str]) -> str | None:
    if name in weights:
        return name
    plain = _WORD.fullmatch(name) and name.removesuffix(".mT").removesuffix(".T") not in weights
    return name if plain else None


def _equation(wording: str, sense: Sense) -> WrittenEquation:
    left, compared, right = wording.partition(f" {sense} ")
    if not compared or f" {sense} " in right or not _NUMBER.fullmatch(right):
        return WrittenEquation()
    depth, atom = 0, not left.startswith("-")
    for letter in left:
        depth += (letter in "([") - (letter in ")]")
        atom = atom and not (letter == " " and depth == 0)
    subject = left if atom else f"({left})"
    return WrittenEquation(Word(subject), Word(right)) if len(subject) <= LONGEST_SUBJECT else WrittenEquation()


def _constant_names(wording: str, weights: Collection[str]) -> list[str]:
    """Names in a text that can be weights but are not in the plan: weights that are constants in the rule."""
    names = []
    for word in _WORD.finditer(wording):
        name, behind = word[0], wording[word.end() : word.end() + 1]
        if behind == "(":  # a function, or a method behind a name
            name = name.rpartition(".")[0]
        if behind != "=" and not re.fullmatch(r"[\d.]*(e\d*)?", name):
            names.append(name.removesuffix(".T").removesuffix(".mT"))
    return [name for name in names if name not in weights]
