"""Random rules that contradict each other, and the dense oracle that decides which of them do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import sparse

import affinet
from affinet import families
from affinet.language.evaluation import evaluate
from affinet.system.rows import Rows
from affinet.system.system import System

Draw = np.random.Generator
Sides = tuple[affinet.Expression, float]


@dataclass(frozen=True)
class Drawn:
    """Weights, a point at which the rules hold that hold together, and whether numbers are whole."""

    w: affinet.Weights
    point: dict[str, np.ndarray]
    whole: bool

    def entry(self, draw: Draw) -> affinet.Expression:
        flat = self.w[str(draw.choice(sorted(self.point)))].flatten()
        return flat[int(draw.integers(flat.size))]

    def number(self, draw: Draw) -> float:
        size = float(draw.integers(1, 4)) if self.whole else float(draw.uniform(0.3, 3.0))
        return size * float(draw.choice([-1, 1]))


def contradictory(seed: int) -> list[affinet.Constraint]:
    """Rules of every kind, some redundant, some badly scaled, of which one to three contradict the others."""
    draw = np.random.default_rng(seed)
    shapes = {"a": (int(draw.integers(2, 5)), int(draw.integers(2, 5))), "b": (int(draw.integers(3, 6)),), "c": (3, 3)}
    whole = bool(draw.integers(2))
    point = {name: draw.integers(-4, 5, shape).astype(float) for name, shape in shapes.items()}
    if not whole:
        point = {name: value + draw.uniform(-0.5, 0.5, value.shape) for name, value in point.items()}
    drawn = Drawn(affinet.weights(shapes), point, whole)
    # A system of few kinds has longer contradictions: ties and fixed entries among all kinds make most of them short.
    kinds = [KINDS[k] for k in draw.permutation(len(KINDS))[: draw.integers(1, len(KINDS))]]
    lefts: list[affinet.Expression] = []
    rules: list[affinet.Constraint] = []
    for _ in range(int(draw.integers(3, 11))):
        left = kinds[draw.integers(len(kinds))](drawn, draw)
        lefts.append(left)
        rules.append(said(left, evaluate(left, point), draw))
        if draw.integers(4) == 0:
            rules.append(said(combined(drawn, lefts, draw), None, draw, point))
    for _ in range(int(draw.choice([1, 1, 2, 3]))):
        left = combined(drawn, lefts, draw) if draw.integers(5) else lefts[draw.integers(len(lefts))]
        value = np.asarray(evaluate(left, point))
        gap = np.where(draw.random(value.shape) < 0.5, 0.0, drawn.number(draw))
        rules.append(said(left, value + (gap if gap.any() else drawn.number(draw)), draw))
    order = draw.permutation(len(rules))
    return [rules[k].named(f"rule {k}") for k in order]


def said(
    left: affinet.Expression, value: object, draw: Draw, point: dict[str, np.ndarray] | None = None
) -> affinet.Constraint:
    """The rule, in one of five times times some power of ten.

    What is left of numbers that cancel is rounding, and is said as zero: as a right-hand side it would be exact.
    """
    right = np.asarray(evaluate(left, point) if point is not None else value, float)
    right = np.where(np.abs(right) < 1e-12, 0.0, right)
    scale = 10.0 ** int(draw.integers(-8, 9)) if draw.integers(5) == 0 else 1.0
    return scale * left == scale * right


def combined(drawn: Drawn, lefts: list[affinet.Expression], draw: Draw) -> affinet.Expression:
    """Some equations of some rules, times numbers, added up."""
    total = drawn.number(draw) * some_equation(lefts, draw)
    for _ in range(int(draw.integers(0, 8))):
        total = total + drawn.number(draw) * some_equation(lefts, draw)
    return total


def some_equation(lefts: list[affinet.Expression], draw: Draw) -> affinet.Expression:
    flat = lefts[draw.integers(len(lefts))].flatten()
    return flat[int(draw.integers(flat.size))]


def _tie(drawn: Drawn, draw: Draw) -> affinet.Expression:
    equal = draw.integers(2)
    factors = (1.0, 1.0) if equal else (drawn.number(draw), drawn.number(draw))
    return factors[0] * drawn.entry(draw) - factors[1] * drawn.entry(draw)


def _chain(drawn: Drawn, draw: Draw) -> affinet.Expression:
    flat = drawn.w[str(draw.choice(["a", "b", "c"]))].flatten()
    return flat - flat.roll(1) if draw.integers(2) else flat.diff()


def _fixed(drawn: Drawn, draw: Draw) -> affinet.Expression:
    return drawn.entry(draw) * drawn.number(draw)


def _slice_fixed(drawn: Drawn, draw: Draw) -> affinet.Expression:
    return drawn.w["a"][int(draw.integers(2))]


def _slices_tied(drawn: Drawn, draw: Draw) -> affinet.Expression:
    c = drawn.w["c"]
    return (c - c.T, c + c.T, c[0] - c[2], c[:, 1] - 2 * c[0], c[1] - drawn.w["b"][:3])[draw.integers(5)]


def _sums(drawn: Drawn, draw: Draw) -> affinet.Expression:
    w = drawn.w[str(draw.choice(["a", "c"]))]
    return (w.sum(dim=0), w.sum(dim=1), w.sum(), w.mean(dim=0), w[1:].sum(dim=1))[draw.integers(5)]


def _linear(drawn: Drawn, draw: Draw) -> affinet.Expression:
    """`A w`, dense or sparse, of which some rows are combinations of others."""
    listed = [drawn.w[name] for name in ("a", "b", "c")[: draw.integers(1, 4)]]
    entries, rows = sum(w.size for w in listed), int(draw.integers(2, 6))
    matrix = draw.integers(-3, 4, (rows, entries)) if drawn.whole else draw.standard_normal((rows, entries))
    matrix = matrix * (draw.random(matrix.shape) < draw.choice([0.2, 1.0]))
    if draw.integers(2):
        matrix = np.concatenate([matrix, matrix[:1] - 2 * matrix[-1:]])
    return families.linear(listed, sparse.csr_array(matrix) if draw.integers(2) else matrix).expression


KINDS: tuple[Callable[[Drawn, Draw], affinet.Expression], ...] = (
    *(_tie, _tie, _chain, _fixed, _fixed, _slice_fixed, _slices_tied, _slices_tied, _sums, _sums, _linear),
)


class Dense:
    """All equations of rules as dense rows of length one; decides any of them by least squares."""

    def __init__(self, rules: list[affinet.Constraint]) -> None:
        system = System.of(rules)
        self.rows: Rows = system.rows(range(len(rules)))
        self.names = [rule.name for rule in system.rules]
        self.matrix = self.rows.matrix(system.layout.size).toarray()
        norms = np.linalg.norm(self.matrix, axis=1)
        self.norms = np.where(norms > 0, norms, 1.0)
        self.even, self.rhs = self.matrix / self.norms[:, None], self.rows.rhs / self.norms

    def of_rules(self, names: tuple[str, ...]) -> np.ndarray:
        return np.flatnonzero(np.isin(self.rows.rule, [self.names.index(name) for name in names]))

    def of_equations(self, equations: tuple[tuple[str, int], ...]) -> np.ndarray:
        owners = zip(self.rows.rule, self.rows.index, strict=True)
        places = {(self.names[rule], int(index)): k for k, (rule, index) in enumerate(owners)}
        return np.array([places[equation] for equation in equations])

    def holds(self, chosen: np.ndarray) -> bool:
        if not len(chosen):
            return True
        even, rhs = self.even[chosen], self.rhs[chosen]
        gap = even @ np.linalg.lstsq(even, rhs, rcond=1e-11)[0] - rhs
        return float(np.abs(gap).max()) < 1e-8 * max(1.0, float(np.abs(rhs).max()))
