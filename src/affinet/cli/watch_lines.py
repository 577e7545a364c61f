"""Show a run in the terminal: progress bars while it lasts, a table of both trainings at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from affinet.cli.run_summary import Outcome, RunSummary, shown_count, shown_score
from affinet.cli.screen import Screen
from affinet.cli.trainings.training import Epoch, Step


@dataclass(frozen=True)
class Terminal:
    """Watches a run and shows it on a screen."""

    screen: Screen
    score_name: str

    def say(self, sentence: str) -> None:
        """Print a sentence about the run."""
        self.screen.say(sentence)

    @contextmanager
    def training(
        self, title: str, epochs: int, steps: int, steps_done: int
    ) -> Iterator[Callable[[Step | Epoch], None]]:
        """A progress bar with the epoch, the last loss and score, and the largest violation so far."""
        epoch, score, worst = 0, "–", 0.0
        with _bar(self.screen.results) as bar:
            task = bar.add_task(f"{title:<13}", total=steps, completed=steps_done, state="")

            def show(event: Step | Epoch) -> None:
                nonlocal epoch, score, worst
                worst = max(worst, event.violation)
                if isinstance(event, Epoch):
                    epoch, score = event.number, shown_score(self.score_name, event.score)
                state = f"{epoch}/{epochs} loss {event.loss:.4f} {self.score_name} {score} violation {worst:.1e}"
                bar.update(task, advance=isinstance(event, Step), state=state)

            yield show

    def compare(self, summary: RunSummary) -> None:
        """Print the results with and without rules side by side, and what the rules cost."""
        self.screen.say("")
        self.screen.show(comparison(summary))
        self.screen.say("")
        self.screen.say(summary.measuring())
        self.screen.say(summary.training())
        self.screen.say(summary.cost())


def comparison(summary: RunSummary) -> Table:
    """A table with one row per training."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("")
    score = f"test\n{summary.score_name}"
    for heading in ("training\nloss", score, "largest\nviolation", "free\nnumbers", "\nseconds"):
        table.add_column(heading, justify="right")
    table.add_row("with rules", *_cells(summary, summary.rules))
    if summary.plain is None:
        table.add_row("without rules", "diverged", "–", "–", "–", "–")
    else:
        table.add_row("without rules", *_cells(summary, summary.plain))
    return table


def _cells(summary: RunSummary, outcome: Outcome) -> list[str]:
    score = shown_score(summary.score_name, outcome.score)
    return [
        f"{outcome.loss:.4f}",
        score,
        f"{outcome.violation:.1e}",
        shown_count(outcome.free),
        f"{outcome.seconds:.1f}",
    ]


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[state]}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
        expand=True,
    )
