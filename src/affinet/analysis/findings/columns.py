"""Find matrices of linear rules whose columns seem to follow another order than the entries of the listed weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from affinet.analysis.findings.looking import Look
from affinet.analysis.findings.order import OtherOrder, other_order
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.lookup.entry_names import counted, cut, named
from affinet.blocks.places import complement
from affinet.language.calculus.terms import Integers, Parameter
from affinet.language.origin import Linear
from affinet.system.rows import Rows

MOST_PAIRS = 2**21
"""Matrices with more coefficients are not checked."""
FEW = 10
"""Zero columns count as an oversight if at most one column in this many is zero; more mean a rule about few entries."""


@dataclass(frozen=True)
class EmptyColumns:
    """Listed entries that the matrix of a linear rule does not read: their columns are all zero."""

    rule: str
    where: str
    columns: int
    out_of: int

    def __str__(self) -> str:
        return (
            f'{counted(self.columns, "column")} of {self.out_of:,} of A in "{cut(self.rule)}" '
            f"{'is' if self.columns == 1 else 'are'} all zero, those of {self.where}: listed, and not touched. If A "
            f"was made for other weights or another order of them, its columns are misaligned; else list fewer weights."
        )


@dataclass(frozen=True)
class UnreadWeights:
    """Weights that a linear rule lists although its matrix reads none of their entries."""

    rule: str
    weights: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f'A in "{cut(self.rule)}" reads nothing of {", ".join(self.weights)}: listed, and its columns are all '
            f"zero. If A was made for other weights or another order of them, its columns are misaligned; else list "
            f"fewer weights."
        )


@dataclass(frozen=True)
class ColumnMajor:
    """A linear rule each of whose equations would read a `line` of a weight, were it flattened column by column."""

    rule: str
    weight: str
    shape: tuple[int, ...]
    line: str

    def __str__(self) -> str:
        return (
            f'A in "{cut(self.rule)}" looks transposed: its equations about {self.weight} of shape {self.shape} read '
            f"{self.line}, if the weight is flattened column by column; affinet flattens row by row. If A was made so "
            f"(MATLAB, Fortran order, vec), list {self.weight}.T in place of {self.weight}."
        )


def columns(look: Look) -> Iterator[EmptyColumns | UnreadWeights | ColumnMajor | OtherOrder | Overlooked]:
    """Findings about the columns of rules made by `families.linear`; other rules are not checked."""
    late = []
    for number, rule in enumerate(look.system.rules):
        if not isinstance(rule.origin, Linear):
            continue
        if rule.nonzeros > MOST_PAIRS or rule.pairs > 2 * MOST_PAIRS:
            late.append(number)
            continue
        rows = look.system.rows([number])
        listed, unread = _split_listed(look, rule.origin, rows)
        if unread and rows.count:
            yield UnreadWeights(rule.name, tuple(unread))
        yield from _find_empty_columns(look, rule.name, rows, listed, sparse=rule.origin.sparse)
        other = other_order(rule.name, rows, listed, look.system.layout)
        if other is not None:
            yield other
        for parameter in listed:
            line = column_major(parameter, _positions_read(look, rows, parameter))
            if line:
                yield ColumnMajor(rule.name, parameter.name, parameter.shape, line)
    if late:
        equations = sum(look.system.rules[number].equations for number in late)
        yield Overlooked(look.names(late), equations, "the order of columns")


def _split_listed(look: Look, origin: Linear, rows: Rows) -> tuple[list[Parameter], list[str]]:
    """The weights that the rule lists in full and reads, and those that it lists and does not read.

    Both are empty if it lists parts or rearrangements of weights. A weight that no rule reads is not in the layout.
    """
    names = [name for name in origin.weights if name is not None]
    if len(names) < len(origin.weights):
        return [], []
    known = {parameter.name: parameter for parameter in look.system.layout.parameters}
    touched = {name for name in names if name in known and _reads(look, rows, known[name])}
    if not touched:
        return [], []
    return [known[name] for name in names if name in touched], [name for name in names if name not in touched]


def _reads(look: Look, rows: Rows, parameter: Parameter) -> bool:
    start = look.system.layout.start(parameter)
    return bool(((rows.columns >= start) & (rows.columns < start + parameter.size)).any())


def _find_empty_columns(
    look: Look, rule: str, rows: Rows, listed: list[Parameter], *, sparse: bool
) -> Iterator[EmptyColumns]:
    """A finding if a dense matrix has a few zero columns among many nonzero ones."""
    total = sum(parameter.size for parameter in listed)
    used = np.unique(rows.columns)
    if not rows.count or len(used) in (0, total):
        return
    missing = []
    for parameter in listed:
        start = look.system.layout.start(parameter)
        read = used[(used >= start) & (used < start + parameter.size)] - start
        if len(read) < parameter.size:
            missing.append((parameter, read))
    if missing and not sparse and FEW * (total - len(used)) <= total:
        where = ", ".join(named(parameter, complement(read, parameter.size)) for parameter, read in missing[:3])
        yield EmptyColumns(rule, where, sum(parameter.size - len(read) for parameter, read in missing), total)


def _positions_read(look: Look, rows: Rows, parameter: Parameter) -> list[Integers]:
    """The positions that each equation reads in a weight, for equations that read two of its entries or more."""
    start = look.system.layout.start(parameter)
    inside = (rows.columns >= start) & (rows.columns < start + parameter.size)
    counts = np.bincount(rows.row_of_each()[inside], minlength=rows.count)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    places = rows.columns[inside] - start
    return [places[bounds[row] : bounds[row + 1]] for row in np.flatnonzero(counts > 1)]


def column_major(parameter: Parameter, supports: list[Integers]) -> str:
    """The kind of line that all equations read if the weight is flattened column by column; "" if they differ.

    `supports` are the positions (row-major) that equations read. Only a matrix (m, n) counts where neither of m and n
    divides the other, so that no line of one order is a multiple or a fraction of lines of the other; and only if the
    equations cover all lines, or all differences of neighbours along them.
    """
    if len(parameter.shape) != 2 or len(supports) < 2:
        return ""
    m, n = parameter.shape
    if min(m, n) < 2 or m % n == 0 or n % m == 0:
        return ""
    if m * n > sum(len(support) for support in supports):
        return ""  # the lines, and their differences, are more than the equations read
    places = np.arange(m * n).reshape(n, m)
    wanted = {
        "whole columns": list(places),
        "whole rows": list(places.T),
        "differences down its columns": list(np.stack([places[:, :-1].ravel(), places[:, 1:].ravel()], 1)),
        "differences along its rows": list(np.stack([places[:-1].ravel(), places[1:].ravel()], 1)),
    }
    supports_read = {tuple(support.tolist()) for support in supports}
    for line, sets in wanted.items():
        if supports_read == {tuple(sorted(int(k) for k in positions)) for positions in sets}:
            return line
    return ""
