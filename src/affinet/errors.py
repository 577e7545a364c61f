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
        return visible(self.message)

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
    """A name that no weight has, or none that the rules of a plan speak of."""

    def __init__(self, asked: str, names: Iterable[str], *, inside: str = "", of_plan: bool = False) -> None:
        known = sorted(names)
        near = difflib.get_close_matches(asked, known, n=3, cutoff=0.5)
        where = f" under {inside!r}" if inside else ""
        message = f"there is no weight named {asked!r}{where}."
        if of_plan:
            message = f"no rule of this plan speaks of a weight named {asked!r}."
        if near:
            message += f" Did you mean {_either(near)}?"
        if "*" in asked:
            message += " A * stands for one part of a name, ** for any number of parts."
        message += (
            f" {'Its rules speak of' if of_plan else 'There are'}: {_shortened(known)}."
            if known
            else " There are no weights at all."
        )
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
        taken, allowed = f"{forecast / 2**30:,.1f} GiB", f"{limit / 2**30:.3g} GiB"
        super().__init__(f"{what} would take {taken}, and the limit is {allowed}. {way_out}")
        self.way_out = way_out


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
    """Rules that determine every entry of a weight, though none of them fixes it outright.

    `symmetry` says that one of them is `families.equivariant`.
    """

    def __init__(self, weight: str, entries: int, rules: Sequence[str], *, symmetry: bool = False) -> None:
        many = f"{entries:,} entries" if entries != 1 else "single entry"
        said = _shortened([f'"{rule}"' for rule in rules], 5)
        super().__init__(
            visible(
                f"nothing is left to train in {weight}: its {many} can take one value only, by "
                f"{'the rule' if len(rules) == 1 else 'the rules'} {said}. "
                f"Loosen a rule{' (representations without a common part leave zero alone)' if symmetry else ''}, "
                f"or say what is meant: families.fix."
            )
        )
        self.weight, self.entries, self.rules = weight, entries, tuple(rules)


class NothingTrainedWarning(UserWarning):
    """Rules about frozen weights alone: they hold at their values, and training never touches them."""

    def __init__(self, rules: Sequence[str], weights: Sequence[str]) -> None:
        said = _shortened([f'"{rule}"' for rule in rules], 5)
        who = f"the rule {said} does" if len(rules) == 1 else f"{len(rules)} rules do ({said})"
        single = len(weights) == 1
        super().__init__(
            visible(
                f"{who} nothing in this training: {_shortened(list(weights), 5)} {'is' if single else 'are'} frozen "
                f"(requires_grad=False). Thaw {'it' if single else 'them'}, or drop what does nothing."
            )
        )
        self.rules, self.weights = tuple(rules), tuple(weights)


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
    """Rules that no weights can satisfy.

    `rules` are the names of an irreducible set of them: without any one of these the others can hold. `equations` is an
    irreducible set of their equations as pairs (name of the rule, row-major index in its shape, which for
    `families.linear` is the row of `A`), all counted from 0; none where the rules hold too many numbers to look at
    them one by one, or rounding leaves it in doubt. `multipliers` has a number for each of `equations`, none of them
    zero and the largest 1 in size: so many times the equations add up to `0 == gap` with a gap that is not zero. Where
    `minimal` is False, rules or equations that are not needed may be among them.
    """

    def __init__(
        self,
        rules: Sequence[tuple[str, str]],
        consequence: str,
        *,
        minimal: bool = True,
        equations: Sequence[tuple[str, int]] = (),
        multipliers: Sequence[float] = (),
        shown: str = "",
    ) -> None:
        """`rules` are pairs (name, text); `consequence` and `shown`, what is said of the equations, are sentences."""
        if len(rules) == 1:
            head, advice = "this rule cannot hold:", "Change it or drop it."
        else:
            head, advice = "these rules cannot hold together:", "Drop one of them or change its right-hand side."
        if not minimal:
            advice += " (The set may hold rules or equations that are not needed for the contradiction.)"
        said = [head, *_listed(rules), shown, f"{consequence} {advice}" if consequence else advice]
        super().__init__("\n".join(line for line in said if line))
        self.rules = tuple(name for name, _ in rules)
        self.equations = tuple(equations)
        self.multipliers = tuple(multipliers)
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


class WatchError(AffinetError, ValueError):
    """A watch that cannot begin, or an observation that cannot be written down where it was asked for."""


class LongStepsWarning(UserWarning):
    """With `basis="free"` an entry follows from so many free numbers that it moves much farther than these."""

    def __init__(self, entry: str, rules: Sequence[str], numbers: int, length: float, others: int) -> None:
        names = _shortened([_quoted(rule) for rule in rules], 3)
        more = f" (so do entries of {others:,} more blocks of rules)" if others else ""
        super().__init__(
            f'with basis="free" {entry} follows from {numbers:,} free numbers by {names}{more}: an optimizer that '
            f"moves each of them by the learning rate, as Adam does, can move it by {length:,.0f} times that in one "
            f'step, and SGD sees a loss that is as much steeper there. Use basis="orthonormal" or "projection", or '
            f'affinet.project. "free" is for ties, and for sums of a few entries.'
        )
        self.entry, self.rules, self.numbers, self.length = entry, tuple(rules), numbers, length


