"""The mutation score, with its interval, and the survivors that nobody has answered yet."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import binomtest

from tools.mutants.making import Mutant
from tools.mutants.running import Trial

Key = tuple[str, str, str, str]
Tried = tuple[Mutant, Trial]


@dataclass(frozen=True)
class Score:
    """How many of the tried mutants a test noticed, and how many of the others are answered for."""

    tried: int
    killed: int
    out_of_time: int
    answered: int
    open: int

    @property
    def share(self) -> float:
        """Noticed ones (killed, or running for ever) among all that were tried, answered ones included."""
        return (self.killed + self.out_of_time) / self.tried if self.tried else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share among all mutants."""
        if not self.tried:
            return 0.0, 1.0
        found = binomtest(self.killed + self.out_of_time, self.tried).proportion_ci(method="wilson")
        return float(found.low), float(found.high)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"{self.tried:6} {self.killed:6} {self.out_of_time:9} {self.answered:9} {self.open:5} "
            f"{self.share:7.1%}  {low:.1%} … {high:.1%}"
        )


HEAD = " tried killed timed out  answered  open   score  95 % interval"


def answers(path: Path) -> dict[Key, str]:
    """Why a mutant changes nothing that a test could hold, by its key."""
    if not path.exists():
        return {}
    listed = tomllib.loads(path.read_text(encoding="utf-8")).get("answer", [])
    return {(each["file"], each["function"], each["before"], each["after"]): each["why"] for each in listed}


def score(tried: Sequence[Tried], answered: dict[Key, str]) -> Score:
    """Count the fates."""
    fates = Counter(trial.fate for _, trial in tried)
    left = sum(trial.fate in ("survived", "no test") and mutant.key in answered for mutant, trial in tried)
    return Score(
        len(tried), fates["killed"], fates["out of time"], left, fates["survived"] + fates["no test"] - left
    )  # fmt: skip


def table(tried: Sequence[Tried], answered: dict[Key, str]) -> Iterator[str]:
    """One line a folder, and one for all."""
    folders = sorted({str(Path(mutant.file).parent) for mutant, _ in tried})
    width = max(map(len, [*folders, "all"]))
    yield f"{'':{width}} {HEAD}"
    for folder in folders:
        inside = [(mutant, trial) for mutant, trial in tried if folder == str(Path(mutant.file).parent)]
        yield f"{folder:{width}} {score(inside, answered)}"
    yield f"{'all':{width}} {score(tried, answered)}"


def still_open(tried: Sequence[Tried], answered: dict[Key, str]) -> Iterator[str]:
    """The survivors without an answer, as entries to fill in."""
    for mutant, trial in tried:
        if trial.fate in ("survived", "no test") and mutant.key not in answered:
            yield f"\n# line {mutant.first}: {trial.fate}\n[[answer]]"
            for name, value in zip(("file", "function", "before", "after"), mutant.key, strict=True):
                yield f"{name} = {_quoted(value)}"
            yield 'why = ""'


def _quoted(value: str) -> str:
    return f"'{value}'" if "'" not in value else f"'''{value}'''"
