"""Which mutants are tried, and by which tests."""

from __future__ import annotations

import ast
import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tools.mutants.covering import Coverage
from tools.mutants.making import Mutant, mutants_of

# A test that mirrors the file is tried before one from elsewhere that takes a fifth of its time.
NEARER = 5.0


def all_mutants(root: Path, folders: Sequence[str], kept: Path, part: str = "") -> dict[str, list[Mutant]]:
    """The mutants of every file below `folders` with `part` in its path, by file.

    What was made of the same text before is read from `kept`.
    """
    kept.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[Mutant]] = {}
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        name, text = str(path.relative_to(root)), path.read_text(encoding="utf-8")
        if part not in name:
            continue
        made = kept / f"{hashlib.sha256((name + text).encode()).hexdigest()[:24]}.json"
        if not made.exists():
            made.write_text(json.dumps([asdict(mutant) for mutant in mutants_of(name, text)]), encoding="utf-8")
        found[name] = [Mutant(**fields) for fields in json.loads(made.read_text(encoding="utf-8"))]
    return found


def sampled(found: Mapping[str, Sequence[Mutant]], size: int | None, seed: int) -> list[Mutant]:
    """`size` mutants, as many from each file as its share of all, drawn without putting back; all of them for None.

    Every mutant is as likely as any other, so that the share of killed ones is an estimate without weights, and it
    varies no more than that of a simple sample.
    """
    total = sum(len(mutants) for mutants in found.values())
    if size is None or size >= total:
        return [mutant for mutants in found.values() for mutant in mutants]
    shares = {file: size * len(mutants) / total for file, mutants in found.items()}
    dice = random.Random(seed)
    # Systematic rounding: file k gets the whole numbers that lie in its stretch of a line, shifted at random.
    place = dice.random()
    drawn: list[Mutant] = []
    for file, share in shares.items():
        count = int(place + share) - int(place)
        place += share
        drawn += sorted(dice.sample(list(found[file]), min(count, len(found[file]))), key=lambda mutant: mutant.start)
    return drawn


def tests_of(mutant: Mutant, coverage: Coverage, root: Path, budget: float) -> tuple[list[str], float]:
    """The tests that run the mutant's lines, near and quick ones first, up to `budget` seconds, and what they take.

    Lines that run when the module is imported are run by all tests of the file; of loops that numba compiles no line
    is seen to run: the tests of the files that call them are taken.
    """
    names = list(coverage.seconds)
    runs = [names[number] for number in sorted(_runners(mutant, coverage, root))]
    runs.sort(key=lambda test: coverage.seconds[test] * (1.0 if _near(test, mutant.file) else NEARER))
    chosen: list[str] = []
    seconds = 0.0
    for test in runs:
        if chosen and seconds + coverage.seconds[test] > budget:
            break
        chosen.append(test)
        seconds += coverage.seconds[test]
    return chosen, seconds


def compiled_by_numba(file: str) -> bool:
    """Whether the file holds loops that run as machine code."""
    return "/kernels/loops/" in file


def _runners(mutant: Mutant, coverage: Coverage, root: Path) -> set[int]:
    if compiled_by_numba(mutant.file):
        called = set().union(*(_of_lines(coverage, file) for file in _callers(mutant.file, root)))
        return called | _importing(mutant.file, coverage, root)
    span = range(mutant.first, mutant.last + 1)
    at_import = any(str(line) in coverage.tests.get(mutant.file, {}) for line in span)
    return _of_lines(coverage, mutant.file, span) or (_of_lines(coverage, mutant.file) if at_import else set())


def _of_lines(coverage: Coverage, file: str, lines: range | None = None) -> set[int]:
    measured = coverage.tests.get(file, {})
    chosen = measured.values() if lines is None else (measured.get(str(line), []) for line in lines)
    return set().union(*chosen)


def _importing(file: str, coverage: Coverage, root: Path) -> set[int]:
    """The tests that call the loops of a file by hand."""
    files = {test.partition("::")[0] for test in coverage.seconds}
    direct = {each for each in files if (root / each).exists() and module_of(file) in _imported(root / each)}
    return {number for number, test in enumerate(coverage.seconds) if test.partition("::")[0] in direct}


def _callers(file: str, root: Path) -> set[str]:
    """The files outside the folder of loops that import `file`, directly or through another loop."""
    paths = (root / "src" / "affinet" / "kernels").rglob("*.py")
    imports = {str(path.relative_to(root)): _imported(path) for path in paths}
    reached, open_ends = {file}, [file]
    while open_ends:
        module = module_of(open_ends.pop())
        new = {other for other, modules in imports.items() if module in modules} - reached
        reached |= new
        open_ends += [other for other in new if compiled_by_numba(other)]
    return {other for other in reached if not compiled_by_numba(other)}


def module_of(file: str) -> str:
    """What `import` calls the file."""
    return file.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def _near(test: str, file: str) -> bool:
    """Whether the test's file is named after the source file or its folder."""
    test_file, source = Path(test.partition("::")[0]).stem, Path(file)
    return test_file.startswith((f"test_{source.stem}", f"test_{source.parent.name}"))
