"""Random rules for Hypothesis over three small weights: slices, flips, transposes, sums, scalings, matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

import affinet
from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.entry_sets import View, positions_of
from affinet.blocks.fixed import Fixed
from affinet.blocks.kinds import AnyBlock
from affinet.blocks.mirror import Mirror
from affinet.blocks.offsets import Nest
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties
from affinet.language.evaluation import evaluate
from affinet.plans.plan import Plan
from affinet.system.system import System
from tests.oracle import Oracle, oracle

SHAPES = {"a": (4, 6), "b": (6, 4), "c": (5,)}
SCALES = st.sampled_from([1, 1, 1, -1, 2, -3])


@dataclass(frozen=True)
class Drawn:
    """Rules that hold at `point` unless a contradiction was put among them."""

    rules: tuple[affinet.Constraint, ...]
    point: dict[str, np.ndarray]


@st.composite
def slices(draw: st.DrawFn, length: int) -> slice:
    step = draw(st.sampled_from([1, 1, 1, 2, 3, -1, -2]))
    count = draw(st.integers(1, (length - 1) // abs(step) + 1))
    reach = abs(step) * (count - 1)
    low = draw(st.integers(0, length - 1 - reach))
    if step > 0:
        return slice(low, low + reach + 1, step)
    return slice(low + reach, low - 1 if low else None, step)


@st.composite
def views(draw: st.DrawFn, w: affinet.Weights) -> affinet.Expression:
    """A box of one weight, perhaps an element, turned or flipped."""
    subject = w[draw(st.sampled_from(sorted(SHAPES)))]
    whole = draw(st.booleans())
    key = tuple(slice(None) if whole else draw(slices(n) | st.integers(0, n - 1)) for n in subject.shape)
    view = subject[key]
    return view.T if len(view.shape) == 2 and draw(st.booleans()) else view


@st.composite
def sums(draw: st.DrawFn, w: affinet.Weights) -> affinet.Expression:
    """What a view adds up to along an axis, or a small matrix times it."""
    view = draw(views(w))
    if not view.shape:
        return view
    kind = draw(st.sampled_from(["all", "axis", "matrix", "diff"]))
    if kind == "all":
        return view.sum()
    if kind == "diff" and view.shape[0] > 1:
        return view.diff(dim=0)
    if kind == "matrix":
        rows = draw(st.integers(1, 2))
        numbers = draw(st.lists(st.integers(-2, 2), min_size=rows * view.shape[0], max_size=rows * view.shape[0]))
        return np.array(numbers, float).reshape(rows, -1) @ view
    return view.sum(dim=draw(st.integers(0, len(view.shape) - 1)))


@st.composite
def expressions(draw: st.DrawFn, w: affinet.Weights) -> affinet.Expression:
    first = draw(SCALES) * draw(views(w) | sums(w))
    if draw(st.booleans()):
        return first
    second = draw(SCALES) * draw(views(w) | sums(w))
    common = min(len(first.shape), len(second.shape))
    sizes = [min(n, m) for n, m in zip(first.shape[-common:], second.shape[-common:], strict=True)] if common else []
    tail = tuple(slice(0, n) for n in sizes)
    return first[(..., *tail)] + second[(..., *tail)]


@st.composite
def systems(draw: st.DrawFn, *, contradictions: bool = True) -> Drawn:
    w = affinet.weights(SHAPES)
    numbers = np.random.default_rng(draw(st.integers(0, 5)))
    point = {name: numbers.integers(-4, 5, shape).astype(float) for name, shape in SHAPES.items()}
    rules = []
    for _ in range(draw(st.integers(1, 5))):
        expression = draw(expressions(w))
        value = evaluate(expression, point)
        rules.append(expression == value)
        if draw(st.integers(0, 4)) == 0:
            rules.append(2 * expression == 2 * value)
    if contradictions and draw(st.integers(0, 3)) == 0:
        expression = draw(expressions(w))
        rules.append(expression == evaluate(expression, point) + 1)
    return Drawn(tuple(draw(st.permutations(rules))), point)


def feasible(dense: Oracle) -> bool:
    """Whether the oracle's least-squares point satisfies every equation."""
    gap = dense.matrix @ (dense.inverse @ dense.rhs) - dense.rhs
    return float(np.abs(gap).max(initial=0.0)) < 1e-9 * max(1.0, float(np.abs(dense.rhs).max(initial=0.0)))


def entries_of(block: AnyBlock) -> list[tuple[str, np.ndarray]]:
    """Parameter names and positions that a block writes."""
    match block:
        case Slices():
            cells = block.outer.table()[:, None] + block.inner.table()
            return [(block.parameter.name, (block.offset + cells).ravel())]
        case Commuting():
            return [(block.view.parameter.name, block.view.offset + Nest(block.view.dims).table())]
        case Mirror():
            places = np.arange(block.view.size)
            # An entry that equals itself is kept as it is, and may belong to another block.
            own = places[block.images(places) == places] if block.sign > 0 else places[:0]
            return _less([block.view], np.concatenate([block.without, own]))
        case Pairs():
            return _less([block.first, block.second], block.without)
        case Fixed():
            return [(block.parameter.name, positions_of(block.places))]
        case Ties() | Dense() | Sparse():
            return [(part.parameter.name, part.positions) for part in block.parts]
        case Bordered():
            loose = [(part.parameter.name, part.positions) for part in block.loose]
            return [*loose, *(piece for base in block.bases for piece in entries_of(base))]


def _less(views: list[View], without: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [(v.parameter.name, v.offset + np.delete(Nest(v.dims).table(), without)) for v in views]


def uses(plan: Plan) -> dict[str, np.ndarray]:
    """How many blocks write each entry."""
    counts = {p.name: np.zeros(p.size, np.int64) for p in plan.parameters}
    for block in plan.blocks:
        for name, positions in entries_of(block):
            np.add.at(counts[name], positions, 1)
    return counts


def oracle_of(rules: object) -> Oracle:
    return oracle(System.of(rules))
