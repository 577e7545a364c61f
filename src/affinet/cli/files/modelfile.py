"""The weights in a safetensors file, or in several that an index lists; read one at a time, when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from affinet.cli.words import did_you_mean, one_paragraph
from affinet.errors import ModelFileError
from affinet.report.verification import Weight
from affinet.system.files import unreadable
from affinet.system.layout import Layout
from affinet.training.settling import weight_of

LONGEST_INDEX = 2**25
"""Bytes of an index: some hundred thousand weights; reading one takes some twenty times as much memory."""


@dataclass(frozen=True)
class ModelFile:
    """`path` as the user named it, and for each weight in it the open file that holds it."""

    path: Path
    holders: Mapping[str, Any]

    def check(self, layout: Layout) -> None:
        """Raise ModelFileError for the first weight that is missing or of another shape or kind."""
        for parameter in layout.parameters:
            if parameter.name not in self.holders:
                raise ModelFileError(
                    f"{self.path} has no weight {parameter.name!r}, of which the plan speaks."
                    f"{did_you_mean(parameter.name, self.holders)} Name the weights of the model that the plan was "
                    f"made for."
                )
            piece = self.holders[parameter.name].get_slice(parameter.name)
            if tuple(piece.get_shape()) != parameter.shape:
                raise ModelFileError(
                    f"{parameter.name} in {self.path} has shape {tuple(piece.get_shape())}, and the plan speaks of one "
                    f"of shape {parameter.shape}. Name the weights of the model that the plan was made for."
                )
            if piece.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                raise ModelFileError(
                    f"{parameter.name} in {self.path} is of type {piece.get_dtype()}; rules are about weights of "
                    f"F64, F32, F16 or BF16. Save the model as it was trained, not quantized."
                )

    def weights(self, names: frozenset[str]) -> Mapping[str, Weight]:
        """These weights, read now."""
        return {name: weight_of(self.holders[name].get_tensor(name)) for name in names}


@contextmanager
def opened(path: Path) -> Iterator[ModelFile]:
    """The file, or the files of an index, whose name ends in `.json`. Raises ModelFileError."""
    with ExitStack() as stack:
        try:
            if path.suffix == ".json":
                holders = _indexed(path, stack)
            else:
                holders = _held(path, stack)
            yield ModelFile(path, holders)
        except (SafetensorError, OSError) as error:
            raise ModelFileError(
                f"{path} is no readable safetensors file: {one_paragraph(error)}. Save the weights with safetensors; "
                f"files of torch.save are never read, since reading one can run code."
            ) from None


def _held(path: Path, stack: ExitStack) -> dict[str, Any]:
    if reason := unreadable(path, None):
        raise ModelFileError(f"{path} {reason}. Name a .safetensors file.")
    file = stack.enter_context(safe_open(path, framework="pt"))
    return dict.fromkeys(file.keys(), file)


def _indexed(path: Path, stack: ExitStack) -> dict[str, Any]:
    """What an index says, each file of it opened once; only files beside the index are, whatever it names."""
    files: dict[str, dict[str, Any]] = {}
    holders = {}
    for name, place in _weight_map(path).items():
        if not isinstance(place, str) or Path(place).name != place or "\\" in place or place in ("", "."):
            raise ModelFileError(
                f"{path} puts {name!r:.60} into {place!r:.60}, which is no name of a file beside it. Name the index "
                f"that came with the model."
            )
        if place not in files:
            files[place] = _held(path.parent / place, stack)
        if name not in files[place]:
            raise ModelFileError(f"{path} puts {name!r:.60} into {place}, which does not hold it. Fetch it again.")
        holders[name] = files[place][name]
    return holders


def _weight_map(path: Path) -> dict[str, Any]:
    if reason := unreadable(path, LONGEST_INDEX):
        raise ModelFileError(f"{path} {reason}. Name a .safetensors file, or the index of several.")
    try:
        said = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} is no index of weights: {one_paragraph(error)}. It is JSON.") from None
    found = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(found, dict):
        raise ModelFileError(f"{path} is no index of weights: it has no table 'weight_map' of names and files.")
    return found
