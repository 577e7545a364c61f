"""Read the weights in a folder that Orbax wrote: a checkpoint, or a step of a CheckpointManager."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from affinet.cli.files.libraries import needed_library
from affinet.cli.files.stored_weight import Stored, of_array
from affinet.cli.files.tree_names import named_by_tree
from affinet.cli.words import listed
from affinet.errors import ModelFileError

MARKER = "_METADATA"
"""The file that a folder with a tree of arrays has."""


def orbax_weights(path: Path) -> Stored:
    """The arrays of a checkpoint by the keys on the way to them, joined by dots; each is read when it is needed.

    Raises ModelFileError for a folder without a checkpoint, or with several, and without the package orbax-checkpoint.
    """
    folder = _checkpoint(path).resolve()
    orbax = needed_library("orbax.checkpoint", path)
    checkpointer = orbax.PyTreeCheckpointer()
    metadata = checkpointer.metadata(folder)
    tree = metadata.item_metadata.tree
    leaves: dict[tuple[str, ...], Any] = {}
    _collect(tree, (), leaves)
    return named_by_tree(
        {
            keys: of_array(tuple(leaf.shape), np.dtype(leaf.dtype).name, partial(_read, orbax, folder, keys))
            for keys, leaf in leaves.items()
            if getattr(leaf, "shape", None) is not None and getattr(leaf, "dtype", None) is not None
        }
    )


def _checkpoint(path: Path) -> Path:
    """The folder with the arrays: `path`, or the only one inside of it, such as `10/default` of a CheckpointManager."""
    if (path / MARKER).is_file():
        return path
    folders = sorted({file.parent for depth in ("*", "*/*") for file in path.glob(f"{depth}/{MARKER}")})
    if len(folders) == 1:
        return folders[0]
    if not folders:
        raise ModelFileError(
            f"{path} is a folder without weights of a kind that is read: a .safetensors file, or several and their "
            f"index (transformers); .metadata and .distcp files (torch.distributed.checkpoint); or {MARKER} (Orbax). "
            f"Name another folder, or a file of weights."
        )
    names = listed([str(folder.relative_to(path)) for folder in folders])
    raise ModelFileError(f"{path} holds {len(folders)} checkpoints of Orbax: {names}. Name the folder of one of them.")


def _collect(tree: object, keys: tuple[str, ...], leaves: dict[tuple[str, ...], Any]) -> None:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            _collect(value, (*keys, str(key)), leaves)
    elif isinstance(tree, list | tuple) and not hasattr(tree, "shape"):
        for number, value in enumerate(tree):
            _collect(value, (*keys, str(number)), leaves)
    else:
        leaves[keys] = tree


def _read(orbax: Any, folder: Path, keys: tuple[str, ...]) -> Any:
    """One array of the checkpoint, in the memory of NumPy."""
    wanted: Any = 0
    restored: Any = orbax.RestoreArgs(restore_type=np.ndarray)
    for key in reversed(keys):
        wanted, restored = {key: wanted}, {key: restored}
    arguments = orbax.args.PyTreeRestore(item=wanted, restore_args=restored, partial_restore=True)
    array = orbax.PyTreeCheckpointer().restore(folder, args=arguments)
    for key in keys:
        array = array[key]
    return array
