"""Weights in several files: an index of safetensors, and folders of `torch.distributed.checkpoint`."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.numpy import save_file

from affinet.cli.files import distributed_weights
from affinet.cli.files.modelfile import open_model
from affinet.errors import ModelFileError
from tests.errors.case import case
from tests.errors.weight_files import LAYOUT, checked

NAME = "dense/kernel"
INDEX = "model.safetensors.index.json"


def shards(folder: Path, *files: str, text: str = "") -> Path:
    """The weight in each of the files, and an index that puts it into the first, or says `text`."""
    for file in files:
        save_file({NAME: np.zeros((2, 3), np.float32)}, folder / file)
    (folder / INDEX).write_text(text or json.dumps({"weight_map": {NAME: files[0], "other": files[-1]}}))
    return folder / INDEX


@case(ModelFileError, "One weight in two files.", "Save the model again.")
def a_weight_in_two_files(folder: Path) -> None:
    checked(shards(folder, "1.safetensors", "2.safetensors"))


@case(ModelFileError, "A file that an index lists is missing.", "Fetch it.", fragment="lists 2.safetensors")
def a_missing_file_of_an_index(folder: Path) -> None:
    shards(folder, "1.safetensors", "2.safetensors")
    (folder / "2.safetensors").unlink()
    checked(folder)


@case(ModelFileError, "An index that lists a weight twice.", "Save the model again.")
def a_weight_that_is_listed_twice(folder: Path) -> None:
    checked(shards(folder, "1.safetensors", text=f'{{"weight_map": {{"{NAME}": "1", "{NAME}": "2"}}}}'))


@case(ModelFileError, "Sharded weights that torch wrote without joining them.", "Save with `enable_consolidation`.")
def pieces_of_weights(folder: Path) -> None:
    pieces = {"DCP_SHARDING_INFO": json.dumps({NAME: {"saved_offsets": [0, 0]}})}
    save_file({NAME: np.zeros((1, 3), np.float32)}, folder / "shard-00001-model-00001-of-00001.safetensors", pieces)
    checked(folder)


@case(ModelFileError, "A file that another program writes to.", "Verify it again.")
def a_file_that_gets_shorter(folder: Path) -> None:
    save_file({NAME: np.zeros((2, 3), np.float32)}, folder / "model.safetensors")
    with open_model(folder) as model:
        model.check(LAYOUT)
        with (folder / "model.safetensors").open("rb+") as file:
            file.truncate(80)
        model.weights(frozenset([NAME]))


@case(ModelFileError, "A folder of several files without an index.", "Name one of them.")
def a_folder_of_several_files(folder: Path) -> None:
    for name in ("first.safetensors", "second.safetensors"):
        save_file({NAME: np.zeros((2, 3), np.float32)}, folder / name)
    checked(folder)


def read(folder: Path) -> None:
    with open_model(folder) as model:
        model.check(LAYOUT)
        model.weights(frozenset([NAME]))


def written(folder: Path, change: Callable[[Any], object] = lambda metadata: None) -> Path:
    """A checkpoint of torch, whose table is changed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that one process saves alone
        dcp.save({NAME: torch.zeros(2, 3)}, checkpoint_id=folder / "checkpoint", no_dist=True)
    path = folder / "checkpoint" / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    change(metadata)
    path.write_bytes(pickle.dumps(metadata))
    return path.parent


@case(ModelFileError, "A table of pieces that is too long.", "Name the folder of a whole checkpoint.")
def a_table_without_end(folder: Path) -> None:
    with patch.object(distributed_weights, "LONGEST_METADATA", 10):
        read(written(folder))


@case(ModelFileError, "Pieces outside of the folder.", "Fetch the whole checkpoint again.")
def pieces_outside_of_the_folder(folder: Path) -> None:
    def elsewhere(metadata: Any) -> None:
        for index, place in metadata.storage_data.items():
            metadata.storage_data[index] = replace(place, relative_path="../__0_0.distcp")

    read(written(folder, elsewhere))


@case(ModelFileError, "Pieces that torch's extensions compressed.", "Convert the folder by torch.")
def compressed_pieces(folder: Path) -> None:
    def compressed(metadata: Any) -> None:
        for place in metadata.storage_data.values():
            place.__dict__["transform_descriptors"] = ["stream.zstd"]

    read(written(folder, compressed))


@case(ModelFileError, "A table that leaves out a part of a weight.", "Save the checkpoint again.")
def a_gap_between_pieces(folder: Path) -> None:
    def shortened(metadata: Any) -> None:
        metadata.state_dict_metadata[NAME].chunks[0].sizes = torch.Size([2, 2])

    read(written(folder, shortened))


@case(ModelFileError, "A file of the checkpoint is missing.", "Fetch all files again.", fragment="does not exist")
def a_missing_file_of_pieces(folder: Path) -> None:
    (written(folder) / "__0_0.distcp").unlink()
    read(folder / "checkpoint")


@case(ModelFileError, "A file of the checkpoint holds something else.", "Fetch all files again.", fragment="at byte 0")
def other_content_in_a_file_of_pieces(folder: Path) -> None:
    path = written(folder) / "__0_0.distcp"
    path.write_bytes(bytes(path.stat().st_size))
    read(folder / "checkpoint")


@case(ModelFileError, "The table of pieces is missing.", "Fetch it, or save again.", fragment=".metadata, which lists")
def pieces_without_a_table(folder: Path) -> None:
    (written(folder) / ".metadata").unlink()
    read(folder / "checkpoint")
