"""The exceptions and warnings of affinet, each of which builds its message from facts."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

MAGNITUDES = frozenset(("abs", "absolute", "fabs"))
"""Functions whose bound is two inequalities, or a ball."""
WITHOUT_MAGNITUDES = (
    "For `abs(w) <= 1` in every entry write between(-1, w, 1), or linf_ball(w, 1); for a sum of magnitudes, "
    "l1_ball(w, radius)."
)


class AffinetError(Exception):
    """The base class of all errors that affinet raises on purpose."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return visible(self.message)

    def located(self, line: int, column: int) -> Self:
        """The same error, its message preceded by its place in a text; line and column are counted from one."""
        self.message = f"line {line}, column {column}: {self.message}"
        self.args = (self.message,)
        return self


class NotAffineError(AffinetError, TypeError):
    """A function of weights that rules cannot have: it is neither affine nor among the functions that they can have."""

    @classmethod
    def function(cls, name: str, subject: object) -> NotAffineError:
        if name in MAGNITUDES:
            return cls(f"{name} of ({subject}) is not a function that rules can have. {WITHOUT_MAGNITUDES}")
        return cls(
            f"{name} of ({subject}) is not a function that rules can have. They have + - * / @, ** with an integer, "
            f"square, sqrt, exp, log, sin, cos, tanh, reciprocal, norm, det and inverse; families such as "
            f"l1_ball(w, radius), l2_ball(w, radius) and linf_ball(w, radius) bound norms."
        )


class MissingOperationError(NotAffineError, AttributeError):
    """An operation of arrays that expressions in the weights do not have."""


class TruthValueError(AffinetError, TypeError):
    """A rule or an expression used as a truth value, as in `if a == b`, `a == b == c` or `0 <= a <= 1`."""

    def __init__(self, subject: object, sense: str = "==") -> None:
        """`sense` is the comparison of the rule, which says what was probably meant."""
        way_out = (
            "Write `a == b == c` as two rules, [a == b, b == c], or as families.tie(a, b, c)."
            if sense == "=="
            else "Write `0 <= a <= 1` as affinet.between(0, a, 1)."
        )
        super().__init__(
            f"({subject}) has no truth value: it is a statement about weights without values, not a test. {way_out}"
        )


class ShapeError(AffinetError, ValueError):
    """Shapes, axes or indices that do not fit the expression they are used on."""


class UnknownWeightError(AffinetError, AttributeError, LookupError):
    """A name that is not the name of a weight, or not of a weight in the rules of a plan."""

    def __init__(
        self, name: str, names: Iterable[str], *, inside: str = "", of_plan: bool = False, hint: str = ""
    ) -> None:
        """`hint` is a sentence that says how to write what is meant, in place of similar names."""
        known_names = sorted(names)
        similar = difflib.get_close_matches(name, known_names, n=3, cutoff=0.5)
        place = f" under {inside!r}" if inside else ""
        message = f"there is no weight named {name!r}{place}."
        if of_plan:
            message = f"no rule of this plan is about a weight named {name!r}."
        below = [known for known in known_names if known.startswith(f"{name}/")]  # as in Keras
        if below and not of_plan:
            message += f' Names with a slash are written in brackets: w["{below[0]}"].'
        elif hint:
            message += hint
        elif similar:
            message += f" Did you mean {_either(similar)}?"
        if "*" in name:
            message += " A * stands for one part of a name, ** for any number of parts."
        message += (
            f" {'Its rules are about' if of_plan else 'There are'}: {_shortened(known_names)}."
            if known_names
            else " There are no weights at all."
        )
        super().__init__(message)


class UnknownFeatureError(AffinetError, ValueError, LookupError):
    """A name that is not among the features, classes or targets of a fitted estimator."""

    def __init__(self, name: str, names: Sequence[str], subject: str, place: str = "") -> None:
        """`subject` is what was asked: a weight that is indexed by names, or a parameter of an estimator.

        `place` is a sentence that says where the name would be right.
        """
        similar = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        hint = place or (f" Did you mean {_either(similar)}?" if similar else "")
        numbered = list(names) == [f"x{k}" for k in range(len(names))] and not name.lower().startswith("x")
        unnamed = (
            ' X has no names of its own: give a data frame, and in a pipeline call .set_output(transform="pandas"), or '
            '"polars", so that each step keeps them.'
        )
        super().__init__(
            f"{subject} has no entry named {name!r}.{hint} There are: {_shortened(list(names))}.{unnamed * numbered}"
        )


