"""Refuse a damaged file of weights by name, whatever the library that reads it raises."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from affinet.cli.words import one_paragraph, shell_word
from affinet.errors import AffinetError, ModelFileError

BEGUN = ".begun.json"
"""The file that marks the folder of a run."""


@contextmanager
def refusing_damaged(path: Path, library: str) -> Iterator[None]:
    """Raise a ModelFileError that names the file for whatever its reader raises inside."""
    try:
        yield
    except AffinetError:
        raise
    except _DAMAGED as error:
        reason = one_paragraph(error).rstrip(".")
        hint = _HINTS[library]
        if library == "safetensors" and (path.parent / BEGUN).is_file():
            command = f"affinet train --resume {shell_word(path.parent)}"
            hint = f"If it is the file of the run in this folder, restore it: {command}"
        raise ModelFileError(f"{path} is not a readable {_NAMES[library]}: {reason}. {hint}") from None


_DAMAGED = (SafetensorError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, zlib.error,
            zipfile.BadZipFile, struct.error, EOFError, RecursionError, OverflowError)  # fmt: skip
"""What readers of damaged files raise."""
_NAMES = {
    "safetensors": "safetensors file",
    "NumPy": ".npz file of arrays",
    "Keras": "file of Keras weights",
    "Flax": "msgpack file of Flax",
    "Orbax": "checkpoint of Orbax",
    "DCP": "checkpoint of torch.distributed.checkpoint",
}


_HINTS = dict.fromkeys(_NAMES, "Save the weights again.") | {
    "safetensors": "Save the weights with safetensors; files of torch.save are never read, since reading one can run "
    "code."
}
