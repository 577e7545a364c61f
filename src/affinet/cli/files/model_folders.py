"""Find the weights in a folder: a checkpoint of transformers, of `torch.distributed.checkpoint` or of Orbax."""

from __future__ import annotations

from pathlib import Path

from affinet.cli.files.distributed_weights import METADATA
from affinet.cli.words import listed
from affinet.errors import ModelFileError

MODEL, INDEX = "model.safetensors", "model.safetensors.index.json"
PIECE = "shard-"
"""How names of files with pieces of weights begin; each of them is refused when it is opened."""


def model_in_folder(folder: Path) -> tuple[Path, str]:
    """The path of the weights and the library that wrote them. Raises ModelFileError where several could be meant."""
    if (folder / METADATA).is_file():
        return folder, "DCP"
    names = [name for name in (MODEL, INDEX) if (folder / name).is_file()]
    names = names or sorted(path.name for path in folder.glob("*.safetensors.index.json"))
    names = names or sorted(path.name for path in folder.glob("*.safetensors"))
    if len(names) > 1 and not all(name.startswith(PIECE) for name in names):
        raise ModelFileError(f"{folder} holds {len(names)} files of weights: {listed(names)}. Name one of them.")
    if not names and any(folder.glob("*.distcp")):
        raise ModelFileError(
            f"{folder} holds .distcp files of torch.distributed.checkpoint, and {METADATA}, which lists what is in "
            f"them, is missing; torch writes it last. Fetch it too, or save the checkpoint again."
        )
    return (folder / names[0], "safetensors") if names else (folder, "Orbax")
