"""Open the weights in a file of any framework that affinet verifies; each weight is read when it is needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from affinet.analysis.rule_values import Weight
from affinet.cli.files.damaged_files import refusing_damaged
from affinet.cli.files.distributed_weights import distributed_weights
from affinet.cli.files.flax_weights import flax_weights
from affinet.cli.files.keras_layers import BY_NAME
from affinet.cli.files.keras_weights import keras_weights
from affinet.cli.files.model_folders import model_in_folder
from affinet.cli.files.npz_weights import npz_weights
from affinet.cli.files.orbax_weights import orbax_weights
from affinet.cli.files.safetensors_weights import KINDS, safetensors_weights
from affinet.cli.files.stored_weight import TYPES, Stored, StoredWeight
from affinet.cli.files.weight_index import indexed_weights
from affinet.cli.words import did_you_mean, listed
from affinet.errors import ModelFileError
from affinet.system.files import MOST_BYTES, unreadable
from affinet.system.layout import Layout

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
        with refusing_damaged(self.path, self.library):
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
    """The weights in a file, in the files of an index of safetensors, or in a folder.

    The kind of the file is known by the end of its name. Raises ModelFileError.
    """
    library = READ_BY_SUFFIX.get(path.suffix.lower(), "safetensors")
    if path.is_dir():
        path, library = model_in_folder(path)
    with ExitStack() as stack:
        with refusing_damaged(path, library):
            model = _opened(path, library, stack)
        yield model


def _opened(path: Path, library: str, stack: ExitStack) -> ModelFile:
    if library == "Orbax":
        return ModelFile(path, library, orbax_weights(path))
    if library == "DCP":
        return ModelFile(path, library, distributed_weights(path))
    if library == "safetensors":
        return ModelFile(path, library, (indexed_weights if path.suffix == ".json" else safetensors_weights)(path))
    if reason := unreadable(path, None if library == "Keras" else MOST_BYTES):
        raise ModelFileError(f"{path} {reason}. Name {KINDS}.")
    match library:
        case "NumPy":
            return ModelFile(path, library, npz_weights(path))
        case "Flax":
            return ModelFile(path, library, flax_weights(path))
        case _:
            return ModelFile(path, library, keras_weights(path, stack), "/", UNNAMED)
