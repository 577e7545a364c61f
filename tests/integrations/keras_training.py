"""Train quadratics under rules in Keras, in a process with one backend, and print what came of it as JSON.

Run as `python -m tests.integrations.keras_training`; KERAS_BACKEND says on which. The loss is `½ Σ d_i (w_ij − t_ij)²`
in float64, so that the optimum under linear equations is one linear solve, that under bounds is the larger of target
and bound, and that of rows of length one is the target divided by its length.
"""

from __future__ import annotations

import json
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

import affinet
import affinet.keras
from affinet import families
from affinet.adapters.keras_steps import Sandwich

BACKEND = keras.backend.backend()
STEPS, SHORT = 500, 160
RANDOM = np.random.default_rng(0)
ROOTS = np.sqrt(12.0 * RANDOM.uniform(0.5, 2.0, 6)).astype(np.float32).astype(np.float64)[:, None]
D = ROOTS[:, 0] ** 2 / 12.0
X = np.diag(ROOTS[:, 0])
DRAWN = {f"{layer}/kernel": RANDOM.normal(size=(6, 4)) for layer in "abc"}
DRAWN["b/kernel"] *= 1.5 / np.linalg.norm(DRAWN["b/kernel"], axis=1, keepdims=True)  # on spheres the curvature is 1.5 d
Y = {name: (ROOTS * t).astype(np.float32).astype(np.float64) for name, t in DRAWN.items()}
"""Inputs and outputs are numbers of float32, which loaders of data may round them to."""
TARGETS = {name: y / ROOTS for name, y in Y.items()}
G = RANDOM.normal(size=(3, 48))
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "SGD": lambda **options: keras.optimizers.SGD(0.5, **options),
    "Adam": lambda **options: keras.optimizers.Adam(decaying(0.05), **options),
    "RMSprop": lambda **options: keras.optimizers.RMSprop(decaying(0.01), **options),
    "AdamW": lambda **options: keras.optimizers.AdamW(decaying(0.05), weight_decay=0.0, **options),
    "Nadam": lambda **options: keras.optimizers.Nadam(decaying(0.05), **options),
    "Lion": lambda **options: keras.optimizers.Lion(decaying(0.01), **options),
}


def decaying(rate: float) -> Any:
    return keras.optimizers.schedules.CosineDecay(rate, STEPS)


def model_of() -> Any:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    return keras.Model(inputs, [keras.layers.Dense(4, use_bias=False, name=name)(inputs) for name in "abc"])


def equations(w: Any) -> list[Any]:
    a, b, c = (w[name] for name in TARGETS)
    return [a.sum(dim=0) == 1.0, b[0] == 2 * b[1], families.linear([a, c], G, np.ones(3))]


def sets(w: Any) -> list[Any]:
    a, b, c = (w[name] for name in TARGETS)
    return [a >= 0.1, families.unit_norm(b, 1), c @ np.arange(4.0) <= 1.0, np.ones(6) @ c <= 0.3]


def fit(model: Any, steps: int = STEPS, **options: Any) -> None:
    x, y = np.tile(X, (steps, 1)), [np.tile(outputs, (steps, 1)) for outputs in Y.values()]
    model.fit(x, y, batch_size=6, shuffle=False, verbose=0, **options)


def trained(optimizer: Any, rules: Callable[[Any], list[Any]] | None, steps: int = STEPS) -> Any:
    model = model_of()
    if rules is not None:
        optimizer = affinet.keras.project(model, optimizer, rules(affinet.keras.weights(model)))
    model.compile(optimizer, loss=["mse"] * 3)
    fit(model, steps)
    return model


def weights_of(model: Any) -> dict[str, np.ndarray]:
    kernels = [np.asarray(keras.ops.convert_to_numpy(v), np.float64) for v in model.trainable_variables]
    return dict(zip(TARGETS, kernels, strict=True))


def rows() -> tuple[np.ndarray, np.ndarray]:
    """The equations `A w = b` of `equations`, with a, b and c one after the other, written by hand."""
    sums = [np.concatenate([np.tile(unit, 6), np.zeros(48)]) for unit in np.eye(4)]
    ties = [np.concatenate([np.zeros(24), unit, -2 * unit, np.zeros(40)]) for unit in np.eye(4)]
    dense = [np.concatenate([row[:24], np.zeros(24), row[24:]]) for row in G]
    return np.array([*sums, *ties, *dense]), np.array([1.0] * 4 + [0.0] * 4 + [1.0] * 3)


