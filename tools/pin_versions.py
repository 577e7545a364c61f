"""Print the versions that are installed of everything that some extras of affinet bring, as constraints for pip.

`make constraints` writes constraints/ with it, from fresh installations of the newest versions. Each pin holds on the
Pythons that these versions have wheels for; a newer Python gets the newest versions of what it knows.

    python tools/pin_versions.py test check trainers docs browser   the pins
    python tools/pin_versions.py --requirements keras-tf   what affinet and the extra ask for, without torch, for pip
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
OLDEST = (3, 11)
"""Pins are made on the oldest Python that affinet promises: later ones have these versions too."""
UNKNOWN = "3.15"
"""The first Python that these versions have no wheels for."""


def pins(extras: Iterable[str]) -> dict[str, str]:
    """Package → version of what the extras need and of what that needs, as installed; affinet itself left out."""
    found: dict[str, str] = {}
    waiting = [("affinet", extra) for extra in ("", *extras)]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        for need in _needs(name, extra):
            own = canonicalize_name(need.name)
            if own != "affinet":
                try:
                    version = distribution(own).version
                except PackageNotFoundError:
                    continue  # of another platform
                found[own] = Version(version).public  # 2.14.1+cpu is 2.14.1 elsewhere
            more = {(own, extra) for extra in ("", *need.extras)} - seen
            seen |= more
            waiting += more
    return found


def _needs(name: str, extra: str) -> list[Requirement]:
    """What a package, or an extra of it, asks for on this machine."""
    if name == "affinet":
        project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
        listed = project["optional-dependencies"][extra] if extra else project["dependencies"]
        wanted = [Requirement(text) for text in listed]
    else:
        wanted = [Requirement(text) for text in distribution(name).requires or []]
    return [need for need in wanted if need.marker is None or need.marker.evaluate({"extra": extra})]


def requirements_without_torch(extras: Iterable[str]) -> list[str]:
    """What affinet and some extras of it ask for, except torch: TensorFlow and torch crash in one process."""
    needs = [need for extra in ("", *extras) for need in _needs("affinet", extra)]
    return [str(need) for need in needs if canonicalize_name(need.name) not in ("affinet", "torch")]


def main(arguments: list[str]) -> None:
    """Print the pins of some extras, or what they ask for without torch."""
    extras = [name for name in arguments if not name.startswith("--")]
    if "--requirements" in arguments:
        print(*requirements_without_torch(extras), sep="\n")
        return
    if sys.version_info[:2] != OLDEST:
        raise SystemExit(f"pins are made on Python {'.'.join(map(str, OLDEST))}; this is {sys.version.split()[0]}.")
    print(f"# What pip installs for the extras {', '.join(extras)}: written by `make constraints`, not by hand.")
    for name, version in sorted(pins(extras).items()):
        print(f'{name}=={version}; python_version < "{UNKNOWN}"')


if __name__ == "__main__":
    main(sys.argv[1:])
