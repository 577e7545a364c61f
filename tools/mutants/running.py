"""One mutant, tried: a child of this warm process imports the changed file from memory and runs its tests.

Nothing is written into the source tree. The parent has imported torch, scipy, numba and hypothesis but not affinet, and
has started no threads, so that a fork is a fresh start without the seconds that imports take. numba keeps machine code
by the file it came from and does not see that a function it called has changed: mutants of compiled loops get an
empty cache of their own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Literal

import pytest

from tools.mutants.covering import QUIETLY

Fate = Literal["killed", "survived", "out of time", "no test"]
MEMORY = 16 << 30
OUR_OWN_FAULT = 70
# pytest would like to rewrite the assertions of plugins that the parent has imported.
ALREADY_IMPORTED = ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
WARM = ("hypothesis", "numba", "numba.core.types", "numpy", "safetensors.numpy", "scipy.linalg", "scipy.sparse.csgraph",
        "scipy.sparse.linalg", "torch", "torch.nn.utils.parametrize")  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """What became of a mutant: `by` is the test, or the moment, that killed it."""

    fate: Fate
    by: str
    seconds: float


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads a module whose text is not the text of its file."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.text, self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Answers for one module and leaves the others to the finders after it."""

    def __init__(self, name: str, path: Path, text: str) -> None:
        self.name, self.path, self.text = name, path, text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        folder = [str(self.path.parent)] if self.path.name == "__init__.py" else None
        loader = _Changed(fullname, str(self.path), self.text)
        return importlib.util.spec_from_file_location(
            fullname, self.path, loader=loader, submodule_search_locations=folder
        )


class _Watching:
    """A pytest plugin: runs the chosen tests alone, in the order they were chosen in, and says which one fails."""

    def __init__(self, chosen: Sequence[str], says: Path) -> None:
        self.place = {test: place for place, test in enumerate(chosen)}
        self.says = says

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if item.nodeid in self.place]
        items[:] = sorted(kept, key=lambda item: self.place[item.nodeid])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.says.write_text(json.dumps(report.nodeid), encoding="utf-8")

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.says.write_text(json.dumps(f"importing {report.nodeid}"), encoding="utf-8")


def warm_up() -> None:
    """Import what every test needs and no mutant changes, and leave it out of the children's garbage collection."""
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()


def try_out(
    module: str, path: Path, text: str, chosen: Sequence[str], *, limit: float, fresh_loops: bool = False
) -> Trial:
    """Run `chosen` on the module with another text, at most `limit` seconds of processor time, and ten times the clock.

    Processor time, so that a busy machine ends no healthy child.
    """
    assert "affinet" not in sys.modules, "the child would not import the mutant"
    folder = Path(tempfile.mkdtemp(prefix="mutant-"))
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(_Finder(module, path, text), chosen, folder, limit, fresh_loops)
    status = _waited_for(child, 10 * limit)
    says = folder / "says"
    if status in (OUR_OWN_FAULT, pytest.ExitCode.USAGE_ERROR):
        raise RuntimeError((folder / "output").read_text(encoding="utf-8"))
    by = json.loads(says.read_text(encoding="utf-8")) if says.exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    return Trial(*_verdict(status, by), round(time.monotonic() - start, 2))


def _run(finder: _Finder, chosen: Sequence[str], folder: Path, limit: float, fresh_loops: bool) -> None:
    """What the child does; it never returns."""
    outcome = OUR_OWN_FAULT
    try:
        os.setsid()
        spent = int(resource.getrusage(resource.RUSAGE_SELF).ru_utime)
        resource.setrlimit(resource.RLIMIT_CPU, (spent + int(limit) + 1, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        silent = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        if fresh_loops:
            import numba

            numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = str(folder / "loops")
        sys.meta_path.insert(0, finder)
        files = list(dict.fromkeys(test.partition("::")[0] for test in chosen))
        arguments = [*QUIETLY, *ALREADY_IMPORTED, "-x", f"--basetemp={folder / 'files'}", *files]
        outcome = int(pytest.main(arguments, plugins=[_Watching(chosen, folder / "says")]))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(outcome)


def _waited_for(child: int, limit: float) -> int | None:
    """The child's exit status, negative for a signal; None where it ran out of time and was ended."""
    until = time.monotonic() + limit
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _verdict(status: int | None, by: str) -> tuple[Fate, str]:
    if status is None or status == -signal.SIGXCPU:
        return "out of time", by
    match status:
        case pytest.ExitCode.OK:
            return "survived", ""
        case pytest.ExitCode.NO_TESTS_COLLECTED:
            return "no test", ""
    return "killed", by or f"exit status {status}"
