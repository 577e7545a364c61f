"""The certificate of weights that two processes hold is that of one process."""

from __future__ import annotations

import numpy as np

from tests.shards.certificates import RULES
from tests.shards.gang import together

ROUNDING = 1e-9
"""Curvatures are eigenvalues of sums of some hundred float64 products, of numbers up to ten, in another order; Lanczos
iterations end where they have ten digits."""


def test_certificates_of_two_processes_are_those_of_one() -> None:
    every = together(2, "tests.shards.certificates:certified")
    verdicts = set()
    for found in every:
        assert len(found) == 3 * len(RULES)
        for name, (alone, shared, is_trained_on) in found.items():
            verdicts.add(alone.verdict)
            for field in ("verdict", "rank", "generic_rank", "at_bound", "without_force", "free"):
                assert getattr(shared, field) == getattr(alone, field), (name, field)
            for field in ("stationarity", "sigma_ratio", "smallest", "largest"):
                np.testing.assert_allclose(
                    getattr(shared, field),
                    getattr(alone, field),
                    rtol=ROUNDING,
                    atol=ROUNDING,
                    err_msg=f"{name} {field}",
                )
            assert shared.direction.keys() == alone.direction.keys(), name
            assert is_trained_on, name
    assert all(every[0][name][1] == every[1][name][1] for name in every[0])
    assert "local minimum" in verdicts
