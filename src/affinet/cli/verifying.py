"""`affinet verify`: do the weights in a file satisfy the rules of a plan?"""

from __future__ import annotations

from pathlib import Path

from rich import box
from rich.table import Table
from rich.text import Text

from affinet.cli.files.modelfile import opened
from affinet.cli.screen import Screen
from affinet.cli.words import counted
from affinet.language.forecast import limited
from affinet.report.verification import Verdict, verify
from affinet.system.planfile import read_system

WIDEST = 8
"""Bytes of an entry in a file of weights."""


def verify_file(model: Path, plan: Path, screen: Screen) -> bool:
    """Show how far the weights in `model` are from each rule of `plan`; whether all hold.

    Only the weights that the rules speak of are read, those of one rule at a time, and nothing is planned. Raises
    PlanFileError, ModelFileError, and TooLargeError for a rule too large to be counted.
    """
    system = read_system(plan)
    with opened(model) as file:
        file.check(system.layout)
        with limited(WIDEST * system.layout.size, "Say the rule in parts."):
            verdicts = list(verify(system, file.weights))
    screen.show(_table(verdicts))
    screen.say(f"\n{conclusion(verdicts)}")
    return all(verdict.holds for verdict in verdicts)


def conclusion(verdicts: list[Verdict]) -> str:
    """What the verdicts come to, in one sentence."""
    wrong = [verdict for verdict in verdicts if not verdict.holds]
    if not verdicts:
        return "The plan has no rules, and these hold."
    if not wrong:
        worst = max(verdict.roundings for verdict in verdicts)
        return f"The rules hold: no equation is off by more than {worst:.2g} times the rounding of the weights in it."
    verb = "does" if len(wrong) == 1 else "do"
    bounds = " or ".join(f"{bound:g}" for bound in sorted({verdict.bound for verdict in wrong}))
    return (
        f"{len(wrong)} of {counted(len(verdicts), 'rule')} {verb} not hold: an equation is off by more than {bounds} "
        f"times the rounding of the weights in it."
    )


def _table(verdicts: list[Verdict]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("rule", overflow="fold")
    for heading in ("equations", "largest violation", "times rounding"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for verdict in verdicts:
        said = "holds" if verdict.holds else "does not hold"
        figures = (f"{verdict.equations:,}", f"{verdict.largest:.2g}", f"{verdict.roundings:.2g}")
        table.add_row(Text(_plain(verdict.name)), *figures, said)
    return table


def _plain(name: str) -> str:
    """A name from a file without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "�" for letter in name)
