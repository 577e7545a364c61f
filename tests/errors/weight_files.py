"""Weights in files and folders of NumPy, Keras, Flax, Orbax, transformers and torch, for `affinet verify`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np

import affinet
from affinet.cli.files import hdf_process
from affinet.cli.files.modelfile import open_model
from affinet.errors import ModelFileError
from affinet.system import unfolding
from affinet.system.layout import Layout
from tests.errors.case import case

LAYOUT = Layout.of(affinet.plan(affinet.weights({"dense/kernel": (2, 3)})["dense/kernel"] == 0).parameters)


def checked(path: Path) -> None:
    with open_model(path) as model:
        model.check(LAYOUT)


def keras_file(folder: Path, **names: str | None) -> Any:
    """A file of layers under the given keys, each of which has its name and a kernel."""
    file = h5py.File(folder / "model.weights.h5", "w")
    file.create_group("vars").attrs["name"] = "model"
    for key, name in names.items():
        group = file.create_group(f"layers/{key}/vars")
        group["0"] = np.zeros((2, 3), np.float32)
        if name is not None:
            group.attrs["name"] = name
    return file


@case(ModelFileError, "The path is wrong.", "Give the path of saved weights.")
def arrays_that_are_not_there(folder: Path) -> None:
    checked(folder / "weights.npz")


@case(ModelFileError, "A file of another kind with the name of an archive.", "Save it with `numpy.savez`.")
def weights_in_no_archive(folder: Path) -> None:
    (folder / "weights.npz").write_bytes(b"\x80\x04pickled")
    checked(folder / "weights.npz")


@case(ModelFileError, "A package that reads the file is not installed.", "Install it.")
def a_file_whose_reader_is_missing(folder: Path) -> None:
    (folder / "model.msgpack").write_bytes(b"\x80")
    with patch.dict(sys.modules, {"msgpack": None}):
        checked(folder / "model.msgpack")


@case(ModelFileError, "A zip archive that Keras did not write.", "Name a file that `model.save` wrote.")
def an_archive_without_weights(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    checked(folder / "model.keras")


@case(ModelFileError, "An archive that unfolds to very many numbers.", "Save the model again with `model.save`.")
def an_archive_that_unfolds_without_end(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2**20))
    with patch.object(unfolding, "MOST_UNFOLDED", 2**10):
        checked(folder / "model.keras")


@case(ModelFileError, "A file of an older version of Keras.", "Save the weights by name, in a `.npz` file.")
def layers_without_names(folder: Path) -> None:
    with keras_file(folder, dense=None):
        pass
    checked(folder / "model.weights.h5")


@case(ModelFileError, "A damaged file.", "Save the weights again.", foreign="(?<=weights: ).*(?=\\. Save)")
def a_damaged_file_of_keras(folder: Path) -> None:
    (folder / "model.weights.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(90))
    checked(folder / "model.weights.h5")


@case(ModelFileError, "A damaged file, at which HDF5 fails.", "Save the weights again.")
def a_file_that_ends_its_reader(folder: Path) -> None:
    with keras_file(folder, dense="dense"):
        pass
    with patch.object(hdf_process, "_PROGRAM", "import os; os.abort()"):
        checked(folder / "model.weights.h5")


@case(ModelFileError, "A layer of a class of your own.", "Save the weights by name, in a `.npz` file.")
def a_layer_of_another_class(folder: Path) -> None:
    with keras_file(folder, my_layer="mine"):
        pass
    checked(folder / "model.weights.h5")


@case(ModelFileError, "Two layers in different models have one name.", "Give them names that differ.")
def two_layers_of_one_name(folder: Path) -> None:
    with keras_file(folder, dense="dense", sequential="first", sequential_1="second") as file:
        for inner in ("sequential", "sequential_1"):
            del file[f"layers/{inner}/vars/0"]
            file.copy("layers/dense", f"layers/{inner}/layers/dense")
        del file["layers/dense"]
    checked(folder / "model.weights.h5")


@case(ModelFileError, "Numbers that are in another file.", "Save the model again.")
def numbers_in_other_files(folder: Path) -> None:
    with keras_file(folder, dense="dense") as file:
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"].create_dataset("0", (2, 3), "f4", external=[("other.bin", 0, 24)])
    checked(folder / "model.weights.h5")


@case(
    ModelFileError, "A damaged file.", "Save the weights again.", foreign="(?<=Flax: ).*(?=\\. Save)"
)  # fmt: skip
def damaged_bytes_of_flax(folder: Path) -> None:
    (folder / "model.msgpack").write_bytes(b"\xc1")
    checked(folder / "model.msgpack")


@case(ModelFileError, "A folder that is not a checkpoint.", "Name a file, or the folder of a checkpoint.")
def a_folder_without_a_checkpoint(folder: Path) -> None:
    checked(folder)


@case(ModelFileError, "The folder of a CheckpointManager that kept several steps.", "Name one of them.")
def a_folder_of_several_checkpoints(folder: Path) -> None:
    for step in ("10", "20"):
        (folder / step / "default").mkdir(parents=True)
        (folder / step / "default" / "_METADATA").write_text("{}")
    checked(folder)
