"""The door of the command line: it opens only where the `cli` extra is installed."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterable
from importlib.util import find_spec

NEEDED = ("typer", "rich", "pydantic", "polars", "sklearn", "filelock")

MADE_BETWEEN = (50_000, 20, 20)
"""Thresholds of the garbage collector. A short command makes little besides modules, which live on: looking through
them for garbage 50 times, as Python's own thresholds ask for, takes a seventh of `affinet check`."""


def app() -> None:
    """Run the `affinet` command; exit status 2 and the way out where the `cli` extra is missing, 130 on Ctrl-C."""
    missing = missing_packages(NEEDED)
    if missing:
        sys.stderr.write(
            f"error: the affinet command needs packages that are not installed: {', '.join(missing)}. "
            f'Install them with: pip install "affinet[cli]"\n'
        )
        raise SystemExit(2)
    thresholds = gc.get_threshold()
    gc.set_threshold(*MADE_BETWEEN)
    atexit.register(gc.freeze)  # the process ends: nothing has to be looked through once more
    try:
        from affinet.cli.commands import commands

        commands()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted.\n")
        raise SystemExit(130) from None
    finally:
        gc.set_threshold(*thresholds)


def missing_packages(names: Iterable[str]) -> list[str]:
    """Those of `names` that cannot be imported here, without importing them."""
    return [name for name in names if find_spec(name) is None]