class EstimatorError(AffinetError, ValueError):
    """A parameter of an estimator of affinet.sklearn that it cannot use, or that the data does not allow."""


class UnsupportedWeightError(AffinetError, ValueError):
    """A parameter that exists but cannot be constrained: lazy, parametrized, overlapping, complex."""

    def __init__(self, name: str, reason: str, way_out: str) -> None:
        super().__init__(f"{name} cannot be constrained: {reason}. {way_out}")


class MissingPackageError(AffinetError, ModuleNotFoundError):
    """A part of affinet is for users of a package that is not installed."""

    def __init__(self, module: str, package: str, way_out: str) -> None:
        super().__init__(f"{module} needs the package {package}, which is not installed. {way_out}")
        self.name = package

    @classmethod
    def of(cls, missing: ModuleNotFoundError, module: str, ways_out: Mapping[str, str]) -> ImportError:
        """The error about a package that has a way out, or the error itself about any other package."""
        package = missing.name or ""
        return cls(module, package, ways_out[package]) if package in ways_out else missing


class ConstantError(AffinetError, ValueError):
    """A constant that is not a finite real number or an array of finite real numbers."""


class TooLargeError(AffinetError, MemoryError):
    """An expression whose tables or coefficients would take more memory than the limit."""

    def __init__(self, description: str, forecast: int, limit: int, way_out: str) -> None:
        needed, allowed = f"{forecast / 2**30:,.1f} GiB", f"{limit / 2**30:.3g} GiB"
        super().__init__(f"{description} would take {needed}, and the limit is {allowed}. {way_out}")
        self.way_out = way_out

    def of_rules(self, names: Sequence[str]) -> Self:
        """The same error, its message preceded by the rules that it is about."""
        self.message = f"{_shortened([_quoted(name) for name in names], 3)}: {self.message}"
        self.args = (self.message,)
        return self


class ConformanceError(AffinetError, AssertionError):
    """A binding of an array library gives another result than the truth of a case of `affinet.testing`."""

    def __init__(self, case: str, dtype: str, fact: str, error: float, bound: float, meaning: str) -> None:
        allowed = f"rounding allows {bound:.3g}" if bound > 0.0 else "this has to hold to the bit"
        super().__init__(
            f"case {case!r} in {dtype}: {fact!r} does not hold. It is off by {error:.3g}, and {allowed}. "
            f"{meaning[0].upper()}{meaning[1:]}."
        )

    @classmethod
    def of_form(cls, case: str, dtype: str, verb: str, made: Mapping[str, str], wanted: Mapping[str, str]) -> Self:
        """For a result with other names, shapes or dtypes than those of the weights that were given."""
        error = cls(case, dtype, verb, 0.0, 0.0, "-")
        names = [name for name in {**wanted, **made} if made.get(name) != wanted.get(name)]
        parts = [f"{name!r} is {made.get(name, 'missing')} instead of {wanted.get(name, 'absent')}" for name in names]
        error.message = (
            f"case {case!r} in {dtype}: {verb} returns other arrays than it was given: {'; '.join(parts)}. It has to "
            f"return every weight in its shape and dtype."
        )
        error.args = (error.message,)
        return error


class ConvergenceWarning(RuntimeWarning):
    """An iteration stopped before the tolerance; the rules of one component hold only to the residual."""

    def __init__(
        self, iterations: int, residual: float, bound: float, equations: int, method: str = "conjugate gradients"
    ) -> None:
        super().__init__(
            f"{method} stopped after {counted(iterations, 'iteration')} with a residual of {residual:.2g} (wanted: "
            f"{bound:.2g}) on a component of {counted(equations, 'equation')}; its rules hold only to about that "
            f"residual. Equations that nearly follow from others make this slow: drop them, or round their "
            f"coefficients."
        )
        self.iterations, self.residual, self.bound, self.equations = iterations, residual, bound, equations


