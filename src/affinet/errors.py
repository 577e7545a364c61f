"""Every exception of affinet, built from the facts that its message prints."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Self


class AffinetError(Exception):
    """The family of every error that affinet raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    def located(self, line: int, column: int) -> Self:
        """The same error, its message opened by where in the text it arose (both counted from one)."""
        self.message = f"line {line}, column {column}: {self.message}"
        self.args = (self.message,)
        return self


class NotAffineError(AffinetError, TypeError):
    """Something was said that is not linear plus a constant in the weights."""

    @classmethod
    def product(cls, left: object, operator: str, right: object) -> NotAffineError:
        return cls(
            f"({left}) {operator} ({right}) multiplies weights with weights, which is not affine. "
            f"affinet takes sums of weights times constants; make one of the two sides a number or an array."
        )

    @classmethod
    def function(cls, name: str, subject: object) -> NotAffineError:
        return cls(
            f"{name} of ({subject}) is not affine in the weights. "
            f"affinet takes sums of weights times constants, and equations between them."
        )


class MissingOperationError(NotAffineError, AttributeError):
    """An operation of arrays that expressions in the weights do not have."""


class TruthValueError(AffinetError, TypeError):
    """A rule or an expression was asked for a truth value, as `a == b == c` does."""

    def __init__(self, subject: object) -> None:
        super().__init__(
            f"({subject}) has no truth value: it is about weights that are not known yet, and no test. "
            f"Write `a == b == c` as two rules, [a == b, b == c], or as families.tie(a, b, c)."
        )


class ShapeError(AffinetError, ValueError):
    """Shapes, axes or indices that do not fit the expression they are used on."""


class UnknownWeightError(AffinetError, AttributeError, LookupError):
    """A name that no weight has."""

    def __init__(self, asked: str, names: Iterable[str], *, inside: str = "") -> None:
        known = sorted(names)
        near = difflib.get_close_matches(asked, known, n=3, cutoff=0.5)
        where = f" under {inside!r}" if inside else ""
        message = f"there is no weight named {asked!r}{where}."
        if near:
            message += f" Did you mean {_either(near)}?"
        message += f" There are: {_shortened(known)}." if known else " There are no weights at all."
        super().__init__(message)


class UnsupportedWeightError(AffinetError, ValueError):
    """A parameter that exists and that affinet cannot constrain: lazy, parametrized, overlapping, complex."""

    def __init__(self, name: str, reason: str, way_out: str) -> None:
        super().__init__(f"{name} cannot be constrained: {reason}. {way_out}")


class ConstantError(AffinetError, ValueError):
    """A constant that is no finite real number or array of them."""


class TooLargeError(AffinetError, MemoryError):
    """An expression that only tables or coefficients beyond any sensible memory could hold."""

    def __init__(self, what: str, forecast: int, limit: int, way_out: str) -> None:
        taken, allowed = f"{forecast / 2**30:.1f} GiB", f"{limit / 2**30:.0f} GiB"
        super().__init__(f"{what} would take {taken}, and the limit is {allowed}. {way_out}")


class ConvergenceWarning(RuntimeWarning):
    """Conjugate gradients did not reach the tolerance; the rules of one component hold only to what they reached."""

    def __init__(self, iterations: int, residual: float, bound: float, equations: int) -> None:
        super().__init__(
            f"conjugate gradients stopped after {iterations:,} iterations with a residual of {residual:.2g} (wanted: "
            f"{bound:.2g}) on a component of {equations:,} equations; its rules hold only to about that. "
            f"Equations that nearly follow from others make this slow: drop them, or round their coefficients."
        )
        self.iterations, self.residual, self.bound, self.equations = iterations, residual, bound, equations


