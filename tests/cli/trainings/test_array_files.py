"""Arrays that come back from files to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from affinet.cli.trainings.array_files import files_of, kind_of, metadata_of, save_arrays

ARRAYS = {
    "a number": np.array(3, np.int32),
    "a state": np.arange(5, dtype=np.uint32),
    "across": np.arange(6.0).reshape(2, 3).T,
    "none": np.zeros((0, 2), np.float32),
    "a face": np.array([True, False]),
    "negative zero": np.array([-0.0], np.float16),
}


def test_arrays_come_back_with_their_shapes_and_dtypes(tmp_path: Path) -> None:
    save_arrays(ARRAYS, tmp_path / "file", {"epoch": "3"})
    loaded, files = files_of("numpy").load(tmp_path / "file"), files_of("numpy")
    assert metadata_of(tmp_path / "file") == {"epoch": "3"}
    assert loaded.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (loaded[name].shape, loaded[name].dtype) == (array.shape, array.dtype), name
        assert bytes(files.content(loaded[name])) == bytes(files.content(array)) == array.tobytes(), name


def test_tensors_are_stored_by_torch_and_named_as_before(tmp_path: Path) -> None:
    tensors = {"half": torch.tensor([1.5], dtype=torch.bfloat16), "scalar": torch.tensor(2)}
    assert kind_of(tensors.values()) == "torch"
    assert kind_of(ARRAYS.values()) == "numpy"
    save_arrays(tensors, tmp_path / "file", {})
    files = files_of("torch")
    loaded = files.load(tmp_path / "file")
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert files.dtype(loaded[name]) == str(tensor.dtype)
        assert bytes(files.content(loaded[name])) == bytes(files.content(tensor))
