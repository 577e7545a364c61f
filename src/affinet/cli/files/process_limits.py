"""Limit the memory and the time of a process that reads a file which may be damaged."""

from __future__ import annotations

import sys


def limit_resources(seconds: int, memory: int) -> None:
    """Limit the seconds of the processor and the bytes of memory of this process; Windows has no such limits."""
    if sys.platform == "win32":
        return
    import resource

    for resource_kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CORE, 0),
    ):
        highest = resource.getrlimit(resource_kind)[1]
        value = value if highest == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(resource_kind, (value, value))
