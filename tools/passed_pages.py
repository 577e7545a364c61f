"""Remember which pages have run, by a hash of the page and of all that its blocks import: code, examples, versions.

A fresh clone remembers nothing and runs every page, as `make long` always does.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMPORTED = ("src/affinet", "examples")
RUNNERS = ("tools/run_documents.py", "tools/passed_pages.py")


@dataclass
class PassedPages:
    """The pages that passed with the code and versions of now; without a path, none is remembered."""

    path: Path | None
    surroundings: str = ""
    pages: set[str] = field(default_factory=set)

    def has(self, text: str) -> bool:
        """Whether a page of this text has passed."""
        return _hash([self.surroundings, text]) in self.pages

    def add(self, text: str) -> None:
        """Remember a page, at once: a run that is interrupted keeps what it has done."""
        if self.path is not None:
            self.pages.add(_hash([self.surroundings, text]))
            stored = {"surroundings": self.surroundings, "pages": sorted(self.pages)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(stored), encoding="utf-8")


def read_passed(path: Path | None, root: Path = ROOT) -> PassedPages:
    """The pages in a file that passed with what is installed now; none where the file is missing, damaged or older."""
    if path is None:
        return PassedPages(None)
    surroundings = _surroundings(root)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        pages = set(stored["pages"]) if stored["surroundings"] == surroundings else set()
    except (OSError, ValueError, KeyError, TypeError):
        pages = set()
    return PassedPages(path, surroundings, pages)


def _surroundings(root: Path) -> str:
    files = [file for folder in IMPORTED for file in sorted((root / folder).rglob("*")) if file.is_file()]
    files = [file for file in files if "__pycache__" not in file.parts] + [root / name for name in RUNNERS]
    contents = [f"{file.relative_to(root)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files]
    versions = sorted(f"{each.metadata['Name']}=={each.version}" for each in distributions())
    return _hash([platform.python_version(), platform.machine(), *versions, *contents])


def _hash(texts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode("utf-8")).digest())
    return digest.hexdigest()
