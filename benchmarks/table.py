"""Tables of a run: for the screen, and in Markdown between the markers of docs/performance.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.growth import exponents
from benchmarks.results import Outcome, PeerRow, Row, Run
from benchmarks.workload import Figure

HEADS = ("workload", "step", "project, ours", "by hand", "copy", "gradients, ours", "by hand", "copy", "planning")
MEMORY_HEADS = ("planning peak", "plan keeps", "targets")
QUIET = 1.0
"""Up to this load a machine of two cores counts as quiet."""
UNITS = {figure.title: figure.unit for figure in Figure}


def shown(value: float | None, unit: str) -> str:
    """A figure with its unit, to three digits; a dash for none."""
    if value is None:
        return "–"
    if unit == "×":
        return f"{value:.2f} ×"
    if unit == "s":
        scale, name = next((pair for pair in ((1.0, "s"), (1e-3, "ms")) if value >= pair[0]), (1e-6, "µs"))
        return f"{value / scale:.3g} {name}" if value / scale < 1000 else f"{value / scale:,.0f} {name}"
    if unit == "B":
        steps = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
        scale, name = next((pair for pair in steps if value >= pair[0]), (1.0, "B"))
        return f"{value / scale:.3g} {name}"
    return f"{value:.3g}"


def verdict(outcome: Outcome) -> str:
    """`step 1.04 × ≤ 1.06 ×: met`."""
    unit = UNITS[outcome.figure]
    said = "met" if outcome.met else "not measured" if outcome.reached is None else "not met"
    return f"{outcome.figure} {shown(outcome.reached, unit)} ≤ {shown(outcome.limit, unit)}: {said}"


def cells(row: Row) -> list[str]:
    """The cells of a workload under HEADS and MEMORY_HEADS."""
    times = [
        shown(spread.median if (spread := row.seconds.get(f"{title}, {side}")) else None, "s")
        for title in ("project", "gradient")
        for side in ("ours", "by hand", "copy")
    ]
    figure = row.figures.get
    return [
        f"{row.says} ({row.failed})" if row.failed else row.says,
        shown(figure(Figure.STEP.title), "×"),
        *times,
        shown(figure(Figure.PLANNING.title), "s"),
        shown(figure(Figure.PEAK.title), "B"),
        shown(figure(Figure.KEPT.title), "B"),
        "; ".join(map(verdict, row.outcomes)) or "report",
    ]


def print_workloads(console: Console, rows: Iterable[Row]) -> None:
    """The table of workloads."""
    table = Table(title="workloads", show_lines=True)
    for head in (*HEADS, *MEMORY_HEADS):
        table.add_column(head)
    for row in rows:
        *first, targets = cells(row)
        coloured = [
            f"[{'green' if outcome.met else 'red'}]{escape(verdict(outcome))}[/]" for outcome in row.outcomes
        ] or [targets]
        table.add_row(*map(escape, first), "\n".join(coloured))
    console.print(table)


def print_peers(console: Console, rows: Iterable[PeerRow]) -> None:
    """The table of peers."""
    table = Table(title="peers on the same job")
    for head in PEER_HEADS:
        table.add_column(head)
    for row in rows:
        table.add_row(*map(escape, peer_cells(row)))
    console.print(table)


PEER_HEADS = ("peer", "job", "affinet", "peer takes", "ratio", "note")


def peer_cells(row: PeerRow) -> list[str]:
    """The cells of a peer under PEER_HEADS."""
    ratio = row.theirs / row.ours if row.theirs and row.ours else None
    figure = "–" if ratio is None else f"{ratio:,.0f} ×" if ratio >= 10 else f"{ratio:.2f} ×"
    return [row.peer, row.job, shown(row.ours, "s"), shown(row.theirs, "s"), figure, row.note]


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def sections(run: Run) -> dict[str, str]:
    """Marker name → Markdown, for each part that this run has."""
    found: dict[str, str] = {}
    suffix = "-gpu" if run.machine["device"] != "cpu" else ""
    where = ", ".join(f"{key} {value}" for key, value in run.machine.items())
    if run.rows:
        measured = [row for row in run.rows if row.outcomes or row.failed]
        found["workloads" + suffix] = (
            f"{where}. Medians of one run.{_disturbed(run.machine)}\n\n"
            + markdown((*HEADS, *MEMORY_HEADS[:2]), (cells(row)[:-1] for row in run.rows))
            + "\nThe targets of each workload, the figures reached, and which are met. The last columns say what the "
            "step ratio would be with the passes by hand, and with passes as quick as copies of the same bytes.\n\n"
            + markdown(("workload", "targets", "step by hand", "step by copies"), map(_against_targets, measured))
        )
    if run.peers:
        found["peers" + suffix] = markdown(PEER_HEADS, map(peer_cells, run.peers))
    if run.growth:
        lines = [[rules, *(f"{value:.2f}" for value in pair)] for rules, pair in exponents(run.growth).items()]
        found["growth" + suffix] = markdown(("rules", "exponent of planning", "exponent of the step"), lines)
    if run.imports:
        found["imports" + suffix] = markdown(
            ("statement", "seconds"), ([name, f"{value:.3f}"] for name, value in run.imports.items())
        )
    return found


def refresh(document: Path, parts: dict[str, str]) -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end of NAME -->`. Raises ValueError for a missing pair."""
    text = document.read_text(encoding="utf-8")
    for name, body in parts.items():
        pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end of {re.escape(name)} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, body=body: f"{found[1]}\n{body}\n{found[2]}", text)  # type: ignore[misc]
        if count != 1:
            raise ValueError(f"{document} has {count} places marked {name!r}, and needs one")
    document.write_text(text, encoding="utf-8")


def _disturbed(machine: Mapping[str, str]) -> str:
    """A warning where others used the machine: a thread that waits for a core then costs milliseconds a call."""
    load = machine.get("load", "unknown")
    if load == "unknown" or float(load) <= QUIET:
        return ""
    return (
        f" **The machine was busy when this run began (load {load}): its times are those of waiting for a core as much "
        f"as of work, and its ratios say little. Run it again on a quiet one.**"
    )


def _against_targets(row: Row) -> list[str]:
    floors = [row.notes.get(f"step with {side} passes") for side in ("by hand", "copy")]
    said = "<br>".join(map(verdict, row.outcomes)) or row.failed
    return [row.says, said, *(shown(floor, "×") for floor in floors)]
