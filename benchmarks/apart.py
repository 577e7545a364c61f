"""A measurement in an interpreter of its own: one that dies or takes too long leaves what it had found until then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

MARK = "found: "
"""Starts a line that holds a value as JSON; libraries print what they like."""


def tell(value: Mapping[str, Any]) -> None:
    """Hand a value to the process that asked."""
    print(MARK + json.dumps(value), flush=True)


def ask(module: str, *arguments: str, longest: float) -> tuple[list[dict[str, Any]], str]:
    """What `python -m module …` told within `longest` seconds, and why it did not finish ("" if it did)."""
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=longest, check=False)
    except subprocess.TimeoutExpired as late:
        return _told(late.stdout), f"not done within {longest:.0f} s"
    if not done.returncode:
        return _told(done.stdout), ""
    said = done.stderr.decode(errors="replace").strip().splitlines() or [f"ended with status {done.returncode}"]
    return _told(done.stdout), f"failed: {said[-1]}"[:200]


def _told(printed: bytes | None) -> list[dict[str, Any]]:
    lines = (printed or b"").decode(errors="replace").splitlines()
    return [json.loads(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]
