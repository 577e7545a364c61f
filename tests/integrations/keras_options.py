"""Train under rules with options of Keras optimizers and of `fit`, and print where trainings end as JSON.

`python -m tests.integrations.keras_options`. Steps on given gradients are those of `option_steps`; fits are of
`keras_training`. To compile on torch takes most of a minute, with rules and without: AFFINET_KERAS_PRODUCT=1 does it.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

import affinet.keras
from tests.integrations.keras_bare import BACKEND, Bare, enable_float64, numpy_of, tensors, train
from tests.integrations.keras_training import (
    TARGETS,
    D,
    X,
    Y,
    distance,
    equations,
    fit,
    model_of,
    optimum,
    sets,
    violation,
    weights_of,
)
from tests.integrations.option_steps import (
    AVERAGES,
    CLIPS,
    EVERYTHING,
    IDS,
    MISSING,
    MOMENTUM,
    OVERFLOW,
    RATE,
    RATE_OF_ROWS,
    ROWS,
    SCALE,
    SHAPES,
    SHAPES_OF_MISSING,
    STEPS,
    TABLE,
    drawn,
    rules_of,
    rules_of_missing,
    rules_of_rows,
)

FITTED, LONG, SWAPS = 12, 160, 3


def sgd(rate: float = RATE, **options: Any) -> Any:
    return keras.optimizers.SGD(rate, momentum=MOMENTUM, **options)


def stepped(inner: Any, scale: float = 1.0) -> tuple[Bare, Any]:
    """A model after steps under the rules, on gradients of the loss times `scale`."""
    start, targets = drawn(SHAPES)
    model, wanted = Bare(start), tensors(targets)
    optimizer = affinet.keras.project(model, inner, rules_of(affinet.keras.weights(model)), keep_gradients=True)
    train(model, optimizer, lambda w, _: {n: scale * (w[n] - wanted[n]) for n in w}, STEPS)
    return model, optimizer


def steps() -> dict[str, Any]:
    """Option → the weights at the end."""
    ends = {name: stepped(sgd(**options))[0].arrays() for name, options in CLIPS.items()}
    for name, options in AVERAGES.items():
        model, optimizer = stepped(sgd(**options))
        optimizer.finalize_variable_values(model.trainable_variables)
        ends[name] = model.arrays()
    return ends | {"loss scale": scaled(), "missing": without_gradients()}


def scaled() -> dict[str, np.ndarray]:
    """Steps inside of a LossScaleOptimizer, one of which it leaves out since the gradients are infinite."""
    start, targets = drawn(SHAPES)
    model, wanted = Bare(start), tensors(targets)
    rules = rules_of(affinet.keras.weights(model))
    inner = sgd(RATE / 2, loss_scale_factor=8.0)  # the outer optimizer turns it off, as without rules
    outer = keras.optimizers.LossScaleOptimizer(affinet.keras.project(model, inner, rules), initial_scale=SCALE)
    outer.build(model.trainable_variables)

    def gradient(w: dict[str, Any], number: Any) -> dict[str, Any]:
        factor = keras.ops.where(number == OVERFLOW, np.inf, SCALE)
        return {name: keras.ops.cast(factor, "float64") * (w[name] - wanted[name]) for name in w}

    train(model, outer, gradient, STEPS)
    return model.arrays()


def without_gradients() -> dict[str, np.ndarray]:
    """Two steps of AdamW with all gradients, and others without some of them."""
    start, targets = drawn(SHAPES_OF_MISSING)
    model, wanted = Bare(start), tensors(targets)
    adam = keras.optimizers.AdamW(0.0625, 0.125, beta_1=0.875, beta_2=1.0 - 2.0**-10, epsilon=1e-30)
    optimizer = affinet.keras.project(model, adam, rules_of_missing(affinet.keras.weights(model)))
    train(model, optimizer, lambda w, _: {n: w[n] - wanted[n] for n in w}, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist")
        present = lambda w, _: {n: None if n in MISSING else w[n] - wanted[n] for n in w}  # noqa: E731
        train(model, optimizer, present, STEPS - 2)
    return model.arrays()


def kept() -> float:
    """How far the gradients that are kept for multipliers are from those of the loss before it was scaled."""
    model, optimizer = stepped(sgd(), 1.0)
    scaling, other = stepped(sgd(loss_scale_factor=8.0), 8.0)
    gradients = [numpy_of(o.last_gradients) for o in (optimizer, other)]
    ends = [m.arrays() for m in (model, scaling)]
    return max(float(np.abs(one[n] - two[n]).max()) for one, two in (gradients, ends) for n in one)


def sums_and_sets(w: Any) -> list[Any]:
    """Bounds and unit lengths, and equations on another kernel."""
    return [*sets(w)[:2], w["c/kernel"].sum(dim=0) == 1.0]


def fitted(**options: Any) -> np.ndarray:
    """The weights after a short fit, compiled with these options."""
    model = model_of()
    rules = sums_and_sets(affinet.keras.weights(model))
    model.compile(affinet.keras.project(model, sgd(), rules), loss=["mse"] * 3, **options)
    fit(model, FITTED)
    return np.concatenate([w.ravel() for w in weights_of(model).values()])


def ways() -> dict[str, float]:
    """Way to compile → distance of the weights from those of the default one."""
    tried: dict[str, dict[str, Any]] = {"run_eagerly": {"run_eagerly": True}}
    if BACKEND != "torch" or EVERYTHING:
        tried["jit_compile"] = {"jit_compile": True}
    if BACKEND != "torch":
        tried["steps_per_execution"] = {"steps_per_execution": 4}
    default = fitted(jit_compile=False)
    return {name: float(np.abs(fitted(**options) - default).max()) for name, options in tried.items()}


def swapped() -> list[float]:
    """How far what SwapEMAWeights gives the model at the end of each epoch is from the averages of its weights."""
    model, differences, averages = model_of(), list[float](), dict[str, np.ndarray]()
    inner = sgd(use_ema=True, ema_momentum=0.75)
    optimizer = affinet.keras.project(model, inner, equations(affinet.keras.weights(model)))
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=1.0), loss=["mse"] * 3)

    def average(epoch: int, logs: Any) -> None:
        for name, w in weights_of(model).items():
            averages[name] = 0.75 * averages[name] + 0.25 * w if name in averages else w.copy()

    def compare(epoch: int, logs: Any) -> None:
        differences.append(max(float(np.abs(w - averages[n]).max()) for n, w in weights_of(model).items()))

    first, last = (keras.callbacks.LambdaCallback(on_epoch_end=look) for look in (average, compare))
    callbacks = [first, keras.callbacks.SwapEMAWeights(swap_on_epoch=True), last]
    model.fit(X, [*Y.values()], epochs=SWAPS, batch_size=6, verbose=0, callbacks=callbacks)
    compare(SWAPS, None)
    return differences


def phases() -> dict[str, Any]:
    """A kernel is trained, frozen while others are, and trained again: how far it moved, and the ends of phases."""
    model = model_of()

    def compiled(rules: Callable[[Any], list[Any]]) -> None:
        inner = keras.optimizers.SGD(0.5)
        model.compile(affinet.keras.project(model, inner, rules(affinet.keras.weights(model))), loss=["mse"] * 3)

    compiled(equations)
    fit(model, 5)
    model.get_layer("b").trainable = False
    frozen = kernel("b", model)
    compiled(lambda w: [w["a/kernel"] >= 0.1, w["c/kernel"][0] == w["a/kernel"][1]])
    fit(model, 5)
    moved = float(np.abs(kernel("b", model) - frozen).max())
    others = [float(kernel("a", model).min()), float(np.abs(kernel("c", model)[0] - kernel("a", model)[1]).max())]
    model.get_layer("b").trainable = True
    compiled(equations)
    callbacks = [keras.callbacks.LearningRateScheduler(lambda epoch: (0.5, 0.25)[epoch])]
    fit(model, 100, epochs=2, callbacks=callbacks)
    return {"moved": moved, "others": others, "end": distance(model, optimum()), "violation": violation(model)}


def kernel(name: str, model: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(model.get_layer(name).kernel))


def frozen_layers() -> dict[str, str]:
    """Which layer was frozen, and whether `compile` was called again with the same optimizer → the message, or ""."""
    messages = {}
    for layer in "ab":
        for again in (False, True):
            model = model_of()
            rule = affinet.keras.weights(model)["a/kernel"].sum(dim=0) == 1.0
            optimizer = affinet.keras.project(model, sgd(), rule)
            model.compile(optimizer, loss=["mse"] * 3)
            fit(model, 1)
            model.get_layer(layer).trainable = False
            if again:
                model.compile(optimizer, loss=["mse"] * 3)
            try:
                fit(model, 1)
                messages[f"{layer} {again}"] = ""
            except affinet.AttachError as error:
                messages[f"{layer} {again}"] = str(error)
    return messages


def embedded() -> list[Any]:
    """The embeddings after steps on gradients that are slices of rows, on TensorFlow; two rows have no gradient."""
    inputs = keras.Input((2,), dtype="int32")
    layer = keras.layers.Embedding(5, 4, name="e")
    model = keras.Model(inputs, keras.layers.Flatten()(layer(inputs)))
    layer.embeddings.assign(TABLE)
    rules = rules_of_rows(affinet.keras.weights(model)["e/embeddings"])
    model.compile(affinet.keras.project(model, sgd(RATE_OF_ROWS), rules), loss="mse")
    model.fit(IDS, ROWS.reshape(4, 8), batch_size=4, epochs=STEPS, verbose=0)
    return np.array(keras.ops.convert_to_numpy(layer.embeddings)).tolist()


def optima() -> dict[str, Any]:
    """Option → distances from the optimum under bounds, unit lengths and sums."""
    found = {}
    for name, options in {
        "clipvalue": CLIPS["clipvalue"],
        "global_clipnorm": CLIPS["global_clipnorm"],
        "use_ema": AVERAGES["use_ema"],
        "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
    }.items():
        model = model_of()
        rules = sums_and_sets(affinet.keras.weights(model))
        inner = keras.optimizers.SGD(0.5, **options)
        model.compile(affinet.keras.project(model, inner, rules), loss=["mse"] * 3)
        x, y = np.tile(X, (LONG, 1)), [np.tile(outputs, (LONG, 1)) for outputs in Y.values()]
        model.fit(x, y, batch_size=3 if "accumulation" in name else 6, shuffle=False, verbose=0)  # half of the rows
        w = weights_of(model)
        found[name] = {kind: float(np.abs(w[f"{kind}/kernel"] - best).max()) for kind, best in constrained().items()}
    return found


def constrained() -> dict[str, np.ndarray]:
    """The kernels of smallest loss: clipped, of length one, and moved by multipliers `D⁻¹ν` of the sums."""
    a, b, c = TARGETS.values()
    moved = c - (c.sum(0) - 1.0) / (1.0 / D).sum() / D[:, None]
    return {"a": np.maximum(a, 0.1), "b": b / np.linalg.norm(b, axis=1, keepdims=True), "c": moved}


def main() -> None:
    enable_float64()
    keras.config.set_floatx("float64")
    results = {
        "steps": {name: {n: x.tolist() for n, x in arrays.items()} for name, arrays in steps().items()},
        "kept": kept(),
        "ways": ways(),
        "swapped": swapped(),
        "phases": phases(),
        "frozen": frozen_layers(),
        "embedded": embedded(),
        "optima": optima(),
    }
    print(json.dumps(results))  # noqa: T201


if __name__ == "__main__":
    main()
