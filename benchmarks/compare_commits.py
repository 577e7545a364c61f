"""The hooks of this tree against those of another commit, in one run: `python -m benchmarks.compare_commits REV`.

The other commit is checked out into a temporary folder, and benchmarks/small_model.py of this tree runs on both by
turns, each time in a new interpreter.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.small_model import Overhead

ROOT = Path(__file__).parents[1]


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """A folder with the files of that commit, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(tree), revision], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def overhead_in(tree: Path) -> Overhead:
    """The overhead of the affinet in that tree. Raises RuntimeError if another one was imported."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.small_model"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tree / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    imported = Path(found.pop("affinet"))
    if not imported.is_relative_to(tree / "src"):
        raise RuntimeError(f"measured {imported}, which is not in {tree}")
    return Overhead(**found)


def main(
    revision: Annotated[str, typer.Argument(help="A commit, branch or tag to compare with.")],
    runs: Annotated[int, typer.Option(help="Runs of each tree, by turns.")] = 5,
) -> None:
    """Print the medians of both trees, and their ratios."""
    found: dict[str, list[Overhead]] = {revision: [], "this tree": []}
    with checked_out(revision) as tree:
        for number in range(runs):
            sides = {revision: tree, "this tree": ROOT}
            for name in sides if number % 2 else reversed(sides):
                found[name].append(overhead_in(sides[name]))
    medians = {
        name: (
            statistics.median(one.ruled / one.stock for one in overheads),
            statistics.median(one.hooks for one in overheads),
        )
        for name, overheads in found.items()
    }
    for name, (ratio, hooks) in medians.items():
        print(f"{name:20} step with rules over step without {ratio:5.2f}   hooks {hooks * 1e6:6.1f} µs a step")
    print(f"hooks, this tree over {revision}: {medians['this tree'][1] / medians[revision][1]:.2f}")


if __name__ == "__main__":
    typer.run(main)
