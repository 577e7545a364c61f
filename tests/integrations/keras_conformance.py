"""Run the conformance suite on the laws of a Keras backend, and print the shares of bounds as JSON.

`python -m tests.integrations.keras_conformance float32`; the cases named `TRAINED` are trained by Adam of Keras, too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

import affinet
import affinet.keras
import affinet.testing
from affinet.adapters.keras_steps import Sandwich, SetState
from affinet.testing import Case
from tests.integrations.keras_bare import BACKEND, Bare, compiled, enable_float64, numpy_of, tensors, train

Arrays = Mapping[str, np.ndarray]
STEPS = 1200
TRAINED = ("sums of rows", "tied weights", "irregular equations", "bounds", "simplex", "order", "unit rows")


class Keras:
    """What an optimizer does around its step, as functions of tensors."""

    def __init__(self, plan: affinet.Plan, weights: Arrays) -> None:
        self.sandwich = Sandwich(plan)
        states = self.sandwich.likes(tensors(weights))
        self.states = tuple(self.sandwich.library.map(_zeros, state) for state in states)

    def project(self, weights: Arrays) -> Arrays:
        return numpy_of(compiled(self.sandwich.placed)(tensors(weights)))

    def tangent(self, vectors: Arrays, at: Arrays) -> Arrays:
        """The first step from `at`: directions are descended, so that it is the tangent of the opposite vectors."""

        def opposite(gradients: Any, weights: Any, states: tuple[SetState, ...]) -> Any:
            return self.sandwich.prepared(gradients, weights, states)[0]

        negative = tensors({name: -np.asarray(v) for name, v in vectors.items()})
        return {name: -v for name, v in numpy_of(compiled(opposite)(negative, tensors(at), self.states)).items()}


class KerasUnderAdam(Keras):
    """The same, and training by Adam of Keras with a rate that falls to zero."""

    def minimize(self, case: Case, weights: Arrays) -> Arrays:
        model = Bare(weights)
        adam = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.05, STEPS))
        optimizer = affinet.keras.project(model, adam, self.sandwich.plan)
        curvature, target = tensors(case.quadratic.curvature), tensors(case.quadratic.target)
        train(model, optimizer, lambda w, _: {n: curvature[n] * (w[n] - target[n]) for n in w}, STEPS)
        return model.arrays()


def _zeros(like: Any) -> Any:
    return keras.ops.zeros(like.shape, keras.backend.standardize_dtype(like.dtype))


def rows_lost(dtype: str) -> float:
    """What a sum of 4,099 rows misses, in roundoffs: of columns that hold a one and small numbers.

    A sum of one row after the other would drop every small number after the one.
    """
    unit = float(np.finfo(dtype).eps) / 2.0
    x = np.full((4099, 1, 3), unit / 2.0, dtype)
    x[0] = 1.0
    total = compiled(lambda x: Sandwich(affinet.plan([])).library.xp.sum(x, (0, 1)))(keras.ops.convert_to_tensor(x))
    return float(np.abs(np.array(total, np.float64) - (1.0 + 4098 * unit / 2.0)).max() / unit)


def main(dtype: str) -> None:
    enable_float64()
    measured: dict[str, Any] = {}
    for case in affinet.testing.cases():
        bind = KerasUnderAdam if dtype == "float64" and case.name in TRAINED else Keras
        try:
            measured[str(case)] = dict(affinet.testing.check(bind, case, dtype).shares)
        except affinet.ConformanceError as error:
            measured[str(case)] = str(error)
    lost = rows_lost(dtype) if BACKEND == "tensorflow" else None
    print(json.dumps({"cases": measured, "rows lost": lost, "torch": "torch" in sys.modules or BACKEND == "torch"}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