class NothingToTrainWarning(UserWarning):
    """Rules that together determine every entry of a weight, without one that fixes the weight outright.

    `symmetry` is True where one of the rules is `families.equivariant`.
    """

    def __init__(self, weight: str, entries: int, rules: Sequence[str], *, symmetry: bool = False) -> None:
        entries_text = f"{entries:,} entries" if entries != 1 else "single entry"
        listed = _shortened([f'"{rule}"' for rule in rules], 5)
        super().__init__(
            visible(
                f"nothing is left to train in {weight}: its {entries_text} can take one value only, by "
                f"{'the rule' if len(rules) == 1 else 'the rules'} {listed}. "
                f"Loosen a rule{' (representations without a common part allow only zero)' if symmetry else ''}, "
                f"or, if this is intended, write families.fix."
            )
        )
        self.weight, self.entries, self.rules = weight, entries, tuple(rules)


class NothingTrainedWarning(UserWarning):
    """Rules about frozen weights only: they hold at the present values, and training does not change these."""

    def __init__(self, rules: Sequence[str], weights: Sequence[str]) -> None:
        listed = _shortened([f'"{rule}"' for rule in rules], 5)
        subject = f"the rule {listed} has" if len(rules) == 1 else f"{len(rules)} rules ({listed}) have"
        single = len(weights) == 1
        super().__init__(
            visible(
                f"{subject} no effect in this training: {_shortened(list(weights), 5)} {'is' if single else 'are'} "
                f"frozen (requires_grad=False). Unfreeze {'it' if single else 'them'}, or drop "
                f"{'the rule' if len(rules) == 1 else 'these rules'}."
            )
        )
        self.rules, self.weights = tuple(rules), tuple(weights)


class RuleError(AffinetError, ValueError):
    """A value that is not a rule, an argument of a rule that is not allowed, or rules that cannot be combined."""


class ParseError(AffinetError, ValueError):
    """Text that is not a rule; the message has the line and the column, counted from one."""

    def __init__(self, text: str, line: int, column: int, reason: str) -> None:
        lines = text.splitlines() or [""]
        shown = lines[line - 1] if 0 < line <= len(lines) else ""
        if len(shown) > 120:
            start = max(0, min(column - 60, len(shown) - 120))
            shown, caret_column = shown[start : start + 120], column - start
        else:
            caret_column = column
        shown = "".join(letter if letter.isprintable() or letter == "\t" else "�" for letter in shown)
        pointer = f"\n    {shown}\n    {' ' * (caret_column - 1)}^" if shown.strip() else ""
        super().__init__(f"line {line}, column {column}: {reason}{pointer}")
        self.text, self.line, self.column, self.reason = text, line, column, reason