class NothingToTrainWarning(UserWarning):
    """Rules that determine every entry of a weight, though none of them fixes it outright."""

    def __init__(self, weight: str, entries: int, rules: Sequence[str]) -> None:
        many = f"{entries:,} entries" if entries != 1 else "single entry"
        said = _shortened([f'"{rule}"' for rule in rules], 5)
        super().__init__(
            f"nothing is left to train in {weight}: its {many} can take one value only, by "
            f"{'the rule' if len(rules) == 1 else 'the rules'} {said}. "
            f"Loosen a rule (a representation that contains no common part leaves zero alone), or say what is meant: "
            f"families.fix."
        )
        self.weight, self.entries, self.rules = weight, entries, tuple(rules)


class RuleError(AffinetError, ValueError):
    """A value given as a rule that is none, or rules that cannot be read together."""


class ParseError(AffinetError, ValueError):
    """Text that is not a rule; says the line and the column, counted from one."""

    def __init__(self, text: str, line: int, column: int, reason: str) -> None:
        lines = text.splitlines() or [""]
        shown = lines[line - 1] if 0 < line <= len(lines) else ""
        if len(shown) > 120:
            start = max(0, min(column - 60, len(shown) - 120))
            shown, caret = shown[start : start + 120], column - start
        else:
            caret = column
        shown = "".join(letter if letter.isprintable() or letter == "\t" else "�" for letter in shown)
        mark = f"\n    {shown}\n    {' ' * (caret - 1)}^" if shown.strip() else ""
        super().__init__(f"line {line}, column {column}: {reason}{mark}")
        self.text, self.line, self.column, self.reason = text, line, column, reason


class InfeasibleError(AffinetError, ValueError):
    """Rules that no weights can satisfy; `rules` names an irreducible set of them."""

    def __init__(self, rules: Sequence[tuple[str, str]], consequence: str, *, minimal: bool = True) -> None:
        width = max((len(name) for name, text in rules if name != text), default=0)
        lines = "\n".join(
            f"  {text}" if name == text else f'  "{name}"{" " * (width - len(name))}  {text}' for name, text in rules
        )
        if len(rules) == 1:
            head, advice = "this rule cannot hold:", "Change it or drop it."
        else:
            head, advice = "these rules cannot hold together:", "Drop one of them or change its right-hand side."
        if not minimal:
            advice += " (The set may hold rules that are not needed for the contradiction.)"
        super().__init__(f"{head}\n{lines}\n{consequence + ' ' if consequence else ''}{advice}")
        self.rules = tuple(name for name, _ in rules)
        self.minimal = minimal

    def beside_frozen(self, names: Sequence[str]) -> Self:
        """The same error, saying which weights counted as constants."""
        one = len(names) == 1
        self.message += (
            f"\n{_shortened(names, 4)} {'is' if one else 'are'} frozen (requires_grad=False) and "
            f"{'counts as a constant at its value' if one else 'count as constants at their values'} now. Train "
            f"{'it' if one else 'them'}, or give {'it a value' if one else 'them values'} that the rules allow."
        )
        self.args = (self.message,)
        return self


class AttachError(AffinetError, ValueError):
    """A model, an optimizer and rules that cannot be put together; nothing was changed."""


class GradientError(AffinetError, ValueError):
    """Gradients that cannot be projected (sparse, complex); the step was not taken."""


class JobError(AffinetError, ValueError):
    """A mistake in a job file: says the key, the line and what is allowed."""


class DataError(AffinetError, ValueError):
    """Data that cannot be read or trained on."""


class PlanFileError(AffinetError, ValueError):
    """A file that holds no plan, or not the plan that was saved; or a plan that no file can hold."""

    def __init__(self, path: object, reason: str, way_out: str) -> None:
        super().__init__(f"{path} {reason}. {way_out}")
        self.path, self.reason = path, reason


class ModelFileError(AffinetError, ValueError):
    """A file of weights that cannot be read, or lacks weights that a plan speaks of."""


class RunError(AffinetError, RuntimeError):
    """A run folder that cannot be written to."""


def callers_line() -> int:
    """The `stacklevel` at which a warning points at the first line that is not affinet's own."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "affinet":
        level, frame = level + 1, frame.f_back
    return level


def _either(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]


def _shortened(names: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"
