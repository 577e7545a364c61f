"""Steps on arrays that are split over four devices: those of one device, and no device gathers whole weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NAMES = (
    "sums along the devices",
    "sums on each device",
    "sums both ways",
    "tied matrices",
    "tied matrices of split columns",
    "opposite parts of matrices",
    "a transposed tie",
    "three tied matrices",
    "three tied matrices, one transposed",
    "three tied matrices and other ties",
    "four tied entries",
    "a small dense rule",
    "bounds",
    "bounds of split columns",
    "a bound per entry",
)


@cache
def found() -> dict[str, dict[str, Any]]:
    """What one process of four devices writes: the number of devices is chosen before JAX starts."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "PYTHONPATH": path}
    command = [sys.executable, "-m", "tests.integrations.sharded_steps"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    written: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return written


@pytest.mark.parametrize("name", NAMES)
def test_steps_on_split_arrays_are_those_of_one_device(name: str) -> None:
    """In float32: sums of 256 entries below five are added up in another order, in each of three steps."""
    report = found()[name]
    assert report["apart"] <= 3 * 16 * 5 * 2.0**-23
    assert report["gap"] <= 256 * 5 * 2.0**-23
    assert report["split"], "the weights are no longer split"


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("three")])
def test_means_of_three_weights_have_the_bits_of_one_device(name: str) -> None:
    """Each entry is computed from the same numbers by the same operations; Adam rounds otherwise in other programs."""
    assert found()[name]["same bits"]


@pytest.mark.parametrize("name", NAMES)
def test_no_device_gathers_weights(name: str) -> None:
    assert found()[name]["gathered"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_devices_exchange_only_what_is_transposed(name: str) -> None:
    """A device that holds a fourth of the rows of both sides needs a fourth of the other columns, of both at a time."""
    most = 2 * 256 * 256 // 4 if "transposed" in name else 0
    assert found()[name]["exchanged"] <= most
