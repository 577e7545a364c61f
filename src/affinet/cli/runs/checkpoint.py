"""Write and read checkpoints: a training after a finished epoch, as safetensors and one JSON text.

The metadata of the header hold the text: the version of the format, the description of the training, and a checksum of
it and of every tensor. Floats are written with enough digits to give the same bits again. Nothing in the file is
ever executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError

from affinet._version import __version__
from affinet.cli.jobs.job import Table
from affinet.cli.runs.durable import put_in_place, write_neighbour
from affinet.cli.runs.identity import Identity
from affinet.cli.trainings.array_files import Kind, files_of, kind_of, metadata_of, save_arrays
from affinet.cli.trainings.snapshot import Packed, Snapshot
from affinet.cli.trainings.training import Epoch, Progress
from affinet.cli.words import one_paragraph
from affinet.errors import RunError

FORMAT, VERSION = "affinet.checkpoint", 1


class Damaged(RunError):
    """A checkpoint whose content has changed since it was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A training after a finished epoch, and what it belongs to."""

    identity: Identity
    progress: Progress
    snapshot: Snapshot


class _Epoch(Table):
    number: Annotated[int, Field(ge=1)]
    loss: float
    score: float
    violation: float
    stationarity: float | None = None  # missing in checkpoints of earlier versions


class _Description(Table):
    identity: Identity
    last: _Epoch
    violation: float
    seconds: float
    measuring: float = 0.0  # missing in checkpoints of earlier versions
    optimizer: Any
    random: Any
    learned: Any = None  # missing without inequalities


class _Envelope(Table):
    version: Literal[1]
    arrays: Literal["numpy"] | None = None  # None: tensors of torch
    written_by: str
    checksum: str
    description: dict[str, Any]


def write_checkpoint(path: Path, checkpoint: Checkpoint, *, previous: Path) -> None:
    """Replace the checkpoint at `path`, which moves to `previous`: one of the two is complete at every moment.

    The caller flushes the folder. Raises OSError and SafetensorError where the disk refuses; `path` is then as it was.
    """
    last = checkpoint.progress.last
    assert last is not None, "a checkpoint follows a finished epoch"
    description = {
        "identity": checkpoint.identity.model_dump(),
        "last": {
            "number": last.number,
            "loss": last.loss,
            "score": last.score,
            "violation": last.violation,
            "stationarity": last.stationarity,
        },
        "violation": checkpoint.progress.violation,
        "seconds": checkpoint.progress.seconds,
        "measuring": checkpoint.progress.measuring,
        "optimizer": checkpoint.snapshot.optimizer.content,
        "random": checkpoint.snapshot.random.content,
    }
    if checkpoint.snapshot.learned is not None:
        description["learned"] = checkpoint.snapshot.learned.content
    arrays = _named(checkpoint.snapshot)
    kind = kind_of(arrays.values())
    envelope = {
        "version": VERSION,
        **({} if kind == "torch" else {"arrays": kind}),
        "written_by": f"affinet {__version__}",
        "checksum": _checksum(description, arrays, kind),
        "description": description,
    }
    with write_neighbour(path) as neighbour:
        save_arrays(arrays, neighbour, {FORMAT: json.dumps(envelope)})
    put_in_place(path, previous=previous)


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint that `write_checkpoint` wrote, bit for bit. Raises Damaged for anything else."""
    try:
        text = metadata_of(path).get(FORMAT)
        kind = _stored_kind(text)
        arrays = files_of(kind).load(path)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise Damaged(f"{path} is not a readable checkpoint: {one_paragraph(error)}.") from None
    if text is None:
        raise Damaged(f"{path} is a safetensors file without a checkpoint.")
    try:
        content = json.loads(text)
        version = content.get("version") if isinstance(content, dict) else None
        if type(version) is int and version != VERSION:
            raise Damaged(f"{path} is a checkpoint of format {version}, and affinet {__version__} reads {VERSION}.")
        envelope = _Envelope.model_validate(content)
        if envelope.checksum != _checksum(envelope.description, arrays, kind):
            raise Damaged(f"{path} was changed after it was written: its checksum does not match.")
        description = _Description.model_validate(envelope.description)
        return Checkpoint(description.identity, _progress(description), _snapshot(description, arrays))
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        place = f" ({'.'.join(map(str, details['loc']))})" if details["loc"] else ""
        raise Damaged(
            f"{path} does not hold a checkpoint: {one_paragraph(ValueError(details['msg']))}{place}."
        ) from None
    except (ValueError, RecursionError, KeyError) as error:
        raise Damaged(f"{path} does not hold a checkpoint: {one_paragraph(error)}.") from None


def _progress(description: _Description) -> Progress:
    stored = description.last
    last = Epoch(stored.number, stored.loss, stored.score, stored.violation, stationarity=stored.stationarity)
    return Progress(last, description.violation, description.seconds, description.measuring)


def _named(snapshot: Snapshot) -> dict[str, Any]:
    learned = [] if snapshot.learned is None else snapshot.learned.tensors
    return {
        **{f"network/{name}": tensor for name, tensor in snapshot.network.items()},
        **{f"optimizer/{number}": tensor for number, tensor in enumerate(snapshot.optimizer.tensors)},
        **{f"random/{number}": tensor for number, tensor in enumerate(snapshot.random.tensors)},
        **{f"learned/{number}": tensor for number, tensor in enumerate(learned)},
    }


def _snapshot(description: _Description, tensors: Mapping[str, Any]) -> Snapshot:
    network = {name.partition("/")[2]: tensor for name, tensor in tensors.items() if name.startswith("network/")}
    return Snapshot(
        network,
        Packed(description.optimizer, _numbered(tensors, "optimizer/")),
        Packed(description.random, _numbered(tensors, "random/")),
        None if description.learned is None else Packed(description.learned, _numbered(tensors, "learned/")),
    )


def _numbered(tensors: Mapping[str, Any], prefix: str) -> list[Any]:
    count = sum(name.startswith(prefix) for name in tensors)
    return [tensors[f"{prefix}{number}"] for number in range(count)]


def _stored_kind(text: str | None) -> Kind:
    """The kind of the arrays in a checkpoint; the error for a text that is not that of a checkpoint comes later."""
    try:
        content = json.loads(text or "")
    except (ValueError, RecursionError):
        return "torch"
    return "numpy" if isinstance(content, dict) and content.get("arrays") == "numpy" else "torch"


def _checksum(description: object, arrays: Mapping[str, Any], kind: Kind) -> str:
    """SHA-256 of the description and of every array, each after its name, dtype and shape."""
    digest, files = hashlib.sha256(json.dumps(description).encode()), files_of(kind)
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {files.dtype(array)} {tuple(array.shape)}\n".encode())
        digest.update(files.content(array))
    return digest.hexdigest()
