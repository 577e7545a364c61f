"""Folders of torch.distributed.checkpoint: read piece by piece, without torch, and without running what is in them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp

import affinet as library
from affinet.cli.files import distributed_weights
from affinet.cli.files.modelfile import open_model
from affinet.cli.files.pickled_records import Named, Record, pickled_records
from affinet.errors import ModelFileError
from tests.cli.conftest import Command

A = torch.arange(12.0).reshape(3, 4) / 8


# torch says that one process saves and loads alone.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def save(folder: Path, state: dict[str, Any]) -> Path:
    dcp.save(state, checkpoint_id=folder, no_dist=True)
    return folder


def read(folder: Path, name: str = "a") -> np.ndarray[Any, Any]:
    with open_model(folder) as model:
        return np.asarray(model.weights(frozenset([name]))[name].numbers).reshape(model.stored[name].shape)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["plain", "transposed", "part", "number", "empty"])
def test_tensors_are_read_as_torch_loads_them(tmp_path: Path, dtype: torch.dtype, layout: str) -> None:
    base = A.to(dtype)
    a = {
        "plain": base, "transposed": base.T, "part": base[1:, 1:3], "number": base[1, 2], "empty": base[:0],
    }[layout]  # fmt: skip
    folder = save(tmp_path / "saved", {"model": {"a": a, "b": torch.ones(2)}, "optimizer": {"step": 3, "lr": "x"}})
    loaded = {"model": {"a": torch.full(a.shape, 7.0, dtype=dtype)}}
    dcp.load(loaded, checkpoint_id=folder, no_dist=True)
    for name in ("a", "model.a"):
        assert np.array_equal(read(folder, name), loaded["model"]["a"].double().numpy())


def test_verify_judges_a_folder_without_torch(tmp_path: Path) -> None:
    save(tmp_path / "saved", {"model": {"a": A}})
    w: Any = library.weights({"a": (3, 4)})
    for name, rule in (("holds", w.a[1] == w.a[0] + 0.5), ("fails", w.a == 0)):
        library.plan(rule).save(tmp_path / name)
    code = (
        "import sys\nfrom affinet.cli.main import app\nsys.argv = ['affinet', 'verify', *sys.argv[1:]]\n"
        "try: app()\nexcept SystemExit as exit: print(exit.code, 'torch' in sys.modules)"
    )
    for name, status in (("holds", "0"), ("fails", "1")):
        command = [sys.executable, "-c", code, str(tmp_path / "saved"), str(tmp_path / name)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)
        assert ran.stdout.split("\n")[-2] == f"{status} False", ran.stdout


def test_other_types_are_refused_by_name(affinet: Command, tmp_path: Path) -> None:
    save(tmp_path / "saved", {"a": A.to(torch.float8_e4m3fn)})
    library.plan(library.weights({"a": (3, 4)})["a"] == 0).save(tmp_path / "plan")
    result = affinet("verify", tmp_path / "saved", tmp_path / "plan")
    assert (result.exit_code, "a in" in result.stderr) == (2, True)
    assert "is of type torch.float8_e4m3fn; rules are about weights of F64, F32, F16 or BF16" in result.stderr


def test_a_folder_of_torch_2_14_is_read() -> None:
    folder = Path(__file__).parent / "weights" / "checkpoint"
    assert np.array_equal(read(folder), np.arange(6.0).reshape(2, 3) / 8)
    assert np.array_equal(read(folder, "model.b"), np.ones(3))


class Hostile:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (f"{os.environ['HOSTILE']}/ran",)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOSTILE", str(tmp_path))
    folder = save(tmp_path / "saved", {"a": A})
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    metadata.planner_data = Hostile()
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    assert np.array_equal(read(folder), A.numpy())
    (folder / ".metadata").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ModelFileError, match="is not a readable checkpoint of torch"):
        read(folder)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Hostile()))
    assert (tmp_path / "ran").exists()


def changed(folder: Path, change: Callable[[Any], object]) -> Path:
    save(folder, {"a": A, "b": A + 1})
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    change(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def chunk(metadata: Any) -> Any:
    return metadata.state_dict_metadata["a"].chunks[0]


def swapped(metadata: Any) -> None:
    first, second = (index for index in metadata.storage_data if index.fqn in ("a", "b"))
    metadata.storage_data[first] = metadata.storage_data[second]
    metadata.state_dict_metadata["a"].size = torch.Size([4, 3])
    chunk(metadata).sizes = torch.Size([4, 3])


def twice(metadata: Any) -> None:
    metadata.state_dict_metadata["a"].chunks.append(chunk(metadata))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: setattr(chunk(m), "sizes", torch.Size([3, 3])), "does not list all entries of 'a' once: its 1 "),
        (lambda m: setattr(chunk(m), "offsets", torch.Size([1, 0])), "does not list all entries of 'a' once"),
        (twice, "does not list all entries of 'a' once: its 2 pieces leave gaps or overlap"),
        (swapped, "lists a piece of 'a' of shape (4, 3), and "),
        (lambda m: m.storage_data.clear(), "and names no file for it"),
    ],
)  # fmt: skip
def test_tables_that_lie(tmp_path: Path, change: Any, told: str) -> None:
    folder = changed(tmp_path / "saved", change)
    with pytest.raises(ModelFileError) as caught:
        read(folder)
    assert told in str(caught.value)


@pytest.mark.parametrize("size", [0, 100, 700])
def test_files_that_end_too_early(tmp_path: Path, size: int) -> None:
    folder = save(tmp_path / "saved", {"a": A})
    for name in ("__0_0.distcp", ".metadata"):
        with (folder / name).open("rb+") as file:
            file.truncate(size)
        with pytest.raises(ModelFileError):
            read(folder)


def test_pickled_data_becomes_records() -> None:
    made = pickled_records(
        pickle.dumps({"size": torch.Size([2, 3]), "path": Path("x"), "numbers": [1, -2, 2**40, 0.5]})
    )
    fields = made.by_text()
    assert (fields["size"].name, fields["size"].arguments) == ("torch.Size", ((2, 3),))
    assert isinstance(fields["path"], Record)
    assert fields["numbers"] == [1, -2, 2**40, 0.5]
    assert pickled_records(pickle.dumps(os.mkdir)) == Named(f"{os.mkdir.__module__}.mkdir")


def test_pieces_of_a_weight_are_those_of_its_box() -> None:
    tiles = distributed_weights._tiles
    assert tiles((4, 2), [((0, 0), (3, 2)), ((3, 0), (1, 2))])
    assert tiles((), [((), ())])
    assert tiles((0, 3), [])
    assert not tiles((4, 2), [((0, 0), (3, 2)), ((2, 0), (1, 2))])
    assert not tiles((4, 2), [((0, 0), (3, 2))])
    assert not tiles((4, 2), [((0, 0), (4, 1)), ((0, 2), (4, 1))])
