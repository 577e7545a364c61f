from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from affinet.cli.runs import checkpoint
from affinet.cli.runs.checkpoint import FORMAT, Checkpoint, Damaged, read_checkpoint, write_checkpoint
from affinet.cli.runs.identity import Identity
from affinet.cli.trainings.snapshot import Packed, Snapshot
from affinet.cli.trainings.torch.keeping import Learner
from affinet.cli.trainings.torch.tensor_files import bits
from affinet.cli.trainings.torch.tensor_snapshot import put_back, take
from affinet.cli.trainings.training import Epoch, Progress
from affinet.system.malformed import Malformed

IDENTITY = Identity(job="1", plan="2", data="3")


def learner(seed: int = 0) -> tuple[Learner, torch.Generator]:
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1).to(torch.float64)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    return Learner(network, optimizer, 30), torch.Generator().manual_seed(seed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint in a file."""
    progress = Progress(Epoch(7, 0.1 + 0.2, 1 / 3, 5e-324), 2e-7, 12.5, 2.5)
    write_checkpoint(tmp_path / "a", Checkpoint(IDENTITY, progress, take(*learner())), previous=tmp_path / "b")
    return tmp_path / "a"


def test_a_checkpoint_comes_back_to_the_bit(path: Path) -> None:
    found = read_checkpoint(path)
    expected = take(*learner())
    assert found.identity == IDENTITY
    assert found.progress == Progress(Epoch(7, 0.1 + 0.2, 1 / 3, 5e-324), 2e-7, 12.5, 2.5)
    assert found.snapshot.optimizer.content == expected.optimizer.content
    assert list(found.snapshot.network) == sorted(expected.network)
    for name, tensor in expected.network.items():
        assert torch.equal(bits(found.snapshot.network[name]), bits(tensor)), name
    for one, other in zip(found.snapshot.optimizer.tensors, expected.optimizer.tensors, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(bits(one), bits(other))
    other, shuffling = learner(1)
    put_back(found.snapshot, other, shuffling)
    mine, _ = learner()
    assert all(
        torch.equal(one, other)
        for one, other in zip(mine.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    )


def test_a_file_that_was_cut_short_or_changed_anywhere_is_found(path: Path) -> None:
    whole, chance = path.read_bytes(), random.Random(0)
    for size in [0, 1, 8, 9, len(whole) - 1, *chance.sample(range(len(whole)), 40)]:
        path.write_bytes(whole[:size])
        with pytest.raises(
            Damaged, match=r"is not a readable checkpoint: |is not as it was written|does not hold a checkpoint"
        ):
            read_checkpoint(path)
    for place in chance.sample(range(len(whole)), 150):
        changed = bytearray(whole)
        changed[place] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        with pytest.raises(
            Damaged, match=r"is not a readable checkpoint|was changed after|does not hold|without a|of format"
        ):
            read_checkpoint(path)
    path.write_bytes(whole + b"more")
    with pytest.raises(Damaged, match="is not a readable checkpoint: "):
        read_checkpoint(path)


def test_pickles_weights_and_nothing_are_no_checkpoints(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2)}, tmp_path / "pickle")
    save_file({"a": torch.zeros(2)}, tmp_path / "weights")
    for name, reason in (
        ("pickle", "is not a readable"),
        ("none", "is not a readable"),
        ("weights", "without a checkpoint"),
    ):
        with pytest.raises(Damaged, match=reason):
            read_checkpoint(tmp_path / name)


def forged(path: Path, change: Any) -> Path:
    """The checkpoint with another description, its checksum made anew."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        said = json.loads(file.metadata()[FORMAT])
    change(said)
    said["checksum"] = checkpoint._checksum(said["description"], tensors, "torch")
    save_file(tensors, path, metadata={FORMAT: json.dumps(said)})
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda said: said.update(version=2), "is a checkpoint of format 2, and affinet .* reads 1"),
        (lambda said: said.update(version="1"), "does not hold a checkpoint: Input should be 1"),
        (lambda said: said["description"].pop("last"), "does not hold a checkpoint: Field required"),
        (lambda said: said["description"]["last"].update(number=0), "greater than or equal to 1"),
        (lambda said: said["description"].update(seconds="1"), "Input should be a valid number"),
        (lambda said: said["description"]["identity"].update(job=1), "Input should be a valid string"),
        (lambda said: said["description"].update(more=1), "Extra inputs are not permitted"),
    ],
)
def test_a_forged_description_is_refused(path: Path, change: Any, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        read_checkpoint(forged(path, change))


@pytest.mark.parametrize("text", ["[]", "{", "1", '{"version": 1}', "[" * 100_000])
def test_metadata_that_are_no_description_are_refused(tmp_path: Path, text: str) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "a", metadata={FORMAT: text})
    with pytest.raises(Damaged, match="does not hold a checkpoint: "):
        read_checkpoint(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda said: said["optimizer"].pop("settings"), "the optimizer lacks 'settings'"),
        (lambda said: said["optimizer"]["state"].update({"99": {}}), "a parameter is 99, not between 0 and 5"),
        (lambda said: said["optimizer"]["state"].update({"x": {}}), "a parameter is 'x', not an integer"),
        (lambda said: said["optimizer"]["state"].update({"0": []}), "0 is not a table"),
        (lambda said: said["optimizer"]["settings"].append({}), "are not those that it has"),
        (lambda said: said["optimizer"]["settings"][0].pop("lr"), "are not those that it has"),
        (lambda said: said["optimizer"]["settings"][0].update(lr={"tensor": 99}), "a tensor is 99, not between"),
        (lambda said: said["optimizer"]["state"]["0"].update(step={"tensor": 0, "order": [1]}), "has the order"),
        (lambda said: said["optimizer"]["state"]["0"].update(step={"tensor": 0, "device": "moon"}), "device 'moon'"),
        (lambda said: said["random"].pop("numpy"), "the random states lacks 'numpy'"),
        (lambda said: said["random"]["numpy"].update(position=10**6), "NumPy's position is 1000000, not between"),
        (lambda said: said["random"]["python"].update(gauss="x"), "Python's gauss is 'x', not a number"),
    ],
)
def test_a_forged_training_is_refused(path: Path, change: Any, reason: str) -> None:
    found = read_checkpoint(forged(path, lambda said: change(said["description"])))
    with pytest.raises(Malformed, match=reason):
        put_back(found.snapshot, *learner())


def test_random_states_that_are_none_are_refused(path: Path) -> None:
    found = read_checkpoint(path).snapshot
    first, second, *others = found.random.tensors
    for tensors in ([first, second], [first[:8], second, *others], [first, second, others[0][:9], others[1]]):
        broken = Snapshot(found.network, found.optimizer, Packed(found.random.content, tensors))
        with pytest.raises(Malformed, match="a random state is invalid: "):
            put_back(broken, *learner())


def test_the_checksum_is_sha_256_of_what_is_said_and_of_every_tensor() -> None:
    tensors = {"b": torch.tensor([1.0]), "a": torch.tensor(2, dtype=torch.int64)}
    expected = hashlib.sha256(b'{"x": 0.1}')
    expected.update(b"\na torch.int64 ()\n" + (2).to_bytes(8, "little"))
    expected.update(b"\nb torch.float32 (1,)\n" + b"\x00\x00\x80\x3f")
    assert checkpoint._checksum({"x": 0.1}, tensors, "torch") == expected.hexdigest()
