"""Open the layers in a file of Keras 3 and send their weights to the process that asks: runs in a process of its own.

The files name layers and number the weights of each; the names of the weights follow from the class of the layer.
HDF5 trusts a file, and a damaged one can end the process that reads it. `hdf_process.py` starts this one.
"""

from __future__ import annotations

import io
import json
import re
import struct
import sys
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from affinet.cli.files.keras_archives import MEMBER
from affinet.cli.files.libraries import needed_library
from affinet.cli.files.process_limits import limit_resources
from affinet.cli.words import one_paragraph
from affinet.errors import ModelFileError
from affinet.system.unfolding import MOST_UNFOLDED

SECONDS, BYTES_PER_SECOND = 60, 2**20
"""Seconds of the processor for a file, and bytes for each further second."""

_KERNELS = (("kernel",), ("kernel", "bias"))
_SEPARABLE = (("depthwise_kernel", "pointwise_kernel"), ("depthwise_kernel", "pointwise_kernel", "bias"))
_RECURRENT = (("kernel", "recurrent_kernel"), ("kernel", "recurrent_kernel", "bias"))
_SCALES = (("gamma", "beta"),)
WEIGHTS_OF_LAYERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    **dict.fromkeys(("dense", "einsum_dense", "depthwise_conv1d", "depthwise_conv2d"), _KERNELS),
    **dict.fromkeys((f"conv{n}d{kind}" for n in (1, 2, 3) for kind in ("", "_transpose")), _KERNELS),
    **dict.fromkeys(("multi_head_attention", "grouped_query_attention"), _KERNELS),
    **dict.fromkeys(("separable_conv1d", "separable_conv2d"), _SEPARABLE),
    **dict.fromkeys(("lstm", "gru", "simple_rnn", "conv_lstm1d", "conv_lstm2d", "conv_lstm3d"), _RECURRENT),
    **dict.fromkeys(("layer_normalization", "group_normalization"), _SCALES),
    "embedding": (("embeddings",),),
    "rms_normalization": (("scale",),),
    "p_re_lu": (("alpha",),),
    # Of three weights the first is gamma or beta, which the file does not say.
    "batch_normalization": (
        ("gamma", "beta", "moving_mean", "moving_variance"),
        ("", "moving_mean", "moving_variance"),
    ),
}
"""Classes of layers under the names by which Keras stores them, and the orders in which it numbers their weights."""
_OF_OTHERS = (*_KERNELS, *_RECURRENT, ("embeddings",), ("scale",), ("alpha",))
"""The orders in layers that are not stored under their class: those of a model's attributes, and of other packages."""

BY_NAME = "numpy.savez('weights.npz', **{v.path: v for v in model.weights})"
"""What a user of Keras writes to save weights under the names that they have in the model."""


def serve(name: str) -> None:
    """Write the shapes and types of all weights to the standard output, then the numbers of each that is asked for.

    A message is a letter, a length and its content: `d` a description in JSON, `n` numbers, `x` the reason to refuse
    the file, `u` what is wrong with it. Names come line by line, in JSON.
    """
    path = Path(name)
    size = path.stat().st_size
    limit_resources(SECONDS + size // BYTES_PER_SECOND, 3 * MOST_UNFOLDED + 24 * size)
    with ExitStack() as stack:
        try:
            stored = _open_layers(path, stack)
            described = {name: [list(item.shape), _dtype(item)] for name, item in stored.items()}
            _send(b"d", json.dumps(described).encode())
            for line in sys.stdin.buffer:
                numbers = np.asarray(stored[json.loads(line)][()])
                _send(b"n", numbers.astype(numbers.dtype.newbyteorder("=")).tobytes())
        except ModelFileError as error:
            _send(b"x", str(error).encode())
        except Exception as error:  # noqa: BLE001  readers of damaged files raise nearly anything
            _send(b"u", one_paragraph(error).encode())


def _send(letter: bytes, content: bytes) -> None:
    sys.stdout.buffer.write(struct.pack("<cQ", letter, len(content)) + content)
    sys.stdout.buffer.flush()


def _open_layers(path: Path, stack: ExitStack) -> dict[str, Any]:
    """The weights by `layer/weight`, with all layers around them, as data sets of HDF5."""
    h5py = needed_library("h5py", path)
    source: Any = path if path.suffix != ".keras" else _member(path, stack)
    file = stack.enter_context(h5py.File(source, "r"))
    groups: dict[str, Any] = {}
    # Follows no links, so that only what the file itself holds is read.
    file.visititems(lambda name, item: groups.update({name: item}) if name.rpartition("/")[2] == "vars" else None)
    stored: dict[str, Any] = {}
    for name, group in groups.items():
        if isinstance(group, h5py.Group) and not name.startswith("optimizer/"):
            stored |= _weights_of_layer(path, h5py, groups, name.split("/")[:-1])
    return stored


def _member(path: Path, stack: ExitStack) -> Any:
    """The file of weights in a `.keras` archive, whose size was checked."""
    archive = stack.enter_context(zipfile.ZipFile(path))
    info = archive.getinfo(MEMBER)
    return archive.open(info) if info.compress_type == zipfile.ZIP_STORED else io.BytesIO(archive.read(info))


def _weights_of_layer(path: Path, h5py: Any, groups: Mapping[str, Any], keys: list[str]) -> dict[str, Any]:
    """The weights of the layer under these keys, by their names; without those whose names are not known."""
    group = groups["/".join([*keys, "vars"])]
    linked = {key: group[key] for key in group if isinstance(group.get(key, getlink=True), h5py.HardLink)}
    datasets = {key: item for key, item in linked.items() if isinstance(item, h5py.Dataset)}
    around = ["/".join([*keys[:depth], "vars"]) for depth in range(len(keys) + 1)]
    names = [groups[name].attrs.get("name") for name in around if name in groups]
    if datasets and not all(isinstance(name, str) for name in names):
        raise ModelFileError(f"{path} does not name its layers, as files of older versions of Keras. Write {BY_NAME}.")
    places = _places(keys, {key: tuple(item.shape) for key, item in datasets.items()})
    return {"/".join([*names, name]): _inner(path, datasets[key]) for name, key in places.items()}


def _places(keys: list[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, str]:
    """The name of each weight of a layer → the key under which it is stored.

    Keras's own layers have their class among the keys. Of another layer, weights are told from each other by shape.
    """
    classes = [re.sub(r"_\d+$", "", key) for key in keys]
    known = [WEIGHTS_OF_LAYERS[each] for each in classes if each in WEIGHTS_OF_LAYERS]
    if not known and len(set(shapes.values())) < len(shapes):
        return {}
    orders = [order for order in (known[-1] if known else _OF_OTHERS) if len(order) == len(shapes)]
    places = {name: str(place) for order in orders for place, name in enumerate(order) if name}
    return {name: place for name, place in places.items() if place in shapes}


def _inner(path: Path, item: Any) -> Any:
    """The data set, whose numbers are in the file itself. Raises ModelFileError."""
    if item.is_virtual or item.external:
        raise ModelFileError(f"{path} has numbers in other files. Save the model again with model.save.")
    return item


def _dtype(item: Any) -> str:
    """The name of the type; bfloat16 is stored as two bytes without a type."""
    return str(item.attrs.get("dtype", item.dtype.newbyteorder("=").name))
