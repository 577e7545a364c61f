"""What was measured, as plain values that go to JSON and back into tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.measuring import Spread
from benchmarks.workload import Figure, Target

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Outcome:
    """A target and the figure reached; None where it was not measured."""

    figure: str
    limit: float
    reached: float | None

    @property
    def met(self) -> bool:
        """Whether the figure is there and within the target."""
        return self.reached is not None and self.reached <= self.limit


@dataclass(frozen=True)
class Row:
    """All figures of one workload; `seconds` holds the times that they come from, `failed` why there are none."""

    name: str
    says: str
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, Spread] = field(default_factory=dict)
    outcomes: tuple[Outcome, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    failed: str = ""

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> Row:
        """A row out of JSON."""
        seconds = {name: Spread(**spread) for name, spread in told["seconds"].items()}
        return cls(**{**told, "seconds": seconds, "outcomes": tuple(Outcome(**one) for one in told["outcomes"])})


@dataclass(frozen=True)
class PeerRow:
    """One peer on one job: seconds of affinet and of the peer, and what differs between what they gave."""

    peer: str
    job: str
    ours: float | None = None
    theirs: float | None = None
    note: str = ""


@dataclass(frozen=True)
class GrowthRow:
    """One kind of rules at one size: seconds of planning and of both passes of a step."""

    rules: str
    entries: int
    equations: int
    planning: float
    step: float


@dataclass(frozen=True)
class Run:
    """One run of the benchmarks. `machine` says on what."""

    machine: Mapping[str, str]
    rows: tuple[Row, ...] = ()
    peers: tuple[PeerRow, ...] = ()
    growth: tuple[GrowthRow, ...] = ()
    imports: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def outcomes(targets: tuple[Target, ...], figures: Mapping[Figure, float]) -> tuple[Outcome, ...]:
    """Every target beside its figure."""
    return tuple(Outcome(target.figure.title, target.limit, figures.get(target.figure)) for target in targets)
