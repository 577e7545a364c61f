"""Open the weights in a file of any framework that affinet verifies; each weight is read when it is needed."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from affinet.analysis.rule_values import Weight
from affinet.cli.files.flax_weights import flax_weights
from affinet.cli.files.keras_layers import BY_NAME
from affinet.cli.files.keras_weights import keras_weights
from affinet.cli.files.npz_weights import npz_weights
from affinet.cli.files.orbax_weights import orbax_weights
from affinet.cli.files.stored_weight import TYPES, Stored, StoredWeight, weight_of_array
from affinet.cli.words import did_you_mean, listed, one_paragraph
from affinet.errors import AffinetError, ModelFileError
from affinet.system.files import MOST_BYTES, unreadable
from affinet.system.layout import Layout

LONGEST_INDEX = 2**25
"""Most bytes of an index: some hundred thousand weights. Reading one takes some twenty times its size in memory."""

KINDS = "a .safetensors, .npz, .keras, .weights.h5 or .msgpack file, or the folder of an Orbax checkpoint"
UNNAMED = f"Weights of layers of other classes than Keras's have no names in such a file: save all by name, {BY_NAME}."
READ_BY_SUFFIX = {".npz": "NumPy", ".keras": "Keras", ".h5": "Keras", ".hdf5": "Keras", ".msgpack": "Flax"}


@dataclass(frozen=True)
class ModelFile:
    """`path` as the user wrote it, the library that wrote it, and the weights in it by name.

    With a `separator` names begin with that of the model, which may be left out, and a weight may be called by the end
    of its name, from a separator on. `advice` follows the error for a weight that is not there.
    """

    path: Path
    library: str
    stored: Stored
    separator: str = ""
    advice: str = "Name the weights of the model that the plan was made for."

    def check(self, layout: Layout) -> None:
        """Raise ModelFileError for the first weight that is missing or of another shape or kind."""
        for parameter in layout.parameters:
            weight = self._find(parameter.name)
            if weight.shape != parameter.shape:
                raise ModelFileError(
                    f"{parameter.name} in {self.path} has shape {weight.shape}, and the plan needs shape "
                    f"{parameter.shape}. Name the weights of the model that the plan was made for."
                )
            if weight.kind not in TYPES.values():
                raise ModelFileError(
                    f"{parameter.name} in {self.path} is of type {weight.kind}; rules are about weights of F64, F32, "
                    f"F16 or BF16. Save the model as it was trained, not quantized."
                )

    def weights(self, names: frozenset[str]) -> Mapping[str, Weight]:
        """Read the weights of these names."""
        with _refusing_damaged(self.path, self.library):
            return {name: self._find(name).read() for name in names}

    def _find(self, name: str) -> StoredWeight:
        """The weight of this name, in the whole model, or the only one whose name ends so. Raises ModelFileError."""
        roots = {known.partition(self.separator)[0] for known in self.stored} if self.separator else set[str]()
        for full_name in (name, *(f"{root}{self.separator}{name}" for root in roots if len(roots) == 1)):
            if full_name in self.stored:
                return self.stored[full_name]
        ending = [known for known in self.stored if self.separator and known.endswith(self.separator + name)]
        if len(ending) == 1:
            return self.stored[ending[0]]
        if ending:
            raise ModelFileError(
                f"{self.path} has {len(ending)} weights whose names end in {name!r}: {listed(ending)}. Give layers "
                f"names that differ, and make the plan with the whole names."
            )
        raise ModelFileError(
            f"{self.path} has no weight {name!r}, which the plan needs.{did_you_mean(name, self.stored)} {self.advice}"
        )


@contextmanager
def open_model(path: Path) -> Iterator[ModelFile]:
    """The weights in a file, in the files of an index of safetensors, or in a folder of Orbax.

    The kind of the file is known by the end of its name. Raises ModelFileError.
    """
    library = "Orbax" if path.is_dir() else READ_BY_SUFFIX.get(path.suffix.lower(), "safetensors")
    with ExitStack() as stack:
        with _refusing_damaged(path, library):
            model = _opened(path, library, stack)
        yield model


@contextmanager
def _refusing_damaged(path: Path, library: str) -> Iterator[None]:
    """Raise a ModelFileError that names the file for whatever its reader raises inside."""
    try:
        yield
    except AffinetError:
        raise
    except _DAMAGED as error:
        reason = one_paragraph(error).rstrip(".")
        raise ModelFileError(f"{path} is not a readable {_NAMES[library]}: {reason}. {_HINTS[library]}") from None


_DAMAGED = (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, zlib.error,
            zipfile.BadZipFile, struct.error, EOFError, RecursionError)  # fmt: skip
"""What readers of damaged files raise."""
_NAMES = {
    "safetensors": "safetensors file",
    "NumPy": ".npz file of arrays",
    "Keras": "file of Keras weights",
    "Flax": "msgpack file of Flax",
    "Orbax": "checkpoint of Orbax",
}


_HINTS = dict.fromkeys(_NAMES, "Save the weights again.") | {
    "safetensors": "Save the weights with safetensors; files of torch.save are never read, since reading one can run "
    "code."
}


def _opened(path: Path, library: str, stack: ExitStack) -> ModelFile:
    if library == "Orbax":
        return ModelFile(path, library, orbax_weights(path))
    if library == "safetensors":
        return ModelFile(path, library, _open_index(path, stack) if path.suffix == ".json" else _open_file(path, stack))
    if reason := unreadable(path, None if library == "Keras" else MOST_BYTES):
        raise ModelFileError(f"{path} {reason}. Name {KINDS}.")
    match library:
        case "NumPy":
            return ModelFile(path, library, npz_weights(path))
        case "Flax":
            return ModelFile(path, library, flax_weights(path))
        case _:
            return ModelFile(path, library, keras_weights(path, stack), "/", UNNAMED)


def _open_file(path: Path, stack: ExitStack) -> dict[str, StoredWeight]:
    if reason := unreadable(path, None):
        raise ModelFileError(f"{path} {reason}. Name {KINDS}.")
    file = stack.enter_context(safe_open(path, framework="np"))
    return {name: _stored(file, path, name) for name in file.keys()}  # noqa: SIM118  (it is not a dict)


def _stored(file: Any, path: Path, name: str) -> StoredWeight:
    piece = file.get_slice(name)
    shape, kind = tuple(piece.get_shape()), piece.get_dtype()
    if kind == "BF16":
        return StoredWeight(shape, kind, partial(_read_bfloat16, path, name))
    return StoredWeight(shape, kind, lambda: weight_of_array(file.get_tensor(name)))


def _read_bfloat16(path: Path, name: str) -> Weight:
    """The weight by torch: NumPy has no bfloat16."""
    from affinet.kernels.torch.rounded_weights import weight_of

    with safe_open(path, framework="pt") as file:
        return weight_of(file.get_tensor(name))


def _open_index(path: Path, stack: ExitStack) -> dict[str, StoredWeight]:
    """The weights that an index lists, each file opened once; only files in the folder of the index are opened."""
    files: dict[str, dict[str, StoredWeight]] = {}
    stored = {}
    for name, place in _weight_map(path).items():
        if not isinstance(place, str) or Path(place).name != place or "\\" in place or place in ("", "."):
            raise ModelFileError(
                f"{path} puts {name!r:.60} into {place!r:.60}, which is not a file name in its folder. Name the index "
                f"that came with the model."
            )
        if place not in files:
            files[place] = _open_file(path.parent / place, stack)
        if name not in files[place]:
            raise ModelFileError(f"{path} puts {name!r:.60} into {place}, which does not hold it. Fetch it again.")
        stored[name] = files[place][name]
    return stored


def _weight_map(path: Path) -> dict[str, Any]:
    if reason := unreadable(path, LONGEST_INDEX):
        raise ModelFileError(f"{path} {reason}. Name a .safetensors file, or the index of several.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is not an index of weights: {one_paragraph(error)}. An index is a JSON file."
        ) from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict):
        raise ModelFileError(f"{path} is not an index of weights: it has no table 'weight_map' of names and files.")
    return places
