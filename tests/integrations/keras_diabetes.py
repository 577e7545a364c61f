"""Train least squares on diabetes in Keras, and save where each optimizer ends: `python -m … FOLDER OPTIMIZER …`.

Reads `hessian` and `linear` from problem.npz of the folder, and writes ends.npz. One training has three weights on the
same loss: one under rules, one without any, and one with a `constraint` of Keras that projects onto the same rules
after each step. All optimizers treat entries apart from each other, so that they do not notice.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import affinet
import affinet.keras
from affinet.adapters.keras_steps import Sandwich
from tests.integrations.diabetes_rules import LAST, RATES, SHAPE, START, STEPS, rules_of
from tests.integrations.keras_bare import Bare, enable_float64, tensors, train


def cosine(rate: float) -> Any:
    return keras.optimizers.schedules.CosineDecay(rate, STEPS)


def falling(rate: float) -> Any:
    return keras.optimizers.schedules.ExponentialDecay(rate, STEPS, LAST)


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "SGD": lambda: keras.optimizers.SGD(RATES["SGD"], momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(cosine(RATES["Adam"])),
    "AdamW": lambda: keras.optimizers.AdamW(cosine(RATES["AdamW"]), weight_decay=0.0),
    "Nadam": lambda: keras.optimizers.Nadam(cosine(RATES["Nadam"])),
    "RMSprop": lambda: keras.optimizers.RMSprop(falling(RATES["RMSprop"])),
    "Lion": lambda: keras.optimizers.Lion(falling(RATES["Lion"]), beta_2=0.99),
}


def trained(make: Callable[[], Any], hessian: np.ndarray, linear: np.ndarray) -> dict[str, np.ndarray]:
    """Weight → its numbers at the end."""
    model = Bare({"ruled": START, "free": START})
    plan = affinet.plan(rules_of(affinet.keras.weights(model)["ruled"]))
    sandwich = Sandwich(plan)

    def onto_rules(w: Any) -> Any:
        return sandwich.placed({"ruled": keras.ops.convert_to_tensor(w)})["ruled"]

    model.add_weight(SHAPE, name="projected", constraint=onto_rules)
    model.named["projected"].assign(plan.projector({"ruled": START}).project({"ruled": START})["ruled"])
    optimizer = affinet.keras.project(model, make(), plan)
    loss = tensors({"hessian": hessian, "linear": linear})

    def gradient(w: dict[str, Any], _: Any) -> dict[str, Any]:
        return {name: keras.ops.matmul(loss["hessian"], w[name]) - loss["linear"] for name in w}

    train(model, optimizer, gradient, STEPS)
    return model.arrays()


def main(folder: Path, names: list[str]) -> None:
    enable_float64()
    keras.config.set_floatx("float64")
    with np.load(folder / "problem.npz") as problem:
        hessian, linear = problem["hessian"], problem["linear"]
    ends = {
        f"{name} {weight}": array
        for name in names
        for weight, array in trained(OPTIMIZERS[name], hessian, linear).items()
    }
    np.savez(folder / "ends.npz", **ends)
    print(len(ends))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
