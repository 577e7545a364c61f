"""Find Chromium, or install Debian's where root asks, and print its path: `make browser` tests pages in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
INSTALL = (("apt-get", "update"), ("apt-get", "install", "--yes", "--no-install-recommends", "chromium"))


def find_chromium() -> str | None:
    """The path of Chromium: what CHROMIUM names, or the first of its usual names on the PATH; else None."""
    if named := os.environ.get("CHROMIUM"):
        return named if Path(named).is_file() else None
    return next((path for name in NAMES if (path := shutil.which(name)) is not None), None)


def may_install() -> bool:
    """Whether Debian's packages may be installed: by root, where apt-get is, and CHROMIUM does not name another one."""
    return not os.environ.get("CHROMIUM") and shutil.which("apt-get") is not None and os.geteuid() == 0


def main() -> str | None:
    """Print the path; return a sentence where there is none and none can be installed."""
    if find_chromium() is None and may_install():
        for command in INSTALL:
            # The path alone goes to the standard output.
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
                break
    if (path := find_chromium()) is None:
        return (
            "Chromium is not here, and make browser tests pages in it: install it (on Debian and Ubuntu by "
            "`sudo apt-get update && sudo apt-get install chromium`), or name its program: make browser CHROMIUM=/path."
        )
    print(path)
    return None


if __name__ == "__main__":
    sys.exit(main())
