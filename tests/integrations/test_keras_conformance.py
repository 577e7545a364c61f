"""The backends of Keras give the truth of every case of `affinet.testing`, and take the steps that torch takes."""

from __future__ import annotations

import numpy as np
import pytest

import affinet.testing
from tests.integrations.keras_processes import BACKENDS, printed
from tests.integrations.trajectory import KERAS_OPTIONS, RULES, SHAPES, drawn, in_torch

each_backend = pytest.mark.parametrize("backend", BACKENDS)


@each_backend
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_backends_give_the_truth(backend: str, dtype: str) -> None:
    measured = printed("keras_conformance", backend, dtype)
    assert list(measured["cases"]) == [str(case) for case in affinet.testing.cases()]
    failed = {case: shares for case, shares in measured["cases"].items() if isinstance(shares, str)}
    assert not failed
    assert measured["torch"] == (backend == "torch")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_of_rows_in_tensorflow_lose_little(dtype: str) -> None:
    """Sixteen sums of 257 rows: a sum drops at most 256 numbers of half a roundoff, and the others round once."""
    assert printed("keras_conformance", "tensorflow", dtype)["rows lost"] <= 256 / 2 + 16


@each_backend
def test_adam_ends_at_the_optimum(backend: str) -> None:
    cases = printed("keras_conformance", backend, "float64")["cases"]
    trained = [case for case, shares in cases.items() if "training ends at the optimum" in shares]
    assert len(trained) == 7


@each_backend
@pytest.mark.parametrize("kind", KERAS_OPTIONS)
@pytest.mark.parametrize("name", RULES)
def test_twenty_steps_are_those_of_torch(name: str, kind: str, backend: str) -> None:
    """The same laws and the same formula of Adam: what differs is rounding, which these steps amplify little."""
    end = printed("keras_trajectories", backend)[f"{kind} {name}"]
    wanted = in_torch(name, *drawn(), kind, **KERAS_OPTIONS[kind])
    for key in SHAPES:
        np.testing.assert_allclose(np.array(end[key]), wanted[key], rtol=0, atol=1e-12)
