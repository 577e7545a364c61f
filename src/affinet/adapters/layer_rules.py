"""Name the weights of a perceptron for rules, draw them, and write the rules of a network that is monotone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from affinet.language.calculus.terms import Floats
from affinet.language.constraint import Constraint
from affinet.language.expression import weight
from affinet.language.labels import labelled
from affinet.language.weights import Weights


@dataclass(frozen=True, eq=False)
class Layers:
    """The layers hidden1, hidden2, …, output of a perceptron; `features` and `outputs` name its inputs and outputs."""

    features: Sequence[str]
    hidden: tuple[int, ...]
    width: int
    outputs: Sequence[str] | None

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Layer → rows and columns of its weight."""
        sizes = [len(self.features), *self.hidden, self.width]
        names = [*(f"hidden{k}" for k in range(1, len(self.hidden) + 1)), "output"]
        return {name: (sizes[k + 1], sizes[k]) for k, name in enumerate(names)}

    @cached_property
    def weights(self) -> Weights:
        """The symbols that rules are written with; the weight of the layer that reads X has the names of features."""
        parameters = []
        for number, (layer, (rows, columns)) in enumerate(self.shapes.items()):
            outputs = self.outputs if layer == "output" else None
            parameters += [
                labelled(f"{layer}.weight", (rows, columns), outputs, self.features if number == 0 else None),
                labelled(f"{layer}.bias", (rows,), outputs),
            ]
        return Weights({each.name: weight(each) for each in parameters}, {}, {})

    def monotone_rules(self, directions: Mapping[int, int]) -> list[Constraint]:
        """Signs of the weights of these features, and weights of all later layers that are not negative.

        Law: with an activation that never falls, no output falls with a feature of direction 1, or rises with one of
        direction −1, whatever the other features are.
        """
        if not directions:
            return []
        entrance, *later = [self.weights[f"{layer}.weight"] for layer in self.shapes]
        signs = [
            (entrance[:, k] >= 0 if direction > 0 else entrance[:, k] <= 0).named(f"monotone in {self.features[k]}")
            for k, direction in directions.items()
        ]
        return [*signs, *((each >= 0).named(f"monotone: {each} >= 0") for each in later)]

    def drawn(self, random: np.random.RandomState, directions: Mapping[int, int], activation: str) -> dict[str, Floats]:
        """Weights as scikit-learn draws them (Glorot and Bengio 2010), with the signs of a monotone network."""
        weights: dict[str, Floats] = {}
        for layer, (rows, columns) in self.shapes.items():
            bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (rows + columns))
            matrix = np.ascontiguousarray(random.uniform(-bound, bound, (columns, rows)).T)  # in its order
            if directions and weights:
                matrix = np.abs(matrix)
            elif directions:
                for k, direction in directions.items():
                    matrix[:, k] = direction * np.abs(matrix[:, k])
            weights |= {f"{layer}.weight": matrix, f"{layer}.bias": random.uniform(-bound, bound, rows)}
        return weights