def optimum() -> np.ndarray:
    """The weights of smallest loss under the equations: `w = t − D⁻¹ Aᵀ ν` with `A w = b`."""
    matrix, b = rows()
    t, inverse = np.concatenate([target.ravel() for target in TARGETS.values()]), np.tile(np.repeat(1 / D, 4), 3)
    return t - inverse * (matrix.T @ np.linalg.solve((matrix * inverse) @ matrix.T, matrix @ t - b))


def distance(model: Any, point: np.ndarray) -> float:
    return float(np.abs(np.concatenate([w.ravel() for w in weights_of(model).values()]) - point).max())


def violation(model: Any) -> float:
    matrix, b = rows()
    return float(np.abs(matrix @ np.concatenate([w.ravel() for w in weights_of(model).values()]) - b).max())


def optima() -> dict[str, Any]:
    """Optimizer → distance from the optimum, that of the same optimizer without rules from its own, and violation."""
    free, found = np.concatenate([target.ravel() for target in TARGETS.values()]), {}
    for name, make in OPTIMIZERS.items():
        steps = SHORT if name == "SGD" else STEPS
        model, plain = trained(make(), equations, steps), trained(make(), None, steps)
        found[name] = distance(model, optimum()), distance(plain, free), violation(model)
    return found


def options() -> dict[str, Any]:
    """Option of SGD → distance from the optimum and violation; averages of weights have no optimum to compare with."""
    found = {}
    for name, chosen in {
        "clipnorm": {"clipnorm": 1.0},
        "gradient_accumulation_steps": {"gradient_accumulation_steps": 2},
        "use_ema": {"use_ema": True, "ema_momentum": 0.8},
    }.items():
        model = trained(OPTIMIZERS["SGD"](**chosen), equations, 2 * SHORT)
        found[name] = distance(model, optimum()), violation(model)
    return found


def on_sets() -> dict[str, float]:
    """Distances from the optimum under bounds and unit lengths; violation and stationarity of half-spaces."""
    model = trained(OPTIMIZERS["SGD"](), sets, SHORT)
    w, c = weights_of(model), TARGETS["c/kernel"]
    a, b = np.maximum(TARGETS["a/kernel"], 0.1), TARGETS["b/kernel"]
    from scipy.optimize import minimize

    limits = [
        {"type": "ineq", "fun": lambda x: 1.0 - x.reshape(6, 4) @ np.arange(4.0)},
        {"type": "ineq", "fun": lambda x: 0.3 - x.reshape(6, 4).sum(0)},
    ]
    scaled = D[:, None]
    solved = minimize(
        lambda x: (
            float((scaled * (x.reshape(6, 4) - c) ** 2).sum() / 2),
            (scaled * (x.reshape(6, 4) - c)).ravel(),
        ),
        np.zeros(24),
        jac=True,
        method="SLSQP",
        constraints=limits,
        options={"ftol": 1e-15, "maxiter": 500},
    )
    kernel = w["c/kernel"]
    return {
        "bounds": float(np.abs(w["a/kernel"] - a).max()),
        "unit rows": float(np.abs(w["b/kernel"] - b / np.linalg.norm(b, axis=1, keepdims=True)).max()),
        "half-spaces": float(np.abs(kernel - solved.x.reshape(6, 4)).max()),
        "beyond": float(max((kernel @ np.arange(4.0) - 1.0).max(), (kernel.sum(0) - 0.3).max())),
    }


def resumed() -> dict[str, float]:
    """Differences between a training, and one that went on from its `.keras` file, with equations and with sets."""
    found = {}
    for name, rules in {"equations": equations, "sets": sets}.items():
        straight = trained(OPTIMIZERS["Adam"](), rules, 10)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.keras"
            straight.save(file)
            loaded = keras.models.load_model(file)
        if BACKEND == "tensorflow":
            loaded.jit_compile = straight.jit_compile
        fit(straight, 10)
        fit(loaded, 10)
        ends = [np.concatenate([w.ravel() for w in weights_of(model).values()]) for model in (straight, loaded)]
        found[name] = float(np.abs(ends[0] - ends[1]).max())
    return found


