"""The results of a finished run, as plain numbers and plain sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from affinet.blocks.interval import Interval

if TYPE_CHECKING:
    from affinet.report.cost import CostReport, Trainable


@dataclass(frozen=True)
class Outcome:
    """One training: last loss and score, largest violation, numbers trained and free to move, wall-clock seconds.

    `measuring` is the part of these seconds spent on measuring: the violation after every step, and stationarity.
    """

    loss: float
    score: float
    violation: float
    trained: Trainable
    free: int | Interval
    seconds: float
    measuring: float = 0.0


@dataclass(frozen=True)
class RunSummary:
    """A training under rules, and `plain`: the same network, seed and data without rules, None where that diverged.

    Both are measured in the same way: `violation` is the largest of any rule after any step, and measuring is in
    `seconds`. `trivial` is the score of an answer that knows no features. `prices` are those of the last weights under
    rules, for the mean loss of all train rows; where they are None, `no_prices` says why.
    """

    score_name: str
    test_rows: int
    trivial: float
    rules: Outcome
    plain: Outcome | None
    prices: CostReport | None = None
    no_prices: str = ""

    def cost(self) -> str:
        """How much score the rules cost or gain, in one sentence."""
        if self.plain is None:
            return "Without the rules the same network diverged, so there is nothing to compare the score with."
        with_rules, without = self._shown(self.rules.score), self._shown(self.plain.score)
        scores = f"{with_rules} with them, {without} without, on {self.test_rows:,} test rows"
        if max(self.rules.score, self.plain.score) <= self.trivial:
            return self._nothing_learnt(scores)
        difference = self.plain.score - self.rules.score
        if difference < 0 and with_rules != without:
            return f"With the rules {self.score_name} is higher: {scores}."
        if difference <= 0:
            return f"The rules cost nothing in {self.score_name}: {scores}."
        if self.score_name == "accuracy":
            rows = round(difference * self.test_rows)
            amount = f"{100 * difference:.1f} percentage points of accuracy ({rows} of {self.test_rows:,} test rows)"
            return f"The rules cost {amount}: {with_rules} with them, {without} without."
        return f"The rules cost {difference:.3f} of {self.score_name}: {scores}."

    def measuring(self) -> str:
        """How much of the time went into measuring instead of training, in one sentence."""
        times = f"{self.rules.measuring:.1f} of the {self.rules.seconds:.1f} seconds with rules"
        if self.plain is not None:
            times += f", and {self.plain.measuring:.1f} of the {self.plain.seconds:.1f} without"
        return f"Measuring the violation after every step, and under rules the stationarity, took {times}."

    def training(self) -> str:
        """How many numbers were trained under rules, in one sentence."""
        trained = self.rules.trained
        if trained.numbers < trained.out_of:
            return f"With rules, trained {trained}."
        free = "" if self.rules.free == trained.out_of else f", of which {shown_count(self.rules.free)} are free"
        return f"With rules, trained all {trained.out_of:,} numbers{free}."

    def _nothing_learnt(self, scores: str) -> str:
        guess = "naming the most frequent class" if self.score_name == "accuracy" else "the mean of the target"
        return (
            f"Neither network learnt anything, so what the rules cost is not known: {self.score_name} is {scores}, and "
            f"{guess} scores {self._shown(self.trivial)}. Change epochs, learning_rate or optimizer in [train]."
        )

    def _shown(self, score: float) -> str:
        return shown_score(self.score_name, score)


def shown_count(count: int | Interval) -> str:
    """`5,959`, or `10..12` for a count known only within bounds."""
    return f"{count:,}" if isinstance(count, int) else str(count)


def shown_score(name: str, score: float) -> str:
    """An accuracy as a percentage, anything else with three decimals."""
    return f"{score:.1%}" if name == "accuracy" else f"{score:.3f}"
