"""Train in Keras on several devices and on one, and print how far the ends are apart as JSON.

`python -m tests.integrations.keras_devices`: two devices of a MirroredStrategy on TensorFlow, four under
`keras.distribution` on JAX. The quadratics and rules are those of `keras_training`; each device has its own rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"

import keras
import numpy as np

import affinet
import affinet.keras
from tests.integrations.keras_bare import BACKEND, enable_float64
from tests.integrations.keras_training import X, Y, equations, model_of, sets, weights_of

STEPS = 40
RULES = {"equations": equations, "sets": sets}


def trained(
    rules: Callable[[Any], list[Any]], scope: AbstractContextManager[Any], place: Callable[[Any], Any] | None = None
) -> dict[str, np.ndarray]:
    """The weights after some steps of Adam on batches of twelve rows, of which each device gets some."""
    with scope:
        model = model_of()
        adam = keras.optimizers.Adam(0.0625)
        optimizer = affinet.keras.project(model, adam, rules(affinet.keras.weights(model)), keep_gradients=True)
        model.compile(optimizer, loss=["mse"] * 3)
    x, y = (
        np.tile(np.repeat(X, 2, axis=0), (STEPS, 1)),
        [np.tile(np.repeat(t, 2, axis=0), (STEPS, 1)) for t in Y.values()],
    )
    model.fit(x, y, batch_size=12, shuffle=False, verbose=0)
    if place is not None:
        place(model)
    return weights_of(model)


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def mirrored() -> dict[str, Any]:
    """Two devices of TensorFlow, and what is refused: another strategy, and a call outside of the scope."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    differences, copies = {}, {}
    for name, rules in RULES.items():

        def compare(model: Any, name: str = name) -> None:
            pairs = [two.experimental_local_results(v.value) for v in model.trainable_variables]
            copies[name] = max(float(tf.reduce_max(tf.abs(a - b))) for a, b in pairs)

        differences[name] = apart(trained(rules, nullcontext()), trained(rules, two.scope(), compare))
    with two.scope():
        model = model_of()
    refused = {"outside": refusal(model)}
    central = tf.distribute.experimental.CentralStorageStrategy(["CPU:0", "CPU:1"], "CPU:0")
    with central.scope():
        refused["another"] = refusal(model_of())
    return {"differences": differences, "copies": copies, "refused": refused}


def refusal(model: Any) -> str:
    try:
        affinet.keras.project(model, "sgd", equations(affinet.keras.weights(model)))
    except affinet.AttachError as error:
        return str(error)
    return "was not refused"


def distributed() -> dict[str, Any]:
    """Four devices of JAX: batches split over them, and kernels split over them, by columns and by rows."""
    from keras import distribution

    alone = {name: trained(rules, nullcontext()) for name, rules in RULES.items()}
    mesh = distribution.DeviceMesh((2, 2), ["batch", "model"])
    layout = distribution.LayoutMap(mesh)
    layout["a/kernel"], layout["b/kernel"], layout["c/kernel"] = (None, "model"), ("model", None), (None, "model")
    ways = {
        "DataParallel": distribution.DataParallel(),
        "ModelParallel": distribution.ModelParallel(layout_map=layout, batch_dim_name="batch"),
    }
    differences, devices = {}, {}
    for way, chosen in ways.items():
        distribution.set_distribution(chosen)
        for name, rules in RULES.items():

            def count(model: Any, key: str = f"{way} {name}") -> None:
                shards = [v.value.sharding.is_fully_replicated for v in model.trainable_variables]
                devices[key] = [len(model.trainable_variables[0].value.devices()), shards.count(False)]

            differences[f"{way} {name}"] = apart(alone[name], trained(rules, nullcontext(), count))
    return {"differences": differences, "devices": devices}


def main() -> None:
    enable_float64()
    keras.config.set_floatx("float64")
    print(json.dumps(mirrored() if BACKEND == "tensorflow" else distributed()))  # noqa: T201


if __name__ == "__main__":
    main()
