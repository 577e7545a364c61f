"""Write a system of rules to a safetensors file and read it back; nothing in a file is ever run.

The metadata in the header hold one JSON text: the version of the format, the description of the rules, and a checksum
of the description and of the tensors, the rows of numbers that the description's arrays are views of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from affinet._version import __version__
from affinet.errors import PlanFileError
from affinet.language.opaque import FindFunction, MissingFunction
from affinet.system.files import plan_path, replace_file, unreadable
from affinet.system.malformed import Malformed, fields, integer, shown
from affinet.system.stored.description import INEQUALITY_KEYS, NODES, described, system_of
from affinet.system.stored.origins import ORIGIN_KEYS
from affinet.system.stored.packing import DTYPES, Array
from affinet.system.system import System

FORMAT, VERSION, OLDEST = "affinet.plan", 5, 1
"""Version 2 may hold masks and float32 numbers, version 3 origins of rules and names of frozen weights, version 4
inequalities, version 5 nonlinear equations; a plan is written in the oldest version that can hold it."""
LONGEST = 32 * 2**20
"""Most bytes of a description, about 100,000 rules of single entries; reading takes some twenty times the memory."""

_CHECKED = ("version", "written_by", "description")
_KEYS = (*_CHECKED, "checksum")
_DAMAGED = "It is damaged or was not written by affinet: save the plan again, affinet.plan(rules).save(path)."


def write_system(system: System, path: str | os.PathLike[str]) -> None:
    """Write the system to `path`; an existing file is replaced in one step, so that a reader never sees a part.

    Raises PlanFileError for numbers that a file cannot hold, for too many rules, and for errors of the disk.
    """
    path = plan_path(path)
    description, rows = described(system)
    try:
        system_of(description, rows)
    except Malformed as error:
        raise PlanFileError(
            path, f"was not written: {_name_rules_in(error, system)}", "Write the rule in other units."
        ) from None
    document = {
        "version": _needed_version(description, rows),
        "written_by": f"affinet {__version__}",
        "description": description,
    }
    text = _dump({**document, "checksum": _checksum(document, rows)})
    if len(text) > LONGEST:
        reason = f"was not written: {len(system.every):,} rules take {len(text) / 2**20:.0f} MB to describe"
        way_out = f"A plan holds {LONGEST >> 20} MB: write many rules of one kind as one, with arrays of indices."
        raise PlanFileError(path, reason, way_out)
    tensors = {str(number): row for number, row in enumerate(rows)}
    try:
        # One key of metadata, since the order of several is random.
        replace_file(path, lambda unfinished: save_file(tensors, unfinished, metadata={FORMAT: text}))
    except (OSError, SafetensorError) as error:
        raise PlanFileError(path, f"cannot be written: {_one_line(error)}", "Name another place.") from error


def read_system(path: str | os.PathLike[str], find_function: FindFunction = MissingFunction) -> System:
    """The system that `write_system` wrote, bit for bit, with the functions that `find_function` returns by name.

    Everything is checked before use, in memory and time proportional to the size of the file. Raises PlanFileError.
    """
    path = plan_path(path)
    _check_start(path)
    try:
        with safe_open(path, framework="numpy") as file:
            document = _read_description(path, file.metadata())
            names = set(file.keys())
            rows = [_read_row(path, file, names, str(number)) for number in range(len(names))]
    except (SafetensorError, OSError) as error:
        raise PlanFileError(path, f"is not a readable safetensors file: {_one_line(error)}", _DAMAGED) from None
    try:
        if document["checksum"] != _checksum(document, rows):
            raise PlanFileError(path, "is not as it was written: its checksum differs", _DAMAGED)
        return system_of(document["description"], rows, find_function)
    except (Malformed, RecursionError) as error:
        raise PlanFileError(path, f"holds no plan: {error}", _DAMAGED) from None


def _needed_version(description: Mapping[str, Any], rows: Sequence[Array]) -> int:
    if NODES in description:
        return VERSION
    keys = {key for rule in description["rules"] for key in rule}
    if not keys.isdisjoint(INEQUALITY_KEYS):
        return 4
    if not keys.isdisjoint(ORIGIN_KEYS):
        return 3
    return 2 if any(row.dtype.name in ("float32", "uint8") for row in rows) else OLDEST


def _name_rules_in(error: Malformed, system: System) -> str:
    """The message of an error, with the name of the rule in place of its number."""
    return re.sub(r"\brule (\d+)", lambda match: f'rule "{system.rule(int(match[1])).name}"', str(error))


def _check_start(path: Path) -> None:
    """Raise PlanFileError for a path that is not a file, and for a header that a plan cannot have."""
    if reason := unreadable(path, None):
        raise PlanFileError(path, reason, "Name a file of Plan.save.")
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise PlanFileError(path, f"cannot be read: {_one_line(error)}", "Name a file of Plan.save.") from error
    size = int.from_bytes(start, "little")
    if len(start) < 8 or size > 2 * LONGEST:
        reason = f"is not a plan: it begins with {start!r}, not with the length of a header"
        raise PlanFileError(
            path, reason, "Name a file of Plan.save; other files are not read, and nothing is unpickled."
        )


def _read_description(path: Path, metadata: Mapping[str, str] | None) -> Mapping[str, Any]:
    """The table in the metadata, with a version that this affinet reads. Raises PlanFileError."""
    text = (metadata or {}).get(FORMAT)
    if text is None:
        reason = "is a safetensors file without a plan, such as the weights of a model"
        raise PlanFileError(path, reason, "Name a file of Plan.save.")
    try:
        document = _parse(text)
        version = document.get("version") if isinstance(document, dict) else None
        if type(version) is int and not OLDEST <= version <= VERSION:
            reason = (
                f"is a plan of format {shown(version)}, and affinet {__version__} reads formats {OLDEST} to {VERSION}"
            )
            way_out = "Read it with the affinet that wrote it, or save the plan again with this one."
            raise PlanFileError(path, reason, way_out)
        table = fields(document, "its metadata", _KEYS)
        integer(table["version"], "its version", OLDEST, VERSION)
        return table
    except Malformed as error:
        raise PlanFileError(path, f"holds no plan: {error}", _DAMAGED) from None


def _read_row(path: Path, file: Any, names: set[str], name: str) -> Array:
    if name not in names:
        raise PlanFileError(path, f"holds no plan: it has no array {name!r}", _DAMAGED)
    piece = file.get_slice(name)
    if piece.get_dtype() not in ("F64", "I32", "I64", "F32", "U8") or len(piece.get_shape()) != 1:
        problem = f"array {name} is {piece.get_dtype()} of shape {piece.get_shape()!r:.60}"
        raise PlanFileError(path, f"holds no plan: {problem}, not one axis of {', '.join(DTYPES)}", _DAMAGED)
    return np.array(file.get_tensor(name))


def _parse(text: str) -> object:
    """The JSON in a text. Raises Malformed."""
    if len(text) > LONGEST:
        raise Malformed(f"its description has {len(text):,} characters, and {LONGEST:,} are read")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"its description is not JSON: {_one_line(error)}") from None


def _no_constant(name: str) -> object:
    raise Malformed(f"its description holds {name}")


def _dump(value: object) -> str:
    """JSON text that is the same for equal values, whether a value was built or read."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _checksum(document: Mapping[str, Any], rows: Sequence[Array]) -> str:
    """SHA-256 of the metadata, and of every row preceded by its dtype and length."""
    digest = hashlib.sha256(_dump({key: document[key] for key in _CHECKED}).encode())
    for row in rows:
        digest.update(f"\n{row.dtype.name} {row.size}\n".encode())
        digest.update(row.data.cast("B"))
    return digest.hexdigest()


def _one_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:300] or type(error).__name__