def logged() -> dict[str, Any]:
    """What a callback logs of a training, and what `verify` says of the model."""
    model = model_of()
    optimizer = affinet.keras.project(model, "sgd", equations(affinet.keras.weights(model)))
    model.compile(optimizer, loss=["mse"] * 3)
    history = model.fit(X, [*Y.values()], epochs=2, verbose=0, callbacks=[affinet.keras.RuleLog()])
    violations = affinet.keras.verify(model, optimizer.plan)
    return {"logged": history.history["violation"], "verified": max(violations.values()), "by hand": violation(model)}


def guarded() -> dict[str, Any]:
    """Another optimizer on weights with rules → what its training says, by an error or warnings, and what it violates.

    Also for a model that shares these weights, a file, a copy and a clone of the model, and rules after other rules.
    """
    model, found = model_of(), {}
    larger = keras.Model(model.inputs, [keras.layers.Activation("relu")(y) for y in model(model.inputs[0])])
    first = affinet.keras.project(model, "sgd", equations(affinet.keras.weights(model)))

    def case(name: str, optimizer: Any, trainee: Any = model) -> None:
        trainee.compile(optimizer, loss=["mse"] * 3)
        found[name] = said(lambda: fit(trainee, 1)), violation(trainee)

    case("by name", "adam")
    case("returned", first)
    case("of a larger model", "adam", larger)
    other = keras.optimizers.SGD()
    case("by a map", keras.optimizers.MultiOptimizer(lambda _: other))
    case("returned in a map", keras.optimizers.MultiOptimizer(lambda _: first))
    case("returned, with a scale", keras.optimizers.LossScaleOptimizer(first, initial_scale=8.0))
    case("a copy", "adam", pickle.loads(pickle.dumps(model)))
    case("a clone", "adam", keras.models.clone_model(model))
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        case("loaded", "adam", keras.models.load_model(Path(folder) / "model.keras"))
    second = affinet.keras.project(model, "sgd", affinet.keras.weights(model)["b/kernel"] >= 0.0)
    case("the first again", first)
    case("the second, with rules about less", second)
    affinet.keras.remove_rules(model)
    case("the second alone", second)
    case("free", "adam")
    return found