class WatchWarning(UserWarning):
    """The family of what a watch warns of, each once a watch."""


class WeightsWrittenWarning(WatchWarning):
    """Somebody wrote to constrained weights between two steps and left them off the rules."""

    def __init__(self, step: int, weights: Sequence[str], seen: bool, violated: Sequence[tuple[str, float]]) -> None:
        names, one = _shortened(list(weights), 5), len(weights) == 1
        who = (
            f"{names} {'was' if one else 'were'} written to, and the weights are"
            if seen
            else f"weights were written to unseen (through .data, or before the watch began), and {names} "
            f"{'is' if one else 'are'}"
        )
        off = _shortened([f"{_quoted(rule)} by {size:.3g}" for rule, size in violated], 3)
        super().__init__(
            f"before step {step:,} {who} off the rules: {off}. This step starts there and ends on the rules again, at "
            f"the nearest point, so that a part of what was written is taken back. Weights that are loaded: load "
            f"them before affinet.project, or settle them yourself with "
            f"handle.projector.project_(dict(model.named_parameters())). Weights that are clamped or normalised after "
            f"each step: say it as a rule, or leave it out."
        )
        self.step, self.weights, self.violated = step, tuple(weights), tuple(violated)


class StepUndoneWarning(WatchWarning):
    """The projection takes back almost all of what the optimizer does."""

    def __init__(self, step: int, undone: float, times: int, dearest: Sequence[str]) -> None:
        rules = f" Dearest rules: {_shortened([_quoted(rule) for rule in dearest], 3)}." if dearest else ""
        super().__init__(
            f"the projection took back {_percent(undone)} of the optimizer's step (of its squared length) at each of "
            f"the last {times} steps that were looked at, up to step {step:,}: next to what the optimizer does, the "
            f"constrained weights hardly move. Either the rules leave almost no freedom where it wants to go "
            f"(print(handle.plan) counts what is free), or its steps are not made of the gradients that affinet "
            f"projected: weight decay apart from the gradient (AdamW) of weights that the rules fix, which does no "
            f"harm and is spared by a group with weight_decay=0; momentum loaded from a training without rules.{rules}"
        )
        self.step, self.undone, self.dearest = step, undone, tuple(dearest)


class MultipliersDivergeWarning(WatchWarning):
    """The multipliers of a rule grow far beyond what they were."""

    def __init__(self, step: int, rule: str, size: float, usual: float) -> None:
        super().__init__(
            f"the multipliers of {_quoted(rule)} diverge: their norm is {size:.3g} at step {step:,}, and was about "
            f"{usual:.3g}. Usual causes: a learning rate at which the loss itself diverges; a right-hand side that "
            f"training pulls away from ever harder; equations that nearly follow from each other, so that tiny changes "
            f"of the gradient are large ones of the multipliers (drop one of them, or round their coefficients)."
        )
        self.step, self.rule, self.size, self.usual = step, rule, size, usual


class NotFiniteWarning(WatchWarning):
    """Gradients or weights of a watched training are NaN or infinite."""

    def __init__(self, step: int, gradients: Sequence[str], weights: Sequence[str]) -> None:
        who = "the weights " if gradients else ""
        found = [f"the gradients of {_shortened(list(gradients), 5)}"] if gradients else []
        found += [f"{who}{_shortened(list(weights), 5)}"] if weights else []
        super().__init__(
            f"{' and '.join(found)} {'hold' if gradients or len(weights) > 1 else 'holds'} numbers that are not finite "
            f"(NaN or infinite) at step {step:,}. They pass as they do in stock training, and on to every weight that "
            f"the rules couple with them. Look at the loss and the learning rate; "
            f"affinet.project(..., check_finite=True) raises before such a step is taken."
        )
        self.step, self.gradients, self.weights = step, tuple(gradients), tuple(weights)


def _quoted(name: str) -> str:
    """On one line, since names may come from a file."""
    return f'"{visible(" ".join(name.split()))}"'


def _percent(share: float) -> str:
    """A share close to one, without rounding it up to all of it."""
    return f"{100.0 * share:.1f} %" if share < 0.9995 else "more than 99.9 %"


def visible(text: str) -> str:
    """The text with everything escaped that a terminal would obey or hide; names in it may come from a file."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _either(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]


def _listed(rules: Sequence[tuple[str, str]], most: int = 12) -> list[str]:
    """A line a rule, of many the first and last few."""
    cut = [*rules[:6], *rules[-3:]] if len(rules) > most else rules
    width = max((len(name) for name, text in cut if name != text), default=0)
    lines = [f"  {text}" if name == text else f'  "{name}"{" " * (width - len(name))}  {text}' for name, text in cut]
    return [*lines[:6], f"  … {len(rules) - len(cut):,} more …", *lines[6:]] if len(rules) > most else lines


def _shortened(names: Sequence[str], most: int = 20) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"
