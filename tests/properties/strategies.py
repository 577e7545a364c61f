"""Random torch models for Hypothesis, and random rules over their weights that hold together by construction."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from torch import nn

import affinet
from affinet import families
from affinet.language.evaluation import evaluate
from affinet.system.system import System
from tests.oracle import Oracle, oracle

SCALES = (1.0, 1.0, 1e-8, -3.0, 1e8)
"""What whole rules are multiplied by."""


class Odd(nn.Module):
    """Parameters of shapes that layers do not have: of no axis, of no entry."""

    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.7))
        self.nothing = nn.Parameter(torch.zeros(0, 3))


def _layers() -> dict[str, Callable[[], nn.Module]]:
    return {
        "linear": lambda: nn.Linear(4, 3),
        "square": lambda: nn.Linear(3, 3, bias=False),
        "convolution": lambda: nn.Conv2d(2, 2, 3),
        "embedding": lambda: nn.Embedding(5, 3),
        "norm": lambda: nn.LayerNorm(4),
        "odd": Odd,
    }


@st.composite
def models(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float64,)) -> nn.Module:
    """One to four layers, perhaps one of them used twice, perhaps one frozen, each of one of the dtypes."""
    made = _layers()
    chosen = draw(st.lists(st.sampled_from(sorted(made)), min_size=1, max_size=4))
    numbers = torch.Generator().manual_seed(draw(st.integers(0, 100)))
    model = nn.Module()
    for k, name in enumerate(chosen):
        layer = made[name]().to(draw(st.sampled_from(dtypes)))
        for parameter in layer.parameters():
            parameter.data = torch.randn(parameter.shape, generator=numbers, dtype=torch.float64).to(parameter.dtype)
        model.add_module(f"l{k}", layer)
    if draw(st.booleans()):
        model.add_module("again", model.l0)  # the same Parameters under second names
    if len(chosen) > 1 and draw(st.integers(0, 3)) == 0:
        for parameter in model.l1.parameters():
            parameter.requires_grad_(False)
    return model


@dataclass(frozen=True)
class Said:
    """Rules, the model that they are about, and the point they were made to hold at."""

    model: nn.Module
    rules: tuple[affinet.Constraint, ...]
    point: dict[str, np.ndarray]

    @property
    def oracle(self) -> Oracle:
        return oracle(System.of(list(self.rules)))


@st.composite
def said(draw: st.DrawFn, dtypes: tuple[torch.dtype, ...] = (torch.float64,)) -> Said:
    """Up to five rules; some said twice, scaled, as text, a thousand times, or implied by two others."""
    model = draw(models(dtypes))
    w = affinet.weights(model)
    numbers = np.random.default_rng(draw(st.integers(0, 50)))
    parameters = dict(model.named_parameters())
    point = {name: numbers.integers(-3, 4, tuple(p.shape)).astype(float) for name, p in parameters.items()}
    for name, p in parameters.items():
        if not p.requires_grad:
            point[name] = p.detach().double().numpy().copy()
    rules: list[affinet.Constraint] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(KINDS))
        rules += KINDS_OF[kind](draw, w, sorted(parameters), point, numbers)
    if len(rules) > 1 and draw(st.booleans()):
        rules.append(_sum_of_two(rules[0], rules[-1]))
    return Said(model, tuple(draw(st.permutations(rules))), point)


Maker = Callable[[st.DrawFn, affinet.Weights, list[str], dict[str, np.ndarray], np.random.Generator], list[Any]]


def _view(draw: st.DrawFn, w: Any, names: list[str]) -> tuple[affinet.Expression, str]:
    """A parameter or a piece of it, perhaps turned, and the same as text."""
    name = draw(st.sampled_from(names))
    keys: list[Any] = []
    for size in w[name].shape:
        first = draw(st.integers(0, max(0, size - 1)))
        pieces = [slice(None), slice(None), slice(first, None), first] if size else [slice(None)]
        keys.append(draw(st.sampled_from(pieces)))
    said = ", ".join(str(key) if isinstance(key, int) else f"{key.start or ''}:" for key in keys)
    view, text = (w[name][tuple(keys)], f"{name}[{said}]") if keys else (w[name], name)
    return (view.T, f"{text}.T") if len(view.shape) == 2 and draw(st.booleans()) else (view, text)


def _fixed(draw: st.DrawFn, w: Any, names: list[str], point: dict[str, np.ndarray], _: Any) -> list[Any]:
    view, _text = _view(draw, w, names)
    factor = draw(st.sampled_from(SCALES))
    return [factor * view == factor * value_of(view, point)]


def _summed(draw: st.DrawFn, w: Any, names: list[str], point: dict[str, np.ndarray], numbers: Any) -> list[Any]:
    view, _text = _view(draw, w, names)
    along = view.shape and draw(st.booleans())
    total = view.sum(dim=draw(st.integers(0, len(view.shape) - 1))) if along else view.sum()
    factor = draw(st.sampled_from(SCALES))
    return [factor * total == factor * value_of(total, point)]


def _written(draw: st.DrawFn, w: Any, names: list[str], point: dict[str, np.ndarray], _: Any) -> list[Any]:
    view, text = _view(draw, w, names)
    return [affinet.parse(f"{text}.sum() == {float(value_of(view, point).sum())!r}", w)]


def _tied(draw: st.DrawFn, w: Any, names: list[str], point: dict[str, np.ndarray], _: Any) -> list[Any]:
    """Two entries in a ratio; where the point says otherwise, with a shift."""
    one, other = (_entry(draw, w, names) for _ in range(2))
    if one is None or other is None:
        return []
    ratio = draw(st.sampled_from([1.0, -1.0, 2.0, -0.5]))
    rule = one == ratio * other + float(value_of(one, point) - ratio * value_of(other, point))
    return [rule] * draw(st.sampled_from([1, 1, 2, 1_000]))


def _mixed(draw: st.DrawFn, w: Any, names: list[str], point: dict[str, np.ndarray], numbers: Any) -> list[Any]:
    """Integer combinations of all entries of one or two parameters."""
    chosen = sorted({draw(st.sampled_from(names)) for _ in range(2)})
    size = sum(w[name].size for name in chosen)
    matrix = numbers.integers(-2, 3, (draw(st.integers(1, 3)), size)).astype(float)
    flat = np.concatenate([point[name].ravel() for name in chosen])
    return [families.linear([w[name] for name in chosen], matrix, matrix @ flat)] if size else []


def _family(draw: st.DrawFn, w: Any, names: list[str], point: dict[str, np.ndarray], numbers: Any) -> list[Any]:
    """A pattern of shared entries: those that are equal at the point."""
    name = draw(st.sampled_from(names))
    value = point[name]
    if not value.size or not w[name].shape:
        return []
    marks = np.unique(value, return_inverse=True)[1].reshape(value.shape)
    return [families.share(w[name], marks)]


def _masked(draw: st.DrawFn, w: Any, names: list[str], point: dict[str, np.ndarray], numbers: Any) -> list[Any]:
    """Entries of a weight times a mask, one after the other or two tied: half of them are times zero."""
    subject = w[draw(st.sampled_from(names))]
    if not subject.size:
        return []
    masked = subject * numbers.choice([0.0, 1.0, -2.0], size=subject.shape, p=[0.5, 0.3, 0.2])
    places = [tuple(numbers.integers(0, n) for n in subject.shape) for _ in range(draw(st.integers(1, 4)))]
    entries = [masked[place] for place in places]
    tied = draw(st.booleans())
    others = [*entries[1:], subject[places[0]]] if tied else [0.0] * len(entries)
    gaps = [one - other for one, other in zip(entries, others, strict=True)]
    return [gap == value_of(gap, point) for gap in gaps]


KINDS_OF: dict[str, Maker] = {
    "fixed": _fixed,
    "summed": _summed,
    "written": _written,
    "tied": _tied,
    "mixed": _mixed,
    "family": _family,
    "masked": _masked,
}
KINDS = sorted(KINDS_OF)


def _entry(draw: st.DrawFn, w: Any, names: list[str]) -> affinet.Expression | None:
    subject = w[draw(st.sampled_from(names))]
    if not subject.size:
        return None
    return subject[tuple(draw(st.integers(0, n - 1)) for n in subject.shape)] if subject.shape else subject


def _sum_of_two(one: affinet.Constraint, other: affinet.Constraint) -> affinet.Constraint:
    """What two rules say together, an equation that follows from them; each in units of its own.

    A rule of 1e8 and one of 1 in one equation say the second to eight digits only, and of redundant equations that one
    may be kept.
    """
    first, second = (rule.expression.sum() / _unit(rule) for rule in (one, other))
    return first + 2 * second == 0


def _unit(rule: affinet.Constraint) -> float:
    return max([1e-8, *(abs(term.scalar) for term in rule.expression.terms)])


def value_of(expression: affinet.Expression, point: dict[str, np.ndarray]) -> np.ndarray:
    """What an expression is at a point."""
    return np.asarray(evaluate(expression, point))


def examples(few: int) -> settings:
    """So many in CI, and twenty times as many under HYPOTHESIS_PROFILE=explore, where a failure is made smaller too."""
    explore = os.environ.get("HYPOTHESIS_PROFILE") == "explore"
    phases = set(Phase) if explore else set(Phase) - {Phase.shrink, Phase.explain}
    return settings(max_examples=few * (20 if explore else 1), phases=tuple(phases))
