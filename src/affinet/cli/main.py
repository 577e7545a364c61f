"""The door of the command line: it opens only where the `cli` extra is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.util import find_spec

NEEDED = ("typer", "rich", "pydantic", "polars", "sklearn", "filelock")


def app() -> None:
    """Run the `affinet` command; exit status 2 and the way out where the `cli` extra is missing, 130 on Ctrl-C."""
    missing = missing_packages(NEEDED)
    if missing:
        sys.stderr.write(
            f"error: the affinet command needs packages that are not installed: {', '.join(missing)}. "
            f'Install them with: pip install "affinet[cli]"\n'
        )
        raise SystemExit(2)
    try:
        from affinet.cli.commands import commands

        commands()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted.\n")
        raise SystemExit(130) from None


def missing_packages(names: Iterable[str]) -> list[str]:
    """Those of `names` that cannot be imported here, without importing them."""
    return [name for name in names if find_spec(name) is None]
