"""Changes of an input that keep enough of its form to reach what lies behind the first check of a reader."""

from __future__ import annotations

import ast
import contextlib
import copy
import io
import json
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np

from tests.plans.hostile_plans import WRONG, places

Mutation = Callable[[bytes, Random], bytes]

NUMBERS = (0, 1, 2, 3, 7, 127, 128, 255, 256, 2**15, 2**16, 2**20, 2**27, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62,
           2**63 - 1, 2**63, 2**64 - 1, -1, -2, -(2**31), -(2**63))  # fmt: skip
WRITTEN = (b"0", b"-1", b"1e308", b"1e999", b"-1e-999", b"nan", b"inf", b"1000000000", b"1000000000000", b"9" * 400,
           b"4611686018427387904", b"18446744073709551616", b"0x" + b"f" * 300, b"1_0", b"0.1", b"1e", b"")  # fmt: skip
DESCRIPTIONS = ("<f8", ">f8", "<f4", "<f2", "<f16", "<c16", "|O", "|b1", "|u1", "<i8", "<U9", "|S0", "<U99999999",
                "|V8", "<M8[s]", "<m8", [("a", "<f8")], [("a", "|O")], "nonsense", "<f9", "", 3)  # fmt: skip


def of_bytes(data: bytes, random: Random) -> bytes:
    """A few bits, bytes, numbers or stretches changed, with no idea of what they mean."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        _change_bytes(changed, random)
    return bytes(changed)


def _change_bytes(data: bytearray, random: Random) -> None:
    place = random.randrange(len(data) + 1)
    length = random.choice((1, 2, 4, 8, 32, 1 + len(data) // 3))
    match random.randrange(9):
        case 0 if data:
            data[place % len(data)] ^= 1 << random.randrange(8)
        case 1:
            data[place : place + 1] = bytes([random.choice((0, 1, 9, 10, 13, 32, 34, 127, 128, 254, 255))])
        case 2:
            del data[place : place + length]
        case 3:
            data[place:place] = data[place : place + length] * random.choice((1, 1, 2, 50))
        case 4:
            del data[place:]
        case 5:
            other = random.randrange(len(data) + 1)
            data[place : place + length] = data[other : other + length]
        case 6:
            width, order = random.choice((1, 2, 4, 4, 8)), random.choice(("little", "big"))
            number = random.choice(NUMBERS) % 2 ** (8 * width)
            place -= place % width if random.random() < 0.8 else 0
            data[place : place + width] = number.to_bytes(width, order)
        case 7:
            found = list(re.finditer(rb"\d+", data))
            if found:
                number = random.choice(found)
                data[number.start() : number.end()] = random.choice(WRITTEN)
        case _:
            data[place:place] = random.randbytes(length % 64)


def of_text(words: Sequence[bytes]) -> Mutation:
    """Words, numbers and marks dropped, repeated, exchanged, or replaced by one of `words`."""

    def mutate(data: bytes, random: Random) -> bytes:
        tokens = re.findall(rb"\w+|\s+|[^\w\s]", data)
        for _ in range(random.choice((1, 1, 2, 4))):
            place, other = random.randrange(len(tokens) + 1), random.randrange(len(tokens) + 1)
            match random.randrange(7):
                case 0:
                    del tokens[place : place + random.choice((1, 2, 5))]
                case 1:
                    tokens[place:place] = tokens[min(place, other) : max(place, other)]
                case 2:
                    tokens[place : place + 1] = tokens[other : other + 1]
                case 3:
                    tokens[place:place] = [random.choice(words)] * random.choice((1, 1, 1, 1, 3, 2000))
                case 4:
                    tokens[place : place + 1] = [random.choice(words)]
                case 5:
                    numbers = [k for k, token in enumerate(tokens) if token.isdigit()]
                    if numbers:
                        tokens[random.choice(numbers)] = random.choice(WRITTEN)
                case _:
                    opening, closing = random.choice(((b"(", b")"), (b"[", b"]"), (b"{", b"}"), (b"-", b"")))
                    depth = random.choice((1, 2, 300, 5000))
                    tokens[place:place] = [opening * depth]
                    tokens[other + 1 : other + 1] = [closing * depth]
        return b"".join(tokens)

    return mutate


def of_npy(data: bytes, random: Random) -> bytes:
    """Another shape, order or type in the header, its length right."""
    if data[:6] != b"\x93NUMPY" or len(data) < 10:
        return of_bytes(data, random)
    end = 10 + int.from_bytes(data[8:10], "little")
    try:
        header = ast.literal_eval(data[10:end].decode("latin1"))
        shape = list(header["shape"])
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        return of_bytes(data, random)
    match random.randrange(6):
        case 0:
            shape.insert(random.randrange(len(shape) + 1), random.choice(NUMBERS))
        case 1 if shape:
            shape[random.randrange(len(shape))] = random.choice(NUMBERS)
        case 2:
            shape = shape * random.choice((0, 2, 9, 40))
        case 3:
            header["descr"] = random.choice(DESCRIPTIONS)
        case 4:
            header["fortran_order"] = random.choice((True, False, 1, None, "x"))
        case _:
            return data[:end] + of_bytes(data[end:], random)
    text = repr({**header, "shape": tuple(shape)}).encode()
    if len(text) > 60_000:
        return of_bytes(data, random)
    return data[:8] + (len(text) + 1).to_bytes(2, "little") + text + b"\n" + data[end:]


def of_npz(data: bytes, random: Random) -> bytes:
    """Another member in an archive that is right, or other words about a member."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist() if info.file_size < 2**20]
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, EOFError, OSError):
        return of_bytes(data, random)
    if not members:
        return of_bytes(data, random)
    place = random.randrange(len(members))
    name, content = members[place]
    match random.randrange(8):
        case 0:
            members.append((random.choice(("x.npy", name, "shape.npy", "../a.npy", "a\x1b[2J", "")), content))
        case 1:
            del members[place]
        case 2:
            members[place] = (random.choice(("format.npy", "shape.npy", "data.npy", "A")), content)
        case 3:
            members[place] = (name, content + bytes(random.choice((1, 8, 100_000))))
        case 4:
            return of_bytes(data, random)
        case _:
            members[place] = (name, of_npy(content, random))
    packed = io.BytesIO()
    packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(packed, "w", packing) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    return packed.getvalue()


