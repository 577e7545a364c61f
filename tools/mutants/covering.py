"""Which tests run which line, and how long each takes: measured once by coverage.py, kept in a JSON file."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

QUIETLY = ("-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-p", "no:xdist")


@dataclass(frozen=True)
class Coverage:
    """`seconds[test]` of processor time, and `tests[file][line]`: numbers of tests, as they stand in `seconds`."""

    seconds: dict[str, float]
    tests: dict[str, dict[str, list[int]]]


class _Watching:
    """A pytest plugin: every test is a context of its own, its set-up and tear-down counted in."""

    def __init__(self, measured: object) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, bool, bool]:
        self.measured.switch_context(item.nodeid)  # type: ignore[attr-defined]
        start = time.process_time()
        done = yield
        self.seconds[item.nodeid] = round(time.process_time() - start, 4)
        self.measured.switch_context("")  # type: ignore[attr-defined]
        return done


def measure(root: Path, folders: Sequence[str], tests: Sequence[str]) -> Coverage:
    """Run `tests` in this process and note the lines of the files below `folders` that each runs.

    Lines that run once and are kept (`functools.cache`, fixtures of a module) count for the test that ran them first.
    Errors: `SystemExit` where a test fails: a suite that is red tells nothing about mutants.
    """
    import coverage

    measured = coverage.Coverage(
        data_file=None, include=[f"{root / folder}/*" for folder in folders], config_file=False
    )
    watching = _Watching(measured)
    measured.start()
    outcome = pytest.main([*QUIETLY, *tests], plugins=[watching])
    measured.stop()
    if outcome is not pytest.ExitCode.OK:
        raise SystemExit(f"the tests have to pass before they can tell anything about mutants: {outcome!r}")
    number = {test: place for place, test in enumerate(watching.seconds)}
    data = measured.get_data()
    return Coverage(
        watching.seconds,
        {
            str(Path(file).resolve().relative_to(root)): {
                str(line): sorted(number[context] for context in contexts if context)
                for line, contexts in sorted(data.contexts_by_lineno(file).items())
            }
            for file in sorted(data.measured_files())
        },
    )


def together(old: Coverage, new: Coverage) -> Coverage:
    """Both, where tests that were measured again count as the second time."""
    seconds = old.seconds | new.seconds
    number = {test: place for place, test in enumerate(seconds)}
    tests: dict[str, dict[str, list[int]]] = {}
    for found, left_out in ((old, new.seconds), (new, {})):
        names = list(found.seconds)
        for file, lines in found.tests.items():
            for line, runs in lines.items():
                told = [number[names[run]] for run in runs if names[run] not in left_out]
                tests.setdefault(file, {}).setdefault(line, []).extend(told)
    return Coverage(seconds, tests)


def keep(found: Coverage, path: Path) -> None:
    """Write what was measured, for `recall`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(found)), encoding="utf-8")


def recall(path: Path) -> Coverage:
    """What `keep` wrote."""
    return Coverage(**json.loads(path.read_text(encoding="utf-8")))
