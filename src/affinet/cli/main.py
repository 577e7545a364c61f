"""Start the command line, or say which packages of the `cli` extra are missing."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from typing import NoReturn

PACKAGES = ("typer", "rich", "pydantic", "polars", "sklearn", "filelock")

GC_THRESHOLDS = (50_000, 20, 20)
"""Thresholds of the garbage collector. A short command creates little but modules, which live until its end: searching
them for garbage 50 times, as Python's default thresholds do, takes a seventh of `affinet check`."""


def app() -> None:
    """Run the `affinet` command; exit status 2 where the `cli` extra is missing, 130 on Ctrl-C."""
    try:
        _run()
    except SystemExit as ended:
        if "RANK" in os.environ and "torch.distributed" in sys.modules:
            _end_at_once(ended.code)
        raise


def _end_at_once(code: object) -> NoReturn:
    """End one of several processes without the end of the interpreter.

    Threads of torch.distributed that want the interpreter while it ends abort the process ("terminate called without an
    active exception"): a finished training would be a failed one to torchrun, and a failed one would have that status.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _run() -> None:
    missing = missing_packages(PACKAGES)
    if missing:
        sys.stderr.write(
            f"error: the affinet command needs packages that are not installed: {', '.join(missing)}. "
            f'Install them with: pip install "affinet[cli]"\n'
        )
        raise SystemExit(2)
    thresholds = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    atexit.register(gc.freeze)  # the process ends: a last collection would be wasted time
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
