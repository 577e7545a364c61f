"""Rules are kept while workers of a data loader are forked or spawned, and the training is the same bit for bit."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from tests.kernels.dangerous import ran


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_data_come_from_workers_while_rules_are_attached(method: str) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {method}")
    assert ran(str(Path(__file__).with_name("loading.py")), method) == "True True\n"