def said(call: Callable[[], Any]) -> str:
    """The message of the error that a call raises, or of its warnings from affinet."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call()
        except (affinet.AffinetError, ValueError) as error:
            return str(error)
    return " ".join({str(warning.message) for warning in caught if "affinet" in str(warning.message)})


def refusals() -> dict[str, str]:
    """Case → the message with which it is refused."""
    refused: dict[str, str] = {}

    def case(name: str, call: Callable[[], Any]) -> None:
        if message := said(call):
            refused[name] = message

    def sums(model: Any) -> list[Any]:
        return [affinet.keras.weights(model)["a/kernel"].sum(dim=0) == 1.0]

    model = model_of()
    case("not built", lambda: affinet.keras.weights(keras.Sequential([keras.layers.Dense(3)])))
    case(
        "unknown", lambda: affinet.keras.project(model, "adam", affinet.weights({"a/kernle": (6, 4)})["a/kernle"] == 0)
    )
    case("shape", lambda: affinet.keras.project(model, "adam", affinet.weights({"a/kernel": (3, 4)})["a/kernel"] == 0))
    used = OPTIMIZERS["SGD"]()
    affinet.keras.project(model, used, sums(model))
    case("used", lambda: affinet.keras.project(model, used, sums(model)))
    scaling = keras.optimizers.LossScaleOptimizer(OPTIMIZERS["SGD"]())
    case("scaling inside", lambda: affinet.keras.project(model, scaling, sums(model)))
    rules = sums(model)
    model.get_layer("a").trainable = False
    case("not trainable", lambda: affinet.keras.project(model, "sgd", rules))
    case("asked for", lambda: affinet.keras.weights(model)["a/kernel"])
    model.get_layer("a").trainable = True
    projecting = affinet.keras.project(model, OPTIMIZERS["SGD"](), rules)
    others = model.trainable_variables[1:]
    case("frozen later", lambda: projecting.apply([keras.ops.zeros(v.shape) for v in others], others))
    case("another model", lambda: _fit_another_model(4))
    case("another width", lambda: _fit_another_model(5))
    case("statistics", _rule_of_statistics)
    case("no weights", lambda: affinet.keras.project(_Unbuilt(), "sgd", rules))
    case("a misspelt name", lambda: affinet.keras.project(model, "adm", rules))
    case("a class", lambda: affinet.keras.project(model, keras.optimizers.Adam, rules))
    case("another order", lambda: affinet.keras.project("adam", model, rules))
    case("rules for the optimizer", lambda: affinet.keras.project(model, rules, "adam"))
    case("text", lambda: affinet.keras.project(model, "adam", "a/kernel >= 0"))
    case("text to verify", lambda: affinet.keras.verify(model, "a/kernel >= 0"))
    case("other weights", lambda: affinet.weights(model))
    case("an attribute", lambda: affinet.keras.weights(model).a)
    limits, kernel = affinet.plan(affinet.keras.weights(model)["a/kernel"] >= 0.0), model.get_layer("a").kernel
    case("states of other rules", lambda: Sandwich(limits).states_of([], {"a/kernel": kernel.value}))
    case("inner alone", _fit_with_the_optimizer_inside)
    alone = affinet.keras.Project.from_config(projecting.get_config())
    case("without a plan", lambda: alone.plan)
    model.compile("sgd", loss="mse")
    case("log without rules", lambda: fit(model, 1, callbacks=[affinet.keras.RuleLog()]))
    limited = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_constraint="non_neg", name="a")])
    case("constraint", lambda: affinet.keras.project(limited, "sgd", sums(limited)))
    case("two names", lambda: affinet.keras.weights(_with_two_names()))
    return refused


class _Unbuilt(keras.Model):  # type: ignore[misc]
    """A model whose layers have no weights before it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = keras.layers.Dense(4, name="a")

    def call(self, x: Any) -> Any:
        return self.dense(x)


def _fit_another_model(width: int) -> None:
    """Compile a model with the optimizer that was made for another one with the same names."""
    model, inputs = model_of(), keras.Input((6,))
    other = keras.Model(inputs, [keras.layers.Dense(width, use_bias=False, name=name)(inputs) for name in "abc"])
    other.compile(
        affinet.keras.project(model, "sgd", affinet.keras.weights(model)["a/kernel"] == 0.0), loss=["mse"] * 3
    )
    other.fit(X, [np.zeros((6, width))] * 3, verbose=0)


def _fit_with_the_optimizer_inside() -> None:
    """Compile the model with the optimizer that was given, and not with the one that was returned."""
    model, given = model_of(), OPTIMIZERS["SGD"]()
    affinet.keras.project(model, given, affinet.keras.weights(model)["a/kernel"].sum(dim=0) == 1.0)
    affinet.keras.remove_rules(model)
    clone = type(given).from_config(given.get_config())  # is free
    clone.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables], model.trainable_variables)
    model.compile(given, loss=["mse"] * 3)
    fit(model, 1)


def _rule_of_statistics() -> None:
    """Write a rule, by name and shape, about numbers that the layer computes itself."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization(name="norm")])
    mean = affinet.weights({"norm/moving_mean": (3,)})["norm/moving_mean"]
    affinet.keras.project(model, "sgd", mean == 0.0)


def _with_two_names() -> Any:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, name="x"), keras.layers.Dense(3, name="y")])
    model.layers[0].kernel._path = model.layers[1].kernel.path
    return model


def main() -> None:
    keras.config.set_floatx("float64")
    if BACKEND == "jax":
        import jax

        jax.config.update("jax_enable_x64", True)
    if BACKEND == "torch":  # takes steps one by one: a tenth of the speed
        for name in ("RMSprop", "AdamW", "Nadam", "Lion"):
            del OPTIMIZERS[name]
    results = {
        "optima": optima(),
        "options": options(),
        "sets": on_sets(),
        "resumed": resumed(),
        "logged": logged(),
        "guarded": guarded(),
        "refusals": refusals(),
        "torch": "torch" in sys.modules,
    }
    print(json.dumps(results))  # noqa: T201


if __name__ == "__main__":
    main()
