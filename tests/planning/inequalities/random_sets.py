"""Random rules about small weights that have a point in common: equations, ties, bounds, sums and dense rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import affinet
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.weights import Weights

SHAPES = {"a": (3, 4), "b": (5,), "c": (2, 3)}
Rule = Constraint


class RandomRules:
    """A generator of rules that hold at one hidden point, some inequalities of them with equality there."""

    def __init__(self, seed: int, scale: float = 1.0) -> None:
        self.random = np.random.default_rng(seed)
        self.weights: Weights = affinet.weights({name: np.zeros(shape) for name, shape in SHAPES.items()})
        self.point = {name: scale * np.round(self.random.normal(size=shape), 1) for name, shape in SHAPES.items()}

    def rules(self) -> list[Rule]:
        """Two to seven rules."""
        kinds: list[Callable[[], list[Rule]]] = [
            self._bounds, self._bounds, self._sums, self._dense, self._tie, self._fix, self._between, self._order,
        ]  # fmt: skip
        count = self.random.integers(2, 8)
        chosen = [kinds[k] for k in self.random.integers(len(kinds), size=count)]
        rules = [rule for kind in chosen for rule in kind()]
        return rules if any(rule.sense != "==" for rule in rules) else rules + self._bounds()

    def _expression(self) -> tuple[Expression, np.ndarray]:
        name = str(self.random.choice(list(SHAPES)))
        return self.weights[name], self.point[name]

    def _slack(self, shape: tuple[int, ...]) -> np.ndarray:
        """Room between the hidden point and the bound: zero for a third of the rows."""
        return np.where(self.random.random(shape) < 0.3, 0.0, np.abs(self.random.normal(size=shape)))

    def _bounds(self) -> list[Rule]:
        w, value = self._expression()
        if self.random.random() < 0.5:
            return [w >= value - self._slack(value.shape)]
        return [w <= value + self._slack(value.shape)]

    def _between(self) -> list[Rule]:
        w, value = self._expression()
        return list(
            _as_list(affinet.between(value - self._slack(value.shape) - 0.1, w, value + self._slack(value.shape)))
        )

    def _sums(self) -> list[Rule]:
        name = str(self.random.choice(["a", "c"]))
        dim = int(self.random.integers(2))
        left, total = self.weights[name].sum(dim=dim), self.point[name].sum(axis=dim)
        kind = self.random.integers(3)
        if kind == 0:
            return [left == total]
        return [left <= total + self._slack(total.shape) if kind == 1 else left >= total - self._slack(total.shape)]

    def _dense(self) -> list[Rule]:
        count = int(self.random.integers(1, 4))
        left, total = 0, 0
        for name in self.random.choice(list(SHAPES), size=2, replace=False):
            size = int(np.prod(SHAPES[name]))
            matrix = self.random.normal(size=(count, size)) * (self.random.random((count, size)) < 0.7)
            matrix[:, 0] = 1.0
            left = matrix @ self.weights[name].reshape(-1) + left
            total = matrix @ self.point[name].ravel() + total
        if self.random.random() < 0.3:
            return [left == total]
        return [left <= total + self._slack(total.shape)]

    def _tie(self) -> list[Rule]:
        a, b, factor = self.weights["a"][0, :3], self.weights["c"][1], self.random.choice([1.0, -1.0, 2.0])
        shift = self.point["a"][0, :3] - factor * self.point["c"][1]
        return [a == factor * b + shift]

    def _fix(self) -> list[Rule]:
        w, value = self._expression()
        index = tuple(int(self.random.integers(n)) for n in value.shape)
        return [w[index] == float(value[index])]

    def _order(self) -> list[Rule]:
        w, value = self.weights["b"], self.point["b"]
        return [w.diff() >= np.diff(value) - self._slack((len(value) - 1,))]


def _as_list(rules: Rule | list[Rule]) -> list[Rule]:
    return [rules] if isinstance(rules, Constraint) else rules