class InfeasibleError(AffinetError, ValueError):
    """Rules that no weights can satisfy.

    `rules` are the names of an irreducible set of rules: if any one of them is dropped, the others can hold.
    `equations` is an irreducible set of their equations, as pairs (name of the rule, row-major index in its shape,
    which for `families.linear` is the row of `A`), counted from 0. It is empty where the rules have too many numbers
    to look at single equations, or where rounding makes the answer uncertain. `multipliers` has a nonzero number for
    each of `equations`, the largest of size 1: the equations times these numbers add up to `0 == gap` with a nonzero
    gap. With inequalities they add up to `0 <= -gap`, multipliers of `<=` being positive and those of `>=` negative.
    Where `minimal` is False, `rules` and `equations` may contain some that are not needed.
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
        """`rules` are pairs (name, text); `shown` (about the equations) and `consequence` are sentences."""
        if len(rules) == 1:
            opening, advice = "this rule cannot hold:", "Change it or drop it."
        else:
            opening, advice = "these rules cannot hold together:", "Drop one of them or change its right-hand side."
        if not minimal:
            advice += " (Some of these rules or equations may not be needed for the contradiction.)"
        lines = [opening, *_listed(rules), shown, f"{consequence} {advice}" if consequence else advice]
        self._say("\n".join(line for line in lines if line), rules, minimal)
        self.equations = tuple(equations)
        self.multipliers = tuple(multipliers)

    @classmethod
    def not_found(cls, rules: Sequence[tuple[str, str]], where: str) -> Self:
        """Nonlinear rules, pairs (name, text), that no weights near the present ones were found to satisfy.

        `where` tells the point at which the search ended. There may be such weights elsewhere: nothing is proven.
        """
        error = cls(rules, "", minimal=False)
        several = "these rules" if len(rules) > 1 else "this rule"
        lines = [
            f"no weights that satisfy {several} were found from the present ones:",
            *_listed(rules),
            f"{where} Start from other weights, or change the rules; there may be solutions elsewhere.",
        ]
        error._say("\n".join(lines), rules, False)
        return error

    def _say(self, message: str, rules: Sequence[tuple[str, str]], minimal: bool) -> None:
        super().__init__(message)
        self.rules = tuple(name for name, _ in rules)
        self.minimal = minimal

    def with_frozen(self, names: Sequence[str]) -> Self:
        """The same error, its message followed by the weights that count as constants because they are frozen."""
        single = len(names) == 1
        self.message += (
            f"\n{_shortened(names, 4)} {'is' if single else 'are'} frozen (requires_grad=False) and "
            f"{'counts as a constant at its value' if single else 'count as constants at their values'} now. Train "
            f"{'it' if single else 'them'}, or give {'it a value' if single else 'them values'} that the rules allow."
        )
        self.args = (self.message,)
        return self


class AttachError(AffinetError, ValueError):
    """A model, an optimizer and rules that cannot be combined; nothing was changed."""


class GradientError(AffinetError, ValueError):
    """Gradients that cannot be projected (sparse, complex); the step was not taken."""


class JobError(AffinetError, ValueError):
    """A mistake in a job file; the message has the key, the line and the values that are allowed."""


class DataError(AffinetError, ValueError):
    """Data that cannot be read or trained on."""


class PlanFileError(AffinetError, ValueError):
    """A file that does not hold a plan, or not the plan that was saved; or a plan that cannot be saved."""

    def __init__(self, path: object, reason: str, way_out: str) -> None:
        super().__init__(f"{path} {reason}. {way_out}")
        self.path, self.reason = path, reason


class ModelFileError(AffinetError, ValueError):
    """A file of weights that cannot be read, or that lacks weights of a plan."""


class RunError(AffinetError, RuntimeError):
    """A run folder that cannot be written to."""


def counted(count: int, noun: str, plural: str = "") -> str:
    """`1 row`, `2 rows`, `1,000 entries`."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def callers_line() -> int:
    """The `stacklevel` at which a warning points at the first line outside affinet."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "affinet":
        level, frame = level + 1, frame.f_back
    return level


class ReportError(AffinetError, ValueError):
    """A page of a report that cannot be written, or would be written over a file that is not one."""


class WatchError(AffinetError, ValueError):
    """A watch that cannot begin, or an observation that cannot be written to its log."""


class LongStepsWarning(UserWarning):
    """An entry that `basis="free"` computes from so many free numbers that it moves much farther than each of them."""

    def __init__(self, entry: str, rules: Sequence[str], numbers: int, length: float, more_blocks: int) -> None:
        names = _shortened([_quoted(rule) for rule in rules], 3)
        more_text = f" (so do entries of {more_blocks:,} more blocks of rules)" if more_blocks else ""
        super().__init__(
            f'with basis="free" {entry} is computed from {numbers:,} free numbers by {names}{more_text}: an optimizer '
            f"that moves each of these by the learning rate, as Adam does, can move the entry by {length:,.0f} times "
            f"the learning rate in one step, and for SGD the loss is that many times steeper there. Use "
            f'basis="orthonormal" or "projection", or affinet.project. "free" is for ties, and for sums of a few '
            f"entries."
        )
        self.entry, self.rules, self.numbers, self.length = entry, tuple(rules), numbers, length


class ShortenedStepsWarning(UserWarning):
    """Many steps in sequence did not lead to a point of nonlinear rules, and were shortened or not taken."""

    def __init__(self, rules: Sequence[str], times: int, refused: bool) -> None:
        names = _shortened([_quoted(rule) for rule in rules], 3)
        last = ", the last one to nothing" if refused else ""
        super().__init__(
            f"the last {times} steps under {names} led to weights from which there is no way back to the rules "
            f"nearby, and were shortened{last}. The learning rate may be too large for how strongly "
            f"the rules curve. Or the weights are at a point where the set of the rules ends or has a cusp, "
            f"such as y**2 == x**3 at 0, or where the gradient of an inequality vanishes at its bound: no multipliers "
            f"exist there, and no training comes to rest; affinet.lagrange(model, optimizer, rules) trains towards "
            f"such rules. handle.report() counts such steps; handle.certificate(loss_fn) says whether the equations "
            f"keep their rank at the weights."
        )
        self.rules, self.times, self.refused = tuple(rules), times, refused


class SlowReturnWarning(UserWarning):
    """The way back to nonlinear rules converges as it does where their derivatives depend on each other."""

    def __init__(self, rules: Sequence[str]) -> None:
        names = _shortened([_quoted(rule) for rule in rules], 3)
        super().__init__(
            f"the way back to {names} converges slowly: the rules' derivatives depend on each other at the "
            f"solution, or vanish there, as those of (w @ w - 1)**2 == 0 do. The rules hold, but their multipliers are "
            f"not unique or do not exist, and weights near the solution are known to half their digits only. Write "
            f"the equations so that they keep their rank: without the square, or with the equation that follows from "
            f"them."
        )
        self.rules = tuple(rules)


class UnresolvedGapWarning(UserWarning):
    """An inequality between weights that asks for a distance smaller than the rounding of these weights."""

    def __init__(self, rule: str, place: tuple[int, ...], gap: float, rounding: float, rows: int) -> None:
        """`gap` is the distance, `rounding` that of the weights there, `rows` how many inequalities are so."""
        where = f" in row {place[0] if len(place) == 1 else place}" if place else ""
        more = f" (and in {rows - 1:,} more)" if rows > 1 else ""
        super().__init__(
            f"{_quoted(rule)} asks{where}{more} for a distance of {gap:.3g}, and the dtype of its weights rounds "
            f"them by up to {rounding:.2g} at their present size: they can become equal, as if the rule had no gap. A "
            f"larger gap, smaller weights or a wider dtype keep them apart."
        )
        self.rule, self.gap, self.rounding, self.rows = rule, gap, rounding, rows


class LeftOutWarning(UserWarning):
    """Rules that no plan holds are violated where `handle.finish(partial=True)` moved the weights."""

    def __init__(self, violated: Mapping[str, float], reason: str) -> None:
        super().__init__(
            f"the weights were moved onto the rules that a plan holds, and violate {named_violations(violated)}"
            f"{f': {reason}' if reason else ''}. Train on until that is small enough."
        )
        self.violated = dict(violated)


def named_violations(violated: Mapping[str, float]) -> str:
    """The names of rules with their violations, for a sentence."""
    return ", ".join(f"{_quoted(name)} (violated by {size:.3g})" for name, size in violated.items())


class WatchWarning(UserWarning):
    """The base class of the warnings of a watch; a watch gives each warning once."""


class WeightsWrittenWarning(WatchWarning):
    """Constrained weights were written to between two steps, and then did not satisfy the rules."""

    def __init__(self, step: int, weights: Sequence[str], noticed: bool, violated: Sequence[tuple[str, float]]) -> None:
        names, single = _shortened(list(weights), 5), len(weights) == 1
        subject = (
            f"{names} {'was' if single else 'were'} written to, and the weights are"
            if noticed
            else f"weights were written to unnoticed (through .data, or before the watch began), and {names} "
            f"{'is' if single else 'are'}"
        )
        violations = _shortened([f"{_quoted(rule)} by {size:.3g}" for rule, size in violated], 3)
        super().__init__(
            f"before step {step:,} {subject} off the rules: {violations}. This step starts there and ends at the "
            f"nearest point on the rules, which undoes a part of the change. If the weights were loaded, load them "
            f"before affinet.project, or put them on the rules with "
            f"handle.projector.project_(dict(model.named_parameters())). If they are clamped or normalised after each "
            f"step, write that as a rule, or leave it out."
        )
        self.step, self.weights, self.violated = step, tuple(weights), tuple(violated)


class StepUndoneWarning(WatchWarning):
    """The projection undoes almost all of the optimizer's step."""

    def __init__(self, step: int, undone: float, times: int, dearest: Sequence[str]) -> None:
        rules = (
            f" Rules with the largest multipliers: {_shortened([_quoted(rule) for rule in dearest], 3)}."
            if dearest
            else ""
        )
        super().__init__(
            f"the projection undid {_percent(undone)} of the optimizer's step (of its squared length) at each of the "
            f"last {times} steps that were observed, up to step {step:,}: the constrained weights hardly move. Either "
            f"the rules leave almost no freedom in the directions of the loss (print(handle.plan) counts the free "
            f"numbers), or the steps do not come from the projected gradients: decoupled weight decay (AdamW) of "
            f"weights that the rules fix, which is harmless and avoided by a parameter group with weight_decay=0; or "
            f"momentum that was loaded from a training without rules.{rules}"
        )
        self.step, self.undone, self.dearest = step, undone, tuple(dearest)


