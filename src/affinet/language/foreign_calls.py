"""Carry out calls of NumPy and torch that meet an expression: by an operator, a method, or a function of affinet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from affinet.language.foreign import (
    COMPARISONS,
    DEFAULTS,
    NORMS,
    OPERATORS,
    SWAPPED,
    check_arguments,
    function_of,
    method_of,
    missing,
    norm_options,
    not_a_rule,
)


@dataclass(frozen=True, eq=False, slots=True)
class ForeignCalls:
    """The calls that meet a value of the class `kind`; functions that are neither operators nor methods are listed."""

    kind: type[Any]
    joining: Mapping[str, Callable[..., Any]]
    products: Mapping[str, Callable[[Any, Any], Any]]
    einsum: Callable[..., Any]

    def called_by_numpy(self, subject: Any, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """Apply a ufunc of NumPy to an expression; `array += w` makes an expression of `array`."""
        out = options.pop("out", (None,))
        if method == "__call__" and not options and (out[0] is None or out[0] is inputs[0]):
            return self.call_in_place_of(ufunc.__name__, inputs, {})
        name = ufunc.__name__ if method == "__call__" else f"{ufunc.__name__}.{method}"
        raise missing(subject, name, dir(self.kind))

    def call_in_place_of(self, function: str, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """Apply a function of NumPy or torch to an expression.

        Errors: `MissingOperationError` for functions that expressions do not have.
        """
        name = function_of(function)
        parts = args[0] if args and isinstance(args[0], list | tuple) else ()
        subject: Any = next((part for part in (*args, *parts) if isinstance(part, self.kind)), "these weights")
        if name in self.joining and parts and len(args) <= 2:
            return self.joining[name](parts, *args[1:], **({"dim": options["axis"]} if "axis" in options else options))
        if name in OPERATORS and not options and len(args) <= 2:
            operator, reflected = OPERATORS[name]
            other_operands = [arg for k, arg in enumerate(args) if k != (0 if args[0] is subject else 1)]
            return getattr(subject, operator if args[0] is subject else reflected)(*other_operands)
        if name in COMPARISONS:
            raise not_a_rule(subject, COMPARISONS[name if args[0] is subject else SWAPPED.get(name, name)])
        if name == "einsum" and not {*options} - {"optimize"}:
            operands = args[1] if len(args) == 2 and isinstance(args[1], list | tuple) else args[1:]
            return self.einsum(args[0], *operands)
        if name in self.products and not options and len(args) == 2:
            return self.products[name](*args)
        if name in NORMS and args and args[0] is subject:
            norm_arguments = norm_options(function, subject, subject.ndim, args[1:], options)
            check_arguments(subject.norm, subject, (), norm_arguments)
            return subject.norm(**norm_arguments)
        if args and args[0] is subject:
            match = method_of(name, args[1:], {**(DEFAULTS.get(function, {}) if subject.ndim > 2 else {}), **options})
            if match is not None:
                method = getattr(subject, match[0])
                check_arguments(method, subject, args[1:], match[1])
                return method(*args[1:], **match[1])
        raise missing(subject, function, dir(self.kind))
