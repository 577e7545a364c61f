"""The wording of an expression: a tree that is cheap to build, and that becomes text only when it is shown."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

LONGEST = 600
"""Characters after which a text is cut, since the text of a sum may have ten thousand weights."""

_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = 1, 2, 3, 4, 5
_LEVELS = {"==": 0, "<=": 0, ">=": 0, "+": _SUM, "-": _SUM, "*": _PRODUCT, "/": _PRODUCT, "@": _PRODUCT, "**": _POWER}


class Word(NamedTuple):
    """A name, or any other text that is shown as it is."""

    text: str


class Negative(NamedTuple):
    """`-subject`."""

    subject: Wording


class Operation(NamedTuple):
    """`left operator right`."""

    left: Wording
    operator: str
    right: Wording


class Subscript(NamedTuple):
    """`subject[key]`; the key holds integers, slices, `None`, `...`, and words for arrays."""

    subject: Wording
    key: tuple[object, ...]


class Property(NamedTuple):
    """`subject.name`."""

    subject: Wording
    name: str


class Method(NamedTuple):
    """`subject.name(arguments)`; an argument without a name is positional."""

    subject: Wording
    name: str
    arguments: tuple[tuple[str, object], ...] = ()


class Function(NamedTuple):
    """`name(subjects, arguments)`, or `name([subjects], arguments)`."""

    name: str
    subjects: tuple[Wording, ...]
    arguments: tuple[tuple[str, object], ...] = ()
    listed: bool = False


Wording: TypeAlias = int | float | Word | Negative | Operation | Subscript | Property | Method | Function


def say(wording: Wording, longest: int = LONGEST) -> str:
    """The text of a wording, with parentheses where Python needs them."""
    return _say(wording, 0, longest)


def say_operand(wording: Wording, longest: int = LONGEST) -> str:
    """The text of a wording, in parentheses where an index could not follow it: `(a + b)`, `a.sum(dim=1)`."""
    return _say(wording, _ATOM, longest)


def _say(wording: Wording, level: int, longest: int) -> str:
    """Write the text in a loop and not by recursion: a sum that a loop wrote nests as deep as the loop is long."""
    pieces: list[str] = []
    length = 0
    pending: list[str | tuple[Wording, int]] = [(wording, level)]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            pieces.append(item)
            length += len(item)
            if length > longest:
                return "".join(pieces)[:longest] + " …"
        else:
            parts = _parts(item[0])
            pending.extend(reversed(parts if _level(item[0]) >= item[1] else ["(", *parts, ")"]))
    return "".join(pieces)


def _level(wording: Wording) -> int:
    if isinstance(wording, Operation):
        return _LEVELS[wording.operator]
    if isinstance(wording, Negative) or (isinstance(wording, int | float) and wording < 0):
        return _SIGN
    return _ATOM


def _parts(wording: Wording) -> list[str | tuple[Wording, int]]:
    match wording:
        case Word(text):
            return [text]
        case Negative(subject):
            return ["-", (subject, _SIGN)]
        case Operation(left, "**", right):
            return [(left, _ATOM), "**", (right, _SIGN)]
        case Operation(left, operator, right):
            level = _LEVELS[operator]
            return [(left, level), f" {operator} ", (right, level + 1)]
        case Subscript(subject, key):
            return [(subject, _ATOM), "[", ", ".join(map(_index, key)) or "()", "]"]
        case Property(subject, name):
            return [(subject, _ATOM), f".{name}"]
        case Method(subject, name, arguments):
            return [(subject, _ATOM), f".{name}({', '.join(map(_argument, arguments))})"]
        case Function():
            return _function(wording)
    return [repr(wording)]


def _function(wording: Function) -> list[str | tuple[Wording, int]]:
    parts: list[str | tuple[Wording, int]] = [wording.name, "([" if wording.listed else "("]
    for number, subject in enumerate(wording.subjects):
        parts += [", ", (subject, 0)] if number else [(subject, 0)]
    if wording.listed:
        parts.append("]")
    arguments = ", ".join(map(_argument, wording.arguments))
    return [*parts, f", {arguments})" if arguments and wording.subjects else f"{arguments})"]


def _argument(argument: tuple[str, object]) -> str:
    name, value = argument
    return f"{name}={_index(value)}" if name else _index(value)


def _index(item: object) -> str:
    if isinstance(item, slice):
        first, last = ("" if part is None else str(part) for part in (item.start, item.stop))
        return f"{first}:{last}" if item.step is None else f"{first}:{last}:{item.step}"
    if isinstance(item, Word):
        return item.text
    return "..." if item is Ellipsis else repr(item)


def differing(**options: tuple[object, object]) -> dict[str, object]:
    """The options whose value differs from its default, which a wording shows; each is given as (value, default)."""
    return {
        name: value
        for name, (value, default) in options.items()
        if type(value) is not type(default) or value != default
    }
