"""Rules in Keras on each of its backends, in a process for each."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.integrations.keras_processes import BACKENDS, printed

ROUNDING = 56 * 2.0**-53 * 16.0
"""An equation of 48 numbers: a rounding of each sum, and of each weight that it adds; terms are below sixteen."""
REFUSALS = {
    "not built": "has no weights yet",
    "unknown": "Did you mean 'a/kernel'",
    "shape": "of shape \\(3, 4\\), and it has shape \\(6, 4\\)",
    "used": "was built before",
    "scaling inside": "LossScaleOptimizer cannot be inside",
    "not trainable": "which is not trainable",
    "asked for": "it is not trainable. .* after layer.trainable = True",
    "a misspelt name": "'adm' is not an optimizer of Keras",
    "a class": "the class Adam is not an optimizer of Keras",
    "another order": "str is not a model of Keras. Give the model first",
    "rules for the optimizer": "list is not an optimizer of Keras",
    "text": "'a/kernel >= 0' of type str is not a rule",
    "text to verify": "'a/kernel >= 0' of type str is not a rule",
    "other weights": "write affinet.keras.weights",
    "an attribute": 'in brackets: w\\["a/kernel"\\]',
    "frozen later": "its layer is not trainable any more",
    "another model": "for the model as it is now, with a new optimizer",
    "another width": "for the model as it is now, with a new optimizer",
    "states of other rules": "has states of the shapes \\[\\], and its rules need \\[\\(6, 4\\), \\(\\)\\]",
    "inner alone": "alone it would train without the rules. Compile the model with the optimizer that affinet.keras",
    "statistics": "'norm/moving_mean', which is not trainable. .* computed by their layer",
    "no weights": "call model.build\\(input_shape\\) or the model itself",
    "without a plan": "has no rules",
    "log without rules": "SGD, which has no rules",
    "constraint": "constraint NonNeg of its layer",
    "two names": "have the name 'y/kernel'",
}

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def results(backend: str) -> dict[str, Any]:
    """What a training on this backend printed."""
    trained: dict[str, Any] = printed("keras_training", backend)
    return trained


def accuracy(backend: str) -> float:
    """A bound of distances from an optimum, from that of SGD without rules: on torch, losses are of float32."""
    return 1e-8 + 10 * float(results(backend)["optima"]["SGD"][1])


def test_optimizers_end_at_the_constrained_optimum(backend: str) -> None:
    for name, (distance, own_accuracy, violation) in results(backend)["optima"].items():
        assert distance <= 1e-8 + 10 * own_accuracy, (name, distance, own_accuracy)
        assert violation <= ROUNDING, name


def test_clipping_accumulation_and_averages_keep_the_optimum(backend: str) -> None:
    for name, (distance, violation) in results(backend)["options"].items():
        assert distance <= accuracy(backend), name
        assert violation <= ROUNDING, name


def test_inequalities_and_nonlinear_equations_end_at_the_optimum(backend: str) -> None:
    found = results(backend)["sets"]
    assert found["bounds"] <= accuracy(backend)
    assert found["unit rows"] <= accuracy(backend)
    assert found["half-spaces"] <= 1e-6  # SLSQP stops at the square root of the spacing of its function
    assert found["beyond"] <= ROUNDING


def test_training_goes_on_from_a_file_as_if_it_had_not_stopped(backend: str) -> None:
    assert results(backend)["resumed"] == {"equations": 0.0, "sets": 0.0}


def test_violations_are_logged_after_each_epoch(backend: str) -> None:
    found = results(backend)["logged"]
    assert len(found["logged"]) == 2
    assert found["logged"][-1] == found["verified"] <= ROUNDING
    assert abs(found["verified"] - found["by hand"]) <= ROUNDING


def test_bad_input_is_refused_with_the_way_out(backend: str) -> None:
    refused = results(backend)["refusals"]
    for name, words in REFUSALS.items():
        with pytest.raises(ValueError, match=words):
            raise ValueError(refused.get(name, f"{name} was not refused"))


REFUSED = (
    "about 'a/kernel', 'b/kernel', 'c/kernel' are kept by the optimizer 'project.*Compile the model with that optim"
)
SECOND_OPTIMIZERS = {
    "by name": REFUSED,
    "of a larger model": REFUSED,
    "by a map": REFUSED,
    "a copy": REFUSED,
    "loaded": REFUSED,
    "the first again": "about 'b/kernel' are kept by the optimizer 'project_.*call affinet.keras.remove_rules",
    "the second, with rules about less": REFUSED,
}


def test_training_without_the_rules_is_refused_until_they_are_removed(backend: str) -> None:
    """The returned optimizer trains on from wherever another one left, and clones have no rules."""
    found = results(backend)["guarded"]
    for name, (message, violation) in found.items():
        assert re.search(SECOND_OPTIMIZERS.get(name, "^$"), message), (name, message)
        if name.startswith("returned"):
            assert violation <= ROUNDING, name
    assert len(found) == len(SECOND_OPTIMIZERS) + 6
    assert found["free"][1] > ROUNDING


def test_no_torch_is_imported_on_other_backends(backend: str) -> None:
    assert results(backend)["torch"] == (backend == "torch")
