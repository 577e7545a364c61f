"""Random nonlinear equations about small weights that hold at a hidden point: polynomials, functions and matrices."""

from __future__ import annotations

import numpy as np

import affinet
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression

SHAPES = {"a": (3, 4), "b": (5,), "c": (4, 4), "s": ()}


class RandomEquations:
    """A generator of rules; `point` satisfies all of them."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.weights = affinet.weights({name: np.zeros(shape) for name, shape in SHAPES.items()})
        self.point = {name: self.random.uniform(0.3, 1.5, shape) for name, shape in SHAPES.items()}

    def rules(self) -> list[Constraint]:
        """One to four rules, nonlinear and linear ones."""
        count = int(self.random.integers(1, 5))
        expressions = [self._expression() for _ in range(count)]
        scales = 10.0 ** self.random.uniform(-3, 3, count)
        return [
            scale * expression == scale * affinet_value(expression, self.point)
            for expression, scale in zip(expressions, scales, strict=True)
        ]

    def _expression(self) -> Expression:
        w, kind = self.weights, int(self.random.integers(12))
        choices = [
            lambda: (w.a**2).sum(dim=int(self.random.integers(2))),
            lambda: w.b[0] * w.b[1] + w.b[2] ** 3,
            lambda: (w.a @ w.c)[0] - w.b[:4],
            lambda: w.c.det(),
            lambda: w.c.inverse().sum(dim=0)[:2],
            lambda: (w.b.sin() * w.s).sum() + w.b.exp()[0],
            lambda: w.a.norm(dim=1),
            lambda: w.c[:2, :2].det() + w.s**2,
            lambda: (w.a.log() + w.a.tanh())[:, 0],
            lambda: 1.0 / w.b + w.b.sqrt(),
            lambda: w.b.cos() @ w.b,
            lambda: w.a.sum(dim=1) - w.s,
        ]
        return choices[kind]()


def affinet_value(expression: Expression, point: dict[str, np.ndarray]) -> np.ndarray:
    """The value of an expression."""
    from affinet.language.evaluation import evaluate

    return evaluate(expression, point)
