"""How planning and a step grow with the number of entries, from 10⁴ to 10⁷, and the plot of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from math import isqrt
from pathlib import Path

import numpy as np
import torch

import affinet
from affinet import families
from affinet.training.gradient_terms import Added
from affinet.training.learning import Learning
from benchmarks.measuring import Effort, by_turns, repeated
from benchmarks.results import GrowthRow

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
FITTED = 100_000
"""Exponents are fitted from this size on: below, what a call costs whatever its size is most of it."""
LONGEST = 40.0
"""Seconds that planning may take; a size that would take more, going by the one before, is left out."""

Said = Callable[[affinet.Weights], list[affinet.Constraint]]


def _ties(entries: int) -> tuple[tuple[int, ...], Said]:
    """Random ties, half as many as entries."""
    i, j = np.random.default_rng(0).integers(0, entries, (2, entries // 2))
    return (entries,), lambda w: [w.W[i] == w.W[j]]


def _equations(entries: int) -> tuple[tuple[int, ...], Said]:
    """Random equations of four terms, one for 40 entries: the density of 100,000 over 4,000,000."""
    draw = np.random.default_rng(0)
    terms = draw.integers(0, entries, (entries // 40, 4))
    coefficients, b = draw.standard_normal(terms.shape), draw.standard_normal(len(terms))
    return (entries,), lambda w: [(coefficients * w.W[terms]).sum(dim=1) == b]


def _row_sums(entries: int) -> tuple[tuple[int, ...], Said]:
    """Rows of a square matrix that sum to one."""
    width = isqrt(entries)
    return (width, width), lambda w: [w.W.sum(dim=1) == 1]


def _simplex_rows(entries: int) -> tuple[tuple[int, ...], Said]:
    """Rows of a square matrix on the simplex."""
    width = isqrt(entries)
    return (width, width), lambda w: [*families.simplex(w.W, dim=1)]


def _ascending_rows(entries: int) -> tuple[tuple[int, ...], Said]:
    """Rows of a square matrix that ascend."""
    width = isqrt(entries)
    return (width, width), lambda w: [families.monotone(w.W, dim=1)]


KINDS: Mapping[str, Callable[[int], tuple[tuple[int, ...], Said]]] = {
    "random ties": _ties,
    "random 4-term equations": _equations,
    "row sums": _row_sums,
    "rows on the simplex": _simplex_rows,
    "ascending rows": _ascending_rows,
}
SQUARE = {"row sums", "rows on the simplex", "ascending rows"}
"""Kinds over a square matrix, whose size is that of its plan."""


def measured(sizes: Iterable[int] = SIZES, share: float = 1.0) -> list[GrowthRow]:
    """Seconds of planning and of both passes of a step, for every kind of rules at every size."""
    found = []
    for kind, draw in KINDS.items():
        last = 0.0
        for size in sizes:
            if last * 12 > LONGEST:
                break
            row = _at(kind, draw, size, share)
            last = row.planning
            found.append(row)
    return found


def _at(kind: str, draw: Callable[[int], tuple[tuple[int, ...], Said]], size: int, share: float) -> GrowthRow:
    shape, rules = draw(size)

    def build() -> affinet.Plan:
        return affinet.plan(rules(affinet.weights({"W": shape})))

    plan, planning = repeated(build, Effort(0.5 * share, most=7))
    weights = {"W": torch.rand(shape)}
    projector = plan.projector(weights)
    source = torch.rand(shape)
    gradients = {"W": torch.randn(shape)}

    def step() -> None:
        projector.project_gradients_(gradients, weights, {})
        projector.project_(weights)

    before = partial(weights["W"].copy_, source)
    if projector.has_inequalities:
        step, before = (
            _learned_step(projector, weights, gradients),
            partial(gradients["W"].copy_, gradients["W"].clone()),
        )
    step()
    taken = by_turns({"step": step}, Effort(share, most=50), before=before)
    return GrowthRow(kind, plan.size if kind in SQUARE else size, plan.rows, planning.median, taken["step"].median)


def _learned_step(
    projector: affinet.Projector, weights: dict[str, torch.Tensor], gradients: dict[str, torch.Tensor]
) -> Callable[[], None]:
    """Both passes of a step with inequalities, around a move of the weights along the gradient."""
    projector.project_(weights)
    learning = Learning(projector, weights, frozenset())

    def step() -> None:
        learning.prepare_(gradients, Added({}), learn=True)
        weights["W"].sub_(gradients["W"], alpha=1e-5)
        learning.land_(weights, None)

    return step


def exponents(rows: Iterable[GrowthRow]) -> dict[str, tuple[float, float]]:
    """Rules → exponents of planning and step: slopes of least squares in log-log over the sizes from FITTED on."""
    found: dict[str, tuple[float, float]] = {}
    rows = list(rows)
    for kind in dict.fromkeys(row.rules for row in rows):
        fitted = [row for row in rows if row.rules == kind and row.entries >= FITTED * 0.9]
        if len(fitted) < 2:
            continue
        sizes = np.log([row.entries for row in fitted])
        found[kind] = (
            float(np.polyfit(sizes, np.log([row.planning for row in fitted]), 1)[0]),
            float(np.polyfit(sizes, np.log([row.step for row in fitted]), 1)[0]),
        )
    return found


def plot(rows: Iterable[GrowthRow], path: Path) -> None:
    """Draw both, log-log, with the exponents in the legend and a line of slope one."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows, slopes = list(rows), exponents(rows)
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharex=True, layout="constrained")
    for axis, place, title in zip(axes, ("planning", "step"), ("planning", "both passes of a step"), strict=True):
        for kind in dict.fromkeys(row.rules for row in rows):
            points = [(row.entries, getattr(row, place)) for row in rows if row.rules == kind]
            slope = f", exponent {slopes[kind][place == 'step']:.2f}" if kind in slopes else ""
            axis.loglog(*zip(*points, strict=True), marker="o", label=kind + slope)
        low = min(getattr(row, place) for row in rows)
        axis.loglog([1e5, 1e7], [low * 2, low * 200], color="0.7", linestyle="--", label="linear")
        axis.set(title=title, xlabel="entries", ylabel="seconds")
        axis.legend(fontsize="small")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=100)
    plt.close(figure)
