"""Read pickled data as inert records: names of classes and functions with their arguments, none of which is called."""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MOST_FIELDS = 32
"""Pairs that are read of the fields of an object."""


@dataclass(frozen=True)
class Named:
    """What a pickle names: `torch.Size`. It is never imported."""

    name: str


@dataclass(eq=False)
class Record:
    """What a pickle would make by a call: the name of what it would call, the arguments, and the state that it sets."""

    name: str
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass(eq=False)
class Table:
    """A dictionary as the pairs that it was filled with. Keys are not hashed: a hostile key could take for ever."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)

    def by_text(self) -> dict[str, Any]:
        """The values whose keys are text."""
        return {key: value for key, value in self.pairs if isinstance(key, str)}

    def fields(self) -> dict[str, Any]:
        """The same of an object, which has few: many objects may share one long table."""
        return Table(self.pairs[:MOST_FIELDS]).by_text()


class _Mark:
    """The place on the stack where the parts of the next tuple, list or dictionary begin."""


def pickled_records(content: bytes) -> Any:
    """What a pickle says: numbers, text, tuples, lists, `Table`, `Named`, and `Record` for every call.

    Nothing is imported or called. Raises ValueError, IndexError, KeyError, TypeError or AttributeError for bytes that
    are not a pickle, or use other codes than data of torch.distributed.checkpoint do.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # names of damaged pickles are read with their backslashes
        return _records(content)


def _records(content: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for code, argument, _ in pickletools.genops(content):
        if code.name == "STOP":
            break
        if code.name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else int(argument)] = stack[-1]
        elif code.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif code.name in _VALUES:
            stack.append(argument)
        else:
            _STEPS[code.name](stack, argument)
    return stack.pop()


_VALUES = {
    "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "SHORT_BINBYTES", "BINBYTES",
}  # fmt: skip


def _above_mark(stack: list[Any]) -> list[Any]:
    """The values above the last mark; they and the mark leave the stack."""
    place = len(stack) - 1
    while not isinstance(stack[place], _Mark):
        place -= 1  # down to the first of the stack, and then IndexError
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _tuple_of(count: int) -> Callable[[list[Any], Any], None]:
    def step(stack: list[Any], _: Any) -> None:
        parts = tuple(stack.pop() for _ in range(count))
        stack.append(parts[::-1])

    return step


def _global(stack: list[Any], argument: Any) -> None:
    stack.append(Named(argument.replace(" ", ".")))


def _stack_global(stack: list[Any], _: Any) -> None:
    name, module = stack.pop(), stack.pop()
    stack.append(Named(f"{module}.{name}"))


def _call(stack: list[Any], _: Any) -> None:
    arguments, called = stack.pop(), stack.pop()
    ordered = isinstance(called, Named) and called.name == "collections.OrderedDict"
    stack.append(Table() if ordered else Record(called.name, arguments))


def _build(stack: list[Any], _: Any) -> None:
    state = stack.pop()
    if isinstance(stack[-1], Record):
        stack[-1].state = state


def _set_pairs(stack: list[Any], values: list[Any]) -> None:
    stack[-1].pairs.extend(zip(values[::2], values[1::2], strict=True))


def _set_pair(stack: list[Any], _: Any) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1].pairs.append((key, value))


def _append(stack: list[Any], _: Any) -> None:
    value = stack.pop()
    stack[-1].append(value)


def _extend(stack: list[Any], _: Any) -> None:
    values = _above_mark(stack)
    stack[-1].extend(values)


_STEPS: dict[str, Callable[[list[Any], Any], Any]] = {
    "PROTO": lambda stack, _: None,
    "FRAME": lambda stack, _: None,
    "MARK": lambda stack, _: stack.append(_Mark()),
    "NONE": lambda stack, _: stack.append(None),
    "NEWTRUE": lambda stack, _: stack.append(True),
    "NEWFALSE": lambda stack, _: stack.append(False),
    "EMPTY_TUPLE": lambda stack, _: stack.append(()),
    "EMPTY_LIST": lambda stack, _: stack.append([]),
    "EMPTY_DICT": lambda stack, _: stack.append(Table()),
    "TUPLE": lambda stack, _: stack.append(tuple(_above_mark(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "APPEND": _append,
    "APPENDS": _extend,
    "SETITEM": _set_pair,
    "SETITEMS": lambda stack, _: _set_pairs(stack, _above_mark(stack)),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": _build,
    "BINPERSID": lambda stack, _: stack.append(Record("persistent", (stack.pop(),))),
}
