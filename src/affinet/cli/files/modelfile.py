"""Open the weights in a safetensors file, or in the files that an index lists; each is read when it is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from affinet.analysis.rule_values import Weight
from affinet.cli.words import did_you_mean, one_paragraph
from affinet.errors import ModelFileError
from affinet.kernels.torch.rounded_weights import weight_of
from affinet.system.files import unreadable
from affinet.system.layout import Layout

LONGEST_INDEX = 2**25
"""Most bytes of an index: some hundred thousand weights. Reading one takes some twenty times its size in memory."""


@dataclass(frozen=True)
class ModelFile:
    """`path` as the user wrote it, and for each weight in it the open file that holds it."""

    path: Path
    holders: Mapping[str, Any]

    def check(self, layout: Layout) -> None:
        """Raise ModelFileError for the first weight that is missing or of another shape or kind."""
        for parameter in layout.parameters:
            if parameter.name not in self.holders:
                raise ModelFileError(
                    f"{self.path} has no weight {parameter.name!r}, which the plan needs."
                    f"{did_you_mean(parameter.name, self.holders)} Name the weights of the model that the plan was "
                    f"made for."
                )
            piece = self.holders[parameter.name].get_slice(parameter.name)
            if tuple(piece.get_shape()) != parameter.shape:
                raise ModelFileError(
                    f"{parameter.name} in {self.path} has shape {tuple(piece.get_shape())}, and the plan needs "
                    f"shape {parameter.shape}. Name the weights of the model that the plan was made for."
                )
            if piece.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                raise ModelFileError(
                    f"{parameter.name} in {self.path} is of type {piece.get_dtype()}; rules are about weights of "
                    f"F64, F32, F16 or BF16. Save the model as it was trained, not quantized."
                )

    def weights(self, names: frozenset[str]) -> Mapping[str, Weight]:
        """Read the weights of these names."""
        return {name: weight_of(self.holders[name].get_tensor(name)) for name in names}


@contextmanager
def open_model(path: Path) -> Iterator[ModelFile]:
    """The file, or the files of an index, whose name ends in `.json`. Raises ModelFileError."""
    with ExitStack() as stack:
        try:
            if path.suffix == ".json":
                holders = _open_index(path, stack)
            else:
                holders = _open_file(path, stack)
            yield ModelFile(path, holders)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(
                f"{path} is not a readable safetensors file: {one_paragraph(error)}. Save the weights with "
                f"safetensors; files of torch.save are never read, since reading one can run code."
            ) from None


def _open_file(path: Path, stack: ExitStack) -> dict[str, Any]:
    if reason := unreadable(path, None):
        raise ModelFileError(f"{path} {reason}. Name a .safetensors file.")
    file = stack.enter_context(safe_open(path, framework="pt"))
    return dict.fromkeys(file.keys(), file)


def _open_index(path: Path, stack: ExitStack) -> dict[str, Any]:
    """The weights that an index lists, each file opened once; only files in the folder of the index are opened."""
    files: dict[str, dict[str, Any]] = {}
    holders = {}
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
        holders[name] = files[place][name]
    return holders


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
