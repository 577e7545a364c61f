"""What Keras logs of rules, several devices, and other backends, in a process for each backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import affinet
from tests.integrations.keras_processes import BACKENDS, printed
from tests.integrations.steps_too_long import GRADIENT, RATE, START, STEPS, rules_of

each_backend = pytest.mark.parametrize("backend", BACKENDS)
ROUNDING = 56 * 2.0**-53 * 16.0
"""As in test_keras.py: sums of 48 numbers."""
PRECISION = {"tensorflow": 2.0**-23, "jax": 2.0**-23, "torch": 64 * 2.0**-24}
"""Keras scales losses by numbers of float32; on torch they are sums of 24 squares in float32, forth and back."""


@each_backend
def test_violations_and_multipliers_are_in_the_logs_and_in_the_bar(backend: str) -> None:
    logged = printed("keras_logs", backend)["logged"]
    history, prices = logged["history"], logged["prices"]
    assert history["violation"][-1] == max(logged["verified"].values()) <= ROUNDING
    assert history["multiplier"][-1] == pytest.approx(max(prices.values()), rel=PRECISION[backend])
    for rule, price in prices.items():
        assert history[f"violation/{rule}"][-1] == logged["verified"][rule]
        assert history[f"multiplier/{rule}"][-1] == pytest.approx(price, rel=PRECISION[backend])
    assert "- multiplier: " in logged["shown"]
    assert "- violation: " in logged["shown"]


def test_tensorboard_reads_what_is_logged() -> None:
    logged = printed("keras_logs", "tensorflow")["logged"]
    for name in ("violation", "multiplier"):
        written = np.float32(logged["history"][name])
        assert np.float32(logged["events"][f"epoch_{name}"]).tolist() == written.tolist()


@each_backend
def test_counts_are_those_of_torch(backend: str) -> None:
    model = torch.nn.ParameterDict({"w": torch.tensor(START)})
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    watch = affinet.project(model, optimizer, rules_of(affinet.weights(model))).watch()
    for _ in range(STEPS):
        model["w"].grad = torch.tensor(GRADIENT)
        optimizer.step()
    counts = watch.history[-1].returns["cusp"]
    assert counts.shortened > 0
    expected = {name: getattr(counts, name) for name in ("shortened", "refused", "slow")}
    assert printed("keras_logs", backend)["counted"] == expected


@each_backend
def test_gradients_and_counts_are_saved(backend: str) -> None:
    logs = printed("keras_logs", backend)
    assert logs["resumed"] == {"gradients": 0.0, "counts": [0, 0, 0]}
    assert "keep_gradients=True" in logs["refused"]


def test_two_devices_of_a_mirrored_strategy_train_as_one() -> None:
    """Devices add gradients in another order; forty steps of Adam amplify that little."""
    measured: dict[str, Any] = printed("keras_devices", "tensorflow")
    assert measured["copies"] == {"equations": 0.0, "sets": 0.0}
    for name, difference in measured["differences"].items():
        assert difference <= 1e-10, name
    assert "Call it within strategy.scope()" in measured["refused"]["outside"]
    assert "MirroredStrategy, and the model was made under" in measured["refused"]["another"]


def test_four_devices_of_jax_train_as_one() -> None:
    measured: dict[str, Any] = printed("keras_devices", "jax")
    assert len(measured["differences"]) == 4
    for name, difference in measured["differences"].items():
        assert difference <= 1e-10, name
        assert measured["devices"][name] == [4, 3 if name.startswith("Model") else 0]


def test_other_backends_are_refused_before_weights_are_moved() -> None:
    """As openvino would be; the backend `numpy` of Keras needs no more than JAX."""
    refused = printed("keras_refused", "numpy")
    assert "trains with the backends jax, tensorflow, torch, and Keras runs on 'numpy'" in refused["message"]
    assert refused["moved"] == 0.0
