"""Random rules that hold together by construction, at a point that is known: none is to be called contradictory.

`python -m tests.properties.consistent 10000` makes so many, an equal share of each family, and says what was refused;
`python -m tests.properties.consistent 1000 beyond` those of which the tolerance cannot promise it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import affinet
from affinet import families

SCALINGS = ("rows", "entries")
KINDS = (np.float64, np.float32)


@dataclass(frozen=True)
class Family:
    """What is scaled, by 10 to the power of −spread to spread, and the dtype of the constants."""

    scaling: str
    spread: float
    kind: type[np.floating[Any]]

    def __str__(self) -> str:
        return f"{np.dtype(self.kind)}-{self.scaling}-{self.spread:g}"


PROMISED = (
    *(Family("rows", spread, kind) for spread in (0.0, 8.0) for kind in KINDS),
    *(Family("entries", 2.0, kind) for kind in KINDS),
)
"""Coefficients of one equation that differ by 1e8 leave singular values of 1e-8, and what is left of two such equations
ones of 1e-16: ranks cannot be told then. Those that differ by 1e4 are far from it."""
BEYOND = tuple(Family("entries", 8.0, kind) for kind in KINDS)


@dataclass(frozen=True)
class Consistent:
    """Rules over weights of given shapes; `rank` is that of the equations before anything was scaled or rounded."""

    rules: tuple[affinet.Constraint, ...]
    shapes: dict[str, tuple[int, ...]]
    rank: int


def consistent(seed: int, family: Family) -> Consistent:
    """Up to 24 equations with integer coefficients over up to 40 entries, many of them redundant.

    Each equation, or each entry's coefficients (and the entry at the point the other way), is multiplied by a scale of
    its own. Coefficients and right-hand sides are then rounded to the family's dtype, each once.
    """
    scaling, spread, kind = family.scaling, family.spread, family.kind
    draw = np.random.default_rng([seed, SCALINGS.index(scaling), KINDS.index(kind), int(spread)])
    shapes = {name: (int(draw.integers(1, 5)), int(draw.integers(1, 6))) for name in ("a", "b")}
    size = sum(n * m for n, m in shapes.values())
    matrix = np.vstack([*_equations(draw, shapes, size)])
    point = draw.integers(-4, 5, size).astype(float)
    rank, rhs = int(np.linalg.matrix_rank(matrix)), matrix @ point
    scales = 10.0 ** draw.uniform(-spread, spread, len(matrix) if scaling == "rows" else size)
    if scaling == "rows":
        matrix, rhs = matrix * scales[:, None], rhs * scales
    else:
        matrix = matrix * scales
    order = draw.permutation(len(matrix))
    matrix, rhs = matrix[order].astype(kind), rhs[order].astype(kind)
    return Consistent(tuple(_said(draw, shapes, matrix, rhs)), shapes, rank)


def _equations(draw: np.random.Generator, shapes: dict[str, tuple[int, ...]], size: int) -> Iterator[np.ndarray]:
    """Ties, sums, small integer combinations, and combinations of these that follow from them."""
    rows = np.zeros((0, size))
    for _ in range(int(draw.integers(1, 13))):
        row = np.zeros(size)
        match draw.integers(0, 4):
            case 0:
                row[draw.choice(size, 2, replace=size < 2)] = 1.0, draw.choice([-1.0, 1.0, 2.0, -3.0])
            case 1:
                n, m = shapes["a"]
                row[: n * m].reshape(n, m)[draw.integers(0, n)] = 1.0
            case 2:
                n, m = shapes["a"]
                row[: n * m].reshape(n, m)[:, draw.integers(0, m)] = 1.0
            case _:
                some = draw.choice(size, min(size, int(draw.integers(1, 7))), replace=False)
                row[some] = draw.integers(-5, 6, len(some))
        rows = np.vstack([rows, row])
    yield rows
    yield draw.integers(-2, 3, (int(draw.integers(0, 13)), len(rows))) @ rows


def _said(
    draw: np.random.Generator, shapes: dict[str, tuple[int, ...]], matrix: np.ndarray, rhs: np.ndarray
) -> Iterator[affinet.Constraint]:
    """Some equations as one matrix, the others each as a rule of its own."""
    w: Any = affinet.weights(shapes)
    some = int(draw.integers(0, len(matrix) + 1))
    if some:
        yield families.linear([w.a, w.b], matrix[:some], rhs[:some])
    n, m = shapes["a"]
    for row, value in zip(matrix[some:], rhs[some:], strict=True):
        first, second = row[: n * m].reshape(n, m), row[n * m :].reshape(shapes["b"])
        yield (first * w.a).sum() + (second * w.b).sum() == value


def refused(made: Consistent) -> str:
    """Why the rules were called contradictory; empty where they were planned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", affinet.NothingToTrainWarning)
        try:
            affinet.plan(made.rules)
        except affinet.InfeasibleError as error:
            return str(error)
    return ""


def main(count: int, families: tuple[Family, ...]) -> None:
    for family in families:
        why = {seed: refused(consistent(seed, family)) for seed in range(-(-count // len(families)))}
        wrong = {seed: reason for seed, reason in why.items() if reason}
        first = next((f"; seed {seed}: {reason}" for seed, reason in wrong.items()), "")
        print(f"{family}: {len(why)} systems, {len(wrong)} refused{first}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), BEYOND if sys.argv[2:] else PROMISED)
