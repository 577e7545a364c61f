"""Options of Keras optimizers and of `fit` under rules: the steps are those of torch, and the ends the optimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import affinet
from tests.integrations.keras_processes import BACKENDS, printed
from tests.integrations.option_steps import (
    AVERAGES,
    CLIPS,
    averaged_in_torch,
    clipped_in_torch,
    embedded_in_torch,
    missing_in_torch,
    rules_of,
    rules_of_missing,
    scaled_in_torch,
)

ROUNDING = 1e-12
"""Some steps of the same formula: what differs is rounding, which the steps of convex losses do not amplify."""
PRECISION = {"tensorflow": ROUNDING, "jax": ROUNDING, "torch": 64 * 2.0**-24}
"""On torch, Keras computes losses in float32: sums of 24 squares, of numbers up to four."""
OPTIMUM = {"tensorflow": 1e-8, "jax": 1e-8, "torch": 64 * 2.0**-24}

IN_TORCH: dict[str, Callable[[], dict[str, np.ndarray]]] = {
    **{name: lambda name=name: clipped_in_torch(name) for name in CLIPS},
    "use_ema": lambda: averaged_in_torch(AVERAGES["use_ema"]["ema_momentum"], None),
    "overwritten": lambda: averaged_in_torch(0.75, 3),
    "loss scale": scaled_in_torch,
    "missing": missing_in_torch,
}

each_backend = pytest.mark.parametrize("backend", BACKENDS)


def results(backend: str) -> dict[str, Any]:
    trained: dict[str, Any] = printed("keras_options", backend)
    return trained


@each_backend
@pytest.mark.parametrize("option", IN_TORCH)
def test_steps_are_those_of_torch(option: str, backend: str) -> None:
    """Clipping, averages after each step on the rules, a skipped step of a LossScaleOptimizer, missing gradients."""
    ends = {name: np.array(values) for name, values in results(backend)["steps"][option].items()}
    precision = PRECISION[backend] if "norm" in option else ROUNDING  # Keras takes norms in float32 on torch
    for name, wanted in IN_TORCH[option]().items():
        np.testing.assert_allclose(ends[name], wanted, rtol=0, atol=precision, err_msg=name)
    rules = (rules_of_missing if option == "missing" else rules_of)(
        affinet.weights({n: x.shape for n, x in ends.items()})
    )
    assert max(affinet.plan(rules).projector(ends).violation(ends).values()) <= ROUNDING


@each_backend
def test_multipliers_are_of_the_loss_before_it_is_scaled(backend: str) -> None:
    assert results(backend)["kept"] <= ROUNDING


@each_backend
def test_all_ways_to_compile_take_the_same_steps(backend: str) -> None:
    for way, difference in results(backend)["ways"].items():
        assert difference <= PRECISION[backend], way


@each_backend
def test_averages_are_swapped_into_the_model(backend: str) -> None:
    """The callback finds them through a LossScaleOptimizer, and the training goes on from the weights themselves."""
    assert max(results(backend)["swapped"]) <= ROUNDING


@each_backend
def test_a_layer_is_frozen_and_trained_again(backend: str) -> None:
    phases = results(backend)["phases"]
    assert phases["moved"] == 0.0
    assert phases["others"][0] >= 0.1
    assert phases["others"][1] == 0.0
    assert phases["end"] <= OPTIMUM[backend]
    assert phases["violation"] <= 56 * 2.0**-53 * 16.0  # as in test_keras.py


@each_backend
def test_frozen_layers_that_have_rules_are_refused(backend: str) -> None:
    """On JAX others too: Keras gives the step no names there, so that it does not know which layer was frozen."""
    for case, message in results(backend)["frozen"].items():
        if case.startswith("a"):
            assert "Call affinet.keras.project for the model as it is now, with a new optimizer" in message, case
        else:
            assert ("layers were frozen" in message) == (backend == "jax"), case


@each_backend
def test_gradients_of_embeddings_are_rows(backend: str) -> None:
    """On TensorFlow they are IndexedSlices; rows that no input names move only where rules tie them to others."""
    embeddings = np.array(results(backend)["embedded"])
    np.testing.assert_allclose(embeddings, embedded_in_torch(), rtol=0, atol=PRECISION[backend])


@each_backend
def test_the_optimum_is_reached_under_options(backend: str) -> None:
    """Bounds, unit lengths and sums; the batches of `gradient_accumulation_steps` have different gradients."""
    found = results(backend)["optima"]
    assert len(found) == 4
    for option, distances in found.items():
        assert max(distances.values()) <= OPTIMUM[backend], (option, distances)
