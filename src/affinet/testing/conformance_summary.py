"""Summarize a library on the cases: which hold, which fail and why, which are declined; as JSON and as a badge."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from affinet._version import __version__
from affinet.errors import ConformanceError
from affinet.system.limits import Limits
from affinet.testing.badge import badge_of
from affinet.testing.conformance_cases import cases
from affinet.testing.conformance_checks import DTYPES, Binding, check
from affinet.testing.truth import KINDS, Arrays, Case, Kind

Make = Callable[[Case, Arrays], Binding]
"""Makes the binding for a case, for weights with the names, shapes and dtype of these arrays."""
Outcome = Literal["holds", "fails", "declined"]


@dataclass(frozen=True)
class Verdict:
    """What became of a case in a dtype; `words` say why it does not hold, `share` is the largest error by its bound."""

    case: str
    kind: Kind
    dtype: str
    outcome: Outcome
    words: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Tally:
    """How many cases of a kind hold in both dtypes, fail in one, are declined, or were left out in one or both."""

    holding: int
    failing: int
    declined: int
    left_out: int = 0

    @property
    def total(self) -> int:
        """All cases of the kind, whether they were checked or not."""
        return self.holding + self.failing + self.declined + self.left_out

    @property
    def conforms(self) -> bool:
        """Whether all cases of the kind were checked and hold."""
        return 0 < self.total == self.holding


@dataclass(frozen=True)
class Summary:
    """The verdicts on a version of a library, in the order of the cases."""

    library: str
    version: str
    verdicts: tuple[Verdict, ...]

    @property
    def tallies(self) -> dict[Kind, Tally]:
        """The counts for each kind of rules of which a case was checked."""
        checked = {each.kind for each in self.verdicts}
        kinds = {kind: self._outcomes(kind) for kind in KINDS if kind in checked}
        return {
            kind: Tally(*(outcomes.count(each) for each in ("holds", "fails", "declined", "left out")))
            for kind, outcomes in kinds.items()
        }

    @property
    def conforms(self) -> tuple[Kind, ...]:
        """The kinds of rules all of whose cases hold in both dtypes."""
        return tuple(kind for kind, tally in self.tallies.items() if tally.conforms)

    def to_json(self) -> str:
        """The summary as JSON, the evidence for a badge: each case with its outcome, and the counts."""
        tallies = {kind: asdict(each) | {"conforms": each.conforms} for kind, each in self.tallies.items()}
        head = {"library": self.library, "version": self.version, "affinet": __version__, "kinds": tallies}
        verdicts = [
            {key: value for key, value in asdict(each).items() if value not in ("", None)} for each in self.verdicts
        ]
        return json.dumps(head | {"verdicts": verdicts}, indent=2) + "\n"

    def badge(self) -> str:
        """A badge as SVG with the number of cases that hold, of each kind of which the library holds or fails one."""
        shown = {kind: each for kind, each in self.tallies.items() if each.holding or each.failing or each.left_out}
        counts = " · ".join(f"{kind} {each.holding}/{each.total}" for kind, each in shown.items()) or "no case"
        conforms = bool(shown) and all(each.conforms for each in shown.values())
        return badge_of(f"affinet {__version__} conformance", f"{self.library} {self.version}: {counts}", conforms)

    def __str__(self) -> str:
        lines = [f"{self.library} {self.version}, on the cases of affinet {__version__}"]
        for kind, tally in self.tallies.items():
            word = "conforms" if tally.conforms else f"{tally.failing} fail, {tally.declined} declined"
            word += f", {tally.left_out} not checked" if tally.left_out else ""
            lines.append(f"  {kind:<20} {tally.holding:>3} of {tally.total} hold: {word}")
        lines += [f"  {each.words}" for each in self.verdicts if each.outcome == "fails"]
        return "\n".join(lines)

    def _outcomes(self, kind: Kind) -> list[str]:
        """The outcome of each case of a kind: a failure before a declined case, and before one that was not checked."""
        by_case: dict[str, dict[str, Outcome]] = {case.name: {} for case in problems() if case.kind == kind}
        for verdict in self.verdicts:
            if verdict.kind == kind:
                by_case.setdefault(verdict.case, {})[verdict.dtype] = verdict.outcome
        return [_worst(outcomes) for outcomes in by_case.values()]


def _worst(outcomes: Mapping[str, Outcome]) -> str:
    for outcome in ("fails", "declined"):
        if outcome in outcomes.values():
            return outcome
    return "holds" if set(DTYPES) <= outcomes.keys() else "left out"


def summarize(
    make: Make, *, library: str, version: str, only: Iterable[Case] | None = None, dtypes: Sequence[str] = DTYPES
) -> Summary:
    """The verdicts on the bindings that `make` makes, for `problems()` or the cases in `only`, in each of `dtypes`.

    A binding declines a case where `make`, or a method of it, raises NotImplementedError. Any other exception is a
    failure of the case, and the next case is checked. Raises UnsupportedWeightError for another dtype.
    """
    chosen = problems() if only is None else only
    verdicts = [_verdict(make, case, dtype) for case in chosen for dtype in dtypes]
    return Summary(library, version, tuple(verdicts))


def problems() -> tuple[Case, ...]:
    """The cases without those that only differ in how affinet plans them, for libraries that do not use its plans."""
    return tuple(case for case in cases() if case.limits == Limits())


def _verdict(make: Make, case: Case, dtype: str) -> Verdict:
    try:
        measured = check(lambda _, weights: make(case, weights), case, dtype)
    except NotImplementedError as error:
        return Verdict(case.name, case.kind, dtype, "declined", str(error))
    except ConformanceError as error:
        return Verdict(case.name, case.kind, dtype, "fails", str(error))
    except Exception as error:
        if dtype not in DTYPES:
            raise
        words = f"case {case.name!r} in {dtype}: {type(error).__name__}: {error}"
        return Verdict(case.name, case.kind, dtype, "fails", words)
    return Verdict(case.name, case.kind, dtype, "holds", share=max(measured.shares.values()))