class MultipliersDivergeWarning(WatchWarning):
    """The multipliers of a rule grow far beyond their usual size."""

    def __init__(self, step: int, rule: str, size: float, usual: float) -> None:
        super().__init__(
            f"the multipliers of {_quoted(rule)} diverge: their norm is {size:.3g} at step {step:,}, and was about "
            f"{usual:.3g}. Usual causes: a learning rate at which the loss itself diverges; a right-hand side that "
            f"training pulls away from ever harder; equations that nearly follow from each other, so that tiny changes "
            f"of the gradient cause large changes of the multipliers (drop one of them, or round their coefficients)."
        )
        self.step, self.rule, self.size, self.usual = step, rule, size, usual


class NotFiniteWarning(WatchWarning):
    """Gradients or weights of a watched training are NaN or infinite."""

    def __init__(self, step: int, gradients: Sequence[str], weights: Sequence[str]) -> None:
        prefix = "the weights " if gradients else ""
        subjects = [f"the gradients of {_shortened(list(gradients), 5)}"] if gradients else []
        subjects += [f"{prefix}{_shortened(list(weights), 5)}"] if weights else []
        super().__init__(
            f"{' and '.join(subjects)} {'hold' if gradients or len(weights) > 1 else 'holds'} numbers that are "
            f"not finite (NaN or infinite) at step {step:,}. The step is taken, as in training without rules, and "
            f"the numbers spread to every weight that the rules couple with these. Check the loss and the learning "
            f"rate; affinet.project(..., check_finite=True) raises before such a step is taken."
        )
        self.step, self.gradients, self.weights = step, tuple(gradients), tuple(weights)


