from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz.judging import MEMORY, judge, peak_memory
from tests.fuzz.target import CORPUS, Target
from tests.fuzz.targets import NAMED, TARGETS

CORPUS_FILES = [path for target in TARGETS for path in target.inputs()]


def assert_read_or_refused(target: Target, path: Path) -> None:
    finding = judge(target, path, peak_memory() + MEMORY)
    assert finding is None, f"{path.name}: {finding}\n{finding.details}\n{path.read_bytes()[:2000]!r}"


@pytest.mark.parametrize("path", CORPUS_FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_input_of_the_corpus_is_read_or_refused(path: Path) -> None:
    assert_read_or_refused(NAMED[path.parent.name], path)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_seeds_are_read(target: Target) -> None:
    """A corpus that is refused at the door would find nothing behind it."""
    read = 0
    for path in target.corpus.glob("seed-*"):
        try:
            target.read(path)
        except target.refusals:
            continue
        read += 1
    assert read >= 2, f"{read} seeds of {target.name} are read"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_changed_inputs_are_read_or_refused(target: Target, tmp_path: Path) -> None:
    random = Random(target.name)
    inputs = [path.read_bytes() for path in target.inputs()]
    path = tmp_path / f"input{target.suffix}"
    for _ in range(target.changes):
        path.write_bytes(target.mutate(random.choice(inputs), random)[: 2**16])
        assert_read_or_refused(target, path)


def test_the_corpus_has_a_folder_for_each_target_and_no_other() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(NAMED)
