"""`python -m benchmarks.keras_steps`: a training step of Keras on TensorFlow with rules, over the step without them.

A multilayer perceptron 784-2048-2048-10 with Adam, batches of 128, in a compiled train step (`tf.function`): for every
layer, sums over the inputs of each output, or entries that are not negative. The sides take turns in one process; times
are medians of its CPU time. It runs where TensorFlow is installed, and imports no torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

TURNS, BATCH = 40, 128
TARGET = 1.3
RULES: dict[str, Callable[[Any], Any]] = {
    "row sums": lambda kernel: kernel.sum(dim=0) == 1.0,
    "bounds": lambda kernel: kernel >= 0.0,
}


def main() -> None:
    """Print the ratio to a step without rules, and the target."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    medians = measured()
    for name, seconds in medians.items():
        print(f"{name:<24} {seconds * 1e3:7.1f} ms")
    print(f"row sums / no rule       {medians['row sums'] / medians['no rule']:7.2f} × (target {TARGET} ×)")
    print(f"bounds / no rule         {medians['bounds'] / medians['no rule']:7.2f} ×")


def measured() -> dict[str, float]:
    """Seconds of CPU time of a step, by what is trained."""
    import keras
    import numpy as np

    import affinet.keras

    random = np.random.default_rng(0)
    x = random.normal(size=(BATCH, 784)).astype("float32")
    y = random.integers(0, 10, BATCH)
    steps: dict[str, Any] = {}
    for name in ("no rule", *RULES):
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(n, activation=a) for n, a in ((2048, "relu"), (2048, "relu"), (10, None))]
        model = keras.Sequential([keras.Input((784,)), *layers])
        optimizer: Any = keras.optimizers.Adam(1e-3)
        if name in RULES:
            w = affinet.keras.weights(model)
            rules = [RULES[name](w[f"{layer.name}/kernel"]) for layer in layers]
            optimizer = affinet.keras.project(model, optimizer, rules)
        model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        steps[name] = model
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(TURNS + 3):
        for name, model in steps.items():
            began = time.process_time()
            model.train_on_batch(x, y)
            if turn >= 3:
                taken[name].append(time.process_time() - began)
    return {name: median(times) for name, times in taken.items()}


if __name__ == "__main__":
    main()
