"""The contents of a page as plain data: sentences, curves, prices and pictures of weights, without their looks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

State = Literal["finished", "unfinished", "training", "attached"]
"""A finished run; one that was stopped; one that trains while it is looked at; rules on a model in this process."""


@dataclass(frozen=True)
class Figure:
    """A number that stands at the top of the page, in text: `97.2%` and what it is."""

    value: str
    name: str


@dataclass(frozen=True)
class Curve:
    """Numbers over steps or epochs; `reference` is a number to compare with and its name, such as without rules."""

    title: str
    sentence: str
    over: str
    places: tuple[float, ...]
    values: tuple[float, ...]
    logarithmic: bool = False
    reference: tuple[str, float] | None = None


@dataclass(frozen=True)
class Price:
    """What loosening a rule by 0.01 would change in the loss, to first order, and its largest |ν|."""

    rule: str
    largest: float
    change: float
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prices:
    """The dearest rules first; `count` is the number of all rules. `note` says what the figures are about."""

    dearest: tuple[Price, ...]
    count: int
    stationarity: float | None
    loosened_by: float
    note: str = ""


@dataclass(frozen=True)
class Total:
    """What a rule says of the sum of a row or column that is drawn: `sense` and `bound`, per entry of weight one."""

    sense: str
    bound: float


@dataclass(frozen=True, eq=False)
class Panel:
    """The numbers of a weight at one time: `values` (rows, columns) are those drawn, the sums are of whole rows."""

    title: str
    values: np.ndarray
    row_sums: np.ndarray
    column_sums: np.ndarray


@dataclass(frozen=True, eq=False)
class Picture:
    """A weight as a matrix, with the rules about each entry that is drawn: arrays of (rows, columns).

    `rows` and `columns` are the numbers of those drawn, out of `size`. `kinds` are those of `KINDS`; `groups` number
    classes of tied entries, -1 elsewhere; `upper` and `lower` mark entries at their bound. `row_totals` and
    `column_totals` say what rules ask of whole rows and columns. `column_names` are the features that the columns drawn
    are about, where they are known.
    """

    name: str
    shape: tuple[int, ...]
    size: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray
    panels: tuple[Panel, ...]
    kinds: np.ndarray
    groups: np.ndarray
    upper: np.ndarray
    lower: np.ndarray
    row_totals: tuple[Total | None, ...]
    column_totals: tuple[Total | None, ...]
    rules: tuple[str, ...] = ()
    rule_count: int = 0
    column_names: tuple[str, ...] = ()


KINDS = ("free", "bounded", "in an equation", "tied", "fixed")
"""What rules ask of an entry; of several, the last one here is drawn."""


@dataclass(frozen=True)
class Comparison:
    """Rows of a table with and without rules: a name and two texts; and a sentence about it."""

    sentence: str
    rows: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class Contents:
    """Everything that a page shows; what is empty or None is left out, and `missing` says why and what to do.

    `refresh` is the number of seconds after which a browser loads the page again, for a page that is served while a
    training lasts.
    """

    title: str
    state: State
    lead: str
    figures: tuple[Figure, ...] = ()
    sentences: tuple[str, ...] = ()
    plan: str = ""
    findings: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    pictures_note: str = ""
    curves: tuple[Curve, ...] = ()
    prices: Prices | None = None
    comparison: Comparison | None = None
    missing: tuple[str, ...] = ()
    versions: tuple[tuple[str, str], ...] = field(default=())
    job: str = ""
    refresh: int | None = None
