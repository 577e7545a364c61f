"""Take the steps of `trajectory` in Keras, in float64, and print where they end as JSON."""

from __future__ import annotations

import json
from typing import Any

import keras

import affinet
import affinet.keras
from tests.integrations.keras_bare import Bare, enable_float64, tensors, train
from tests.integrations.trajectory import KERAS_OPTIONS, RULES, STEPS, drawn


def main() -> None:
    enable_float64()
    keras.config.set_floatx("float64")  # learning rates are numbers of this dtype
    start, targets = drawn()
    wanted = tensors(targets)
    ends: dict[str, Any] = {}
    for kind, options in KERAS_OPTIONS.items():
        for name, rules in RULES.items():
            model = Bare(start)
            named = {"beta_1": options["betas"][0], "beta_2": options["betas"][1], "epsilon": options["eps"]}
            inner = getattr(keras.optimizers, kind)(options["lr"], weight_decay=options["weight_decay"], **named)
            optimizer = affinet.keras.project(model, inner, rules(affinet.keras.weights(model)))
            train(model, optimizer, lambda w, _: {n: w[n] - wanted[n] for n in w}, STEPS)
            ends[f"{kind} {name}"] = {key: array.tolist() for key, array in model.arrays().items()}
    print(json.dumps(ends))  # noqa: T201


if __name__ == "__main__":
    main()
