"""What every test shares: seeds, two hypothesis profiles, and the processor that factors are computed as if on.

The profile `ci` repeats itself exactly, `explore` looks further. `AFFINET_ROUNDING=7` rounds factors at random
(`tests/rounding.py`), another way for each number.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same random state; torch only where a test module has imported it.

    Numbers below the smallest normal one are numbers: what torch 2.5 compiles with -ffast-math turns them off for good.
    """
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  (scikit-learn and scipy read the global state)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(autouse=True)
def processor() -> Iterator[None]:
    """Run every test on another processor where `AFFINET_ROUNDING` says on which."""
    seed = os.environ.get("AFFINET_ROUNDING")
    if seed is None:
        yield
        return
    from tests.rounding import another_processor

    with another_processor(int(seed)):
        yield
