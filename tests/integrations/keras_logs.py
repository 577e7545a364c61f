"""Log violations, multipliers and counts in `fit`, and print what the logs, the bar and TensorBoard hold as JSON.

`python -m tests.integrations.keras_logs`. The quadratic, rules and optimum are those of `keras_training`.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

import affinet.keras
from tests.integrations.keras_bare import BACKEND, Bare, enable_float64, numpy_of, train
from tests.integrations.keras_training import SHORT, TARGETS, D, X, Y, equations, fit, model_of, optimum, rows
from tests.integrations.steps_too_long import GRADIENT, RATE, START, STEPS, rules_of

WARMUP = SHORT


def trained(**options: Any) -> tuple[Any, Any]:
    model = model_of()
    rules = equations(affinet.keras.weights(model))
    optimizer = affinet.keras.project(model, keras.optimizers.SGD(0.5), rules, **options)
    model.compile(optimizer, loss=["mse"] * 3)
    fit(model, WARMUP)
    return model, optimizer


def prices() -> np.ndarray:
    """The multipliers of the equations at the optimum, by their rows: `Aᵀν = ∇f`."""
    t = np.concatenate([target.ravel() for target in TARGETS.values()])
    gradient = np.tile(np.repeat(D, 4), 3) * (optimum() - t)
    return np.asarray(np.linalg.lstsq(rows()[0].T, gradient, rcond=None)[0])


def logged() -> dict[str, Any]:
    """The logs of two epochs at the optimum, the bar that shows them, and the events that TensorBoard reads."""
    model, optimizer = trained(keep_gradients=True)
    log = affinet.keras.RuleLog(multipliers=True, each=True)
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [log, keras.callbacks.TensorBoard(folder)] if BACKEND == "tensorflow" else [log]
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            history = model.fit(X, [*Y.values()], epochs=2, verbose=2, callbacks=callbacks)
        events = scalars(Path(folder) / "train") if BACKEND == "tensorflow" else {}
    verified = affinet.keras.verify(model, optimizer.plan)
    sums, ties, dense = np.split(np.abs(prices()), [4, 8])
    return {
        "history": history.history,
        "shown": shown.getvalue(),
        "events": events,
        "verified": verified,
        "prices": dict(zip(verified, (float(x.max()) for x in (sums, ties, dense)), strict=True)),
    }


def scalars(folder: Path) -> dict[str, list[float]]:
    """Tag → the numbers of all steps, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("epoch_")]
    return {tag: [float(make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)] for tag in tags}


def counted() -> dict[str, int]:
    """The counts of steps that lead beyond a cusp."""
    model = Bare({"w": START})
    optimizer = affinet.keras.project(model, keras.optimizers.SGD(RATE), rules_of(affinet.keras.weights(model)))
    train(model, optimizer, lambda w, _: {"w": 0.0 * w["w"] + GRADIENT}, STEPS)
    return dict(optimizer.counts._asdict())


def resumed() -> dict[str, Any]:
    """The counts, gradients and logs of a model that was saved and loaded."""
    model, optimizer = trained(keep_gradients=True)
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model.keras")
        loaded = keras.models.load_model(Path(folder) / "model.keras")
    gradients, kept = optimizer.last_gradients, loaded.optimizer.last_gradients
    apart = max(float(np.abs(numpy_of(gradients)[n] - numpy_of(kept)[n]).max()) for n in gradients)
    loaded.fit(X, [*Y.values()], verbose=0, callbacks=[affinet.keras.RuleLog(multipliers=True)])
    return {"gradients": apart, "counts": list(loaded.optimizer.counts)}


def refused() -> str:
    model, _ = trained()
    try:
        fit(model, 1, callbacks=[affinet.keras.RuleLog(multipliers=True)])
    except affinet.AttachError as error:
        return str(error)
    return "was not refused"


def main() -> None:
    enable_float64()
    keras.config.set_floatx("float64")
    results = {"logged": logged(), "counted": counted(), "resumed": resumed(), "refused": refused()}
    print(json.dumps(results))  # noqa: T201


if __name__ == "__main__":
    main()