def of_mat(data: bytes, random: Random) -> bytes:
    """A change inside one element of a version 5 file, compressed or not, with the length around it right."""
    elements = _mat_elements(data)
    if not elements or random.random() < 0.3:
        return of_bytes(data, random)
    place = random.randrange(len(elements))
    kind, content = elements[place]
    match random.randrange(6):
        case 0:
            elements.insert(place, (kind, content))
        case 1:
            elements[place] = (kind, content + bytes(random.choice((8, 2**20))))
        case 2:
            kind = random.choice((14, 14, 9, 1, 2, 15, 99))
            elements[place] = (kind, content)
        case 3:
            words = list(struct.unpack(f"<{len(content) // 4}I", content[: len(content) // 4 * 4]))
            for _ in range(random.choice((1, 1, 2))):
                words[random.randrange(min(len(words), 24))] = random.choice(NUMBERS) % 2**32 if words else 0
            elements[place] = (kind, struct.pack(f"<{len(words)}I", *words))
        case _:
            elements[place] = (kind, of_bytes(content, random))
    packed = bytearray(data[:128])
    for kind, content in elements:
        element = struct.pack("<II", kind, len(content)) + content
        if random.random() < 0.5:
            squeezed = zlib.compress(element)
            element = struct.pack("<II", 15, len(squeezed)) + squeezed
        packed += element
    return bytes(packed)


def _mat_elements(data: bytes) -> list[tuple[int, bytes]]:
    elements = []
    place = 128
    while place + 8 <= len(data):
        kind, length = struct.unpack_from("<II", data, place)
        content = data[place + 8 : place + 8 + length]
        place += 8 + length
        if kind == 15:
            with contextlib.suppress(zlib.error):
                content = zlib.decompressobj().decompress(content, 2**20)
            kind, content = (*struct.unpack("<I", content[:4].ljust(4, b"\0")), content[8:])
        if len(content) >= 4:
            elements.append((kind, content))
    return elements


def of_json(data: bytes, random: Random) -> bytes:
    """A value replaced, moved by one, copied from elsewhere, or dropped."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return of_bytes(data, random)
    return json.dumps(changed_value(value, random)).encode()


def changed_value(value: Any, random: Random) -> Any:
    """JSON with one to three changes."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 2, 3))):
        found = list(places(value))
        if not found:
            return value
        container, key = random.choice(found)
        match random.randrange(5):
            case 0:
                if type(container[key]) is int:
                    container[key] += random.choice((-1, 1, 2))
            case 1:
                other, place = random.choice(found)
                if place in other if isinstance(other, dict) else place < len(other):
                    container[key] = copy.deepcopy(other[place])
            case 2:
                del container[key]
            case 3:
                if isinstance(container, list):
                    container.insert(key, copy.deepcopy(container[key]))
            case _:
                container[key] = copy.deepcopy(random.choice(WRONG))
    return value


def of_safetensors(data: bytes, random: Random) -> bytes:
    """Another header, its length right, or other bytes behind it."""
    end = 8 + int.from_bytes(data[:8], "little")
    if end > len(data) or random.random() < 0.3:
        return of_bytes(data, random)
    header = of_json(data[8:end], random) if random.random() < 0.9 else of_bytes(data[8:end], random)
    content = data[end:]
    if random.random() < 0.3:
        wide = np.frombuffer(content[: len(content) // 8 * 8], np.float64).copy()
        if wide.size:
            wide[random.randrange(wide.size)] = random.choice((np.nan, np.inf, 1e308, -1e308, 5e-324))
        content = wide.tobytes()
    return len(header).to_bytes(8, "little") + header + content