def _quoted(name: str) -> str:
    """The name in quotes on one line, since names may come from a file."""
    return f'"{visible(" ".join(name.split()))}"'


def _percent(share: float) -> str:
    """The share in percent; a share close to 1 is not rounded up to 100 %."""
    return f"{100.0 * share:.1f} %" if share < 0.9995 else "more than 99.9 %"


def visible(text: str) -> str:
    """The text with all characters escaped that a terminal would obey or hide; names in it may come from a file."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def _either(names: Sequence[str]) -> str:
    quoted = [repr(name) for name in names]
    return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]


def _listed(rules: Sequence[tuple[str, str]], limit: int = 12) -> list[str]:
    """One line per rule; of many rules only the first and the last few."""
    shown = [*rules[:6], *rules[-3:]] if len(rules) > limit else rules
    width = max((len(name) for name, rule_text in shown if name != rule_text), default=0)
    lines = [
        f"  {rule_text}" if name == rule_text else f'  "{name}"{" " * (width - len(name))}  {rule_text}'
        for name, rule_text in shown
    ]
    return [*lines[:6], f"  … {len(rules) - len(shown):,} more …", *lines[6:]] if len(rules) > limit else lines


def _shortened(names: Sequence[str], limit: int = 20) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown}, … ({len(names)} in all)"
