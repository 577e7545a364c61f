"""Read the index of weights that are in several `.safetensors` files, as transformers and torch write it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from affinet.cli.files.safetensors_weights import safetensors_weights
from affinet.cli.files.stored_weight import StoredWeight
from affinet.cli.words import one_paragraph
from affinet.errors import ModelFileError
from affinet.system.files import unreadable

LONGEST_INDEX = 2**25
"""Most bytes of an index: some hundred thousand weights. Reading one takes some twenty times its size in memory."""


def indexed_weights(path: Path) -> dict[str, StoredWeight]:
    """The weights that an index lists; only the headers of files in the folder of the index are read.

    Raises ModelFileError for an index that does not say of each weight in which one file it is.
    """
    places = _weight_map(path)
    for place in dict.fromkeys(places.values()):
        if reason := unreadable(path.parent / place, None):
            raise ModelFileError(f"{path} lists {place}, and {path.parent / place} {reason}. Fetch it to this folder.")
    files = {place: safetensors_weights(path.parent / place) for place in dict.fromkeys(places.values())}
    for place, weights in files.items():
        for name in weights:
            if places.get(name, place) != place:
                raise ModelFileError(
                    f"{path} puts {name!r:.60} into {places[name]}, and {place} holds it too; programs differ in which "
                    f"of them they read. Save the model again."
                )
    for name, place in places.items():
        if name not in files[place]:
            raise ModelFileError(f"{path} puts {name!r:.60} into {place}, which does not hold it. Fetch it again.")
    return {name: files[place][name] for name, place in places.items()}


def _weight_map(path: Path) -> dict[str, str]:
    """The table of names and files. Files have to be in the folder of the index."""
    if reason := unreadable(path, LONGEST_INDEX):
        raise ModelFileError(f"{path} {reason}. Name a .safetensors file, or the index of several.")
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=_Table)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path} is not an index of weights: {one_paragraph(error)}. An index is a JSON file."
        ) from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, _Table):
        raise ModelFileError(f"{path} is not an index of weights: it has no table 'weight_map' of names and files.")
    if places.repeated:
        raise ModelFileError(f"{path} lists {places.repeated[0]!r:.60} twice. Save the model again.")
    for name, place in places.items():
        if not isinstance(place, str) or Path(place).name != place or "\\" in place or place in ("", "."):
            raise ModelFileError(
                f"{path} puts {name!r:.60} into {place!r:.60}, which is not a file name in its folder. Name the index "
                f"that came with the model."
            )
    return places


class _Table(dict[str, Any]):
    """A table of JSON, and the keys that it has several times."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        counts = Counter(key for key, _ in pairs)
        self.repeated = [key for key, count in counts.items() if count > 1]
