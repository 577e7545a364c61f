"""A checkpoint of torch.distributed.checkpoint holds what a training under rules has: on any number of processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from affinet.cli.files.modelfile import open_model
from tests.shards.gang import together


def test_a_checkpoint_of_two_processes_is_read_by_others_to_the_bit(tmp_path: Path) -> None:
    # Cells of rows are on one process, those of the polyhedron on several.
    kinds = ("simplices", "chains", "polyhedron")
    folder = str(tmp_path / "checkpoint")
    written = together(2, "tests.shards.checkpoints:saved", folder, kinds, 3, 3)
    then, after = written[0]
    assert bool(then["0 /started"])
    assert bool(then["0 /y/second.weight"].any())
    with open_model(tmp_path / "checkpoint") as model:  # as `affinet verify` reads it, in one process and without torch
        names = [name for name in then if " " not in name]
        for name, weight in model.weights(frozenset(names)).items():
            assert np.array_equal(np.asarray(weight.numbers), then[name].numpy().reshape(-1))
    for world in (1, 2, 3):
        for read, later in together(world, "tests.shards.checkpoints:loaded", folder, kinds, 3):
            assert read.keys() == then.keys()
            assert all(torch.equal(number, read[name]) for name, number in then.items())
            if world == 2:
                assert all(torch.equal(number, later[name]) for name, number in after.items())


@pytest.mark.parametrize("kinds", [("not negative",), ("orthogonal", "row sums")], ids=str)
def test_a_checkpoint_before_the_first_step_is_read(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    folder = str(tmp_path / "checkpoint")
    written = together(2, "tests.shards.checkpoints:saved", folder, kinds, 0, 2)
    for (then, after), (read, later) in zip(
        written, together(2, "tests.shards.checkpoints:loaded", folder, kinds, 2), strict=True
    ):
        assert all(torch.equal(number, read[name]) for name, number in then.items())
        assert all(torch.equal(number, later[name]) for name, number in after.items())
