"""Read MATLAB's `.mat` files, versions 4 and 5 to 7: variables that are numbers, structs of numbers or text, and names.

scipy's reader trusts a file: nested cells, sizes beyond the end of the file, and subscripts out of range end the
process or fill the memory. This reader takes only real matrices, text of a single line, and structs and cells of
structs that hold some. It compares each size with the file first.
Source: MAT-File Format, The MathWorks, R2024a.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

import numpy as np
import scipy.sparse

from affinet.errors import DataError
from affinet.system.unfolding import refusal_of_size

Order = Literal["<", ">"]
Structs = list[dict[str, Any]]
"""The fields with real numbers of each struct of an array."""

HEAD = 2**14
"""The first bytes of a variable, which hold its class, its axes, and a name of at most 63 letters."""

MOST_VARIABLES = 10_000
LONGEST_NAME = 1024
_MATRIX, _COMPRESSED, _INT32, _UINT32 = 14, 15, 5, 6
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_CLASSES = {1: "cells", 2: "structs", 3: "objects", 4: "text"}
_CELLS, _STRUCTS, _TEXT = 1, 2, 4
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_SPARSE_CLASS, _LAST_NUMERIC, _OPAQUE = 5, 15, 17
_COMPLEX = 0x0800
_NUMBERS_4 = {0: "f8", 1: "f4", 2: "i4", 3: "i2", 4: "u2", 5: "u1"}
_TEXT_4, _SPARSE_4 = 1, 2


@dataclass(frozen=True)
class Variable:
    """A variable of a file; `read` returns its numbers, `read_structs` the fields of its structs, `read_text` its text.

    Each raises ValueError and zlib.error for damaged files, and for a variable of another kind; only `read_structs`
    returns None for it. `read_structs(texts=True)` also has the fields that hold text.
    """

    name: str
    read: Callable[[], Any]
    read_structs: Callable[..., Structs | None]
    read_text: Callable[[], str]


def read_mat(path: Path, choose: Callable[[list[str]], str]) -> Any:
    """A variable of a `.mat` file: an array, or a scipy.sparse array whose indices are not yet known to be valid.

    `choose` takes the names and returns one of them. Raises DataError for version 7.3, ValueError and zlib.error for
    damaged files.
    """
    with open_mat(path) as variables:
        return variables[choose(list(variables))].read()


def read_structs(path: Path, choose: Callable[[list[str]], str]) -> Structs | None:
    """A variable that is an array of structs, or of cells with one struct each; None for other variables.

    Fields that hold anything but real numbers are left out. `choose` and errors are those of `read_mat`.
    """
    with open_mat(path) as variables:
        return variables[choose(list(variables))].read_structs()


@contextmanager
def open_mat(path: Path) -> Iterator[dict[str, Variable]]:
    """The variables of a file by name, which can be read while it is open. Errors are those of `read_mat`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first_bytes = file.read(128)
        if 0 in first_bytes[:4]:
            variables = list(_variables_4(file, size))
        else:
            variables = list(_variables_5(file, size, _order_5(path, first_bytes)))
        by_name = {variable.name: variable for variable in variables}
        if len(by_name) < len(variables):
            raise ValueError("two of its variables have one name")
        yield by_name


def _order_5(path: Path, first_bytes: bytes) -> Order:
    if len(first_bytes) < 128 or first_bytes[126:128] not in (b"IM", b"MI"):
        raise ValueError("it does not begin like one")
    order: Order = "<" if first_bytes[126:128] == b"IM" else ">"
    version = struct.unpack_from(f"{order}H", first_bytes, 124)[0]
    if version == 0x0200:
        way_out = f"In MATLAB, save it again with: save('{path.name}', 'A', '-v7')"
        raise DataError(f"{path} is a MATLAB v7.3 (HDF5) file, and affinet reads up to v7. {way_out}.")
    if version != 0x0100:
        raise ValueError(f"it is of version {version >> 8}.{version & 0xFF}")
    return order


def _variables_5(file: BinaryIO, size: int, order: Order) -> Iterator[Variable]:
    place = 128
    for _ in range(MOST_VARIABLES):
        if place == size:
            return
        kind, length = struct.unpack(f"{order}II", _read_exactly(file, place, 8))
        if kind not in (_MATRIX, _COMPRESSED) or length > size - place - 8:
            raise ValueError(f"byte {place} begins an element of kind {kind} and {length:,} bytes, which is not there")
        head = _read_unpacked(file, place, length, kind, HEAD)
        name = _Element(head, order).name
        if name:  # a variable without a name holds the state of MATLAB's functions
            element = partial(_element_5, file, place, length, kind, order, size)
            yield Variable(
                name,
                partial(_numbers_of, element, size),
                partial(_structs_of, element, size),
                partial(_text_of, element),
            )
        place += 8 + length
    raise ValueError(f"it holds more than {MOST_VARIABLES:,} variables")


def _element_5(file: BinaryIO, place: int, length: int, kind: int, order: Order, size: int) -> _Element:
    head = _Element(_read_unpacked(file, place, length, kind, HEAD), order)
    if reason := refusal_of_size(size, head.announced // 8, 8):
        raise ValueError(f"variable {head.name!r:.60} holds {reason}")
    # One byte more than announced, so that the checksum is read.
    return _Element(_read_unpacked(file, place, length, kind, head.announced + 1), order)


def _numbers_of(element: Callable[[], _Element], size: int) -> Any:
    return element().numbers(size)


def _structs_of(element: Callable[[], _Element], size: int, *, texts: bool = False) -> Structs | None:
    return element().structs(size, texts=texts)


def _text_of(element: Callable[[], _Element]) -> str:
    return element().line_of_text()


def _read_unpacked(file: BinaryIO, place: int, length: int, kind: int, limit: int) -> bytes | bytearray:
    """The first `limit` bytes of the element of a matrix, decompressed; all of them where there are fewer."""
    if kind == _MATRIX:
        return _read_exactly(file, place, min(8 + length, limit))
    stream, content, length_read = zlib.decompressobj(), bytearray(limit), 0
    file.seek(place + 8)
    while length and length_read < limit and not stream.eof:
        packed = file.read(min(length, 2**16))
        if not packed:
            raise ValueError("it ends inside a variable")
        length -= len(packed)
        piece = stream.decompress(packed, limit - length_read)
        content[length_read : length_read + len(piece)] = piece
        length_read += len(piece)
    if length_read < limit and not stream.eof:
        raise ValueError("a compressed variable ends before its checksum")
    del content[length_read:]
    return content


def _read_exactly(file: BinaryIO, place: int, length: int) -> bytes:
    file.seek(place)
    content = file.read(length)
    if len(content) < length:
        raise ValueError(f"it ends at byte {place + len(content):,}, inside of a variable")
    return content


class _Element:
    """The element of a matrix, read from its front: class, axes, name, then its numbers."""

    def __init__(self, content: bytes | bytearray, order: Order) -> None:
        self._content, self._order, self._place = content, order, 0
        kind, length = self._tag()
        if kind != _MATRIX:
            raise ValueError(f"a variable is of kind {kind}, not a matrix")
        self.announced = 8 + length
        flags = self._next(_UINT32)
        if flags.size != 2:
            raise ValueError("a variable does not say its class")
        self._class, self._complex = int(flags[0]) & 0xFF, bool(int(flags[0]) & _COMPLEX)
        self.shape: tuple[int, ...] = (0, 0)  # objects of newer MATLAB state no shape
        if self._class != _OPAQUE:
            self.shape = tuple(int(n) for n in self._next(_INT32))
        if not 2 <= len(self.shape) <= 32 or min(self.shape) < 0:
            raise ValueError(f"a variable has shape {self.shape!r:.80}")
        self.name = self._next(1).tobytes().decode("latin-1")

    def numbers(self, size: int) -> Any:
        """The matrix. Raises ValueError where its parts do not fit together."""
        if len(self._content) != self.announced:
            raise ValueError(f"{self.name!r:.60} announces {self.announced:,} bytes and holds {len(self._content):,}")
        if self._class in _CLASSES or not _SPARSE_CLASS <= self._class <= _LAST_NUMERIC:
            raise ValueError(f"{self.name!r:.60} holds {_CLASSES.get(self._class, 'objects')}, not numbers")
        if self._complex:
            raise ValueError(f"{self.name!r:.60} holds complex numbers; affinet takes real numbers")
        if self._class == _SPARSE_CLASS:
            return self._sparse()
        count = prod(self.shape)
        if reason := refusal_of_size(size, count, 8):
            raise ValueError(f"{self.name!r:.60} holds {reason}")
        values = self._next()
        if values.size != count:
            raise ValueError(f"{self.name!r:.60} has shape {self.shape!r:.80} and {values.size:,} numbers")
        return values.reshape(self.shape, order="F")

    def line_of_text(self) -> str:
        """The text. Raises ValueError for other classes, and for text of several lines."""
        count = prod(self.shape)
        if self._class != _TEXT or (count and self.shape[0] != 1):
            raise ValueError(f"{self.name!r:.60} is not text of a single line")
        if not count:
            return ""
        kind, start, length = self._part()
        if kind not in _ENCODINGS:
            raise ValueError(f"{self.name!r:.60} has text of kind {kind}")
        suffix = "" if kind in (1, 2, 16) else {"<": "-le", ">": "-be"}[self._order]
        return bytes(self._content[start : start + length]).decode(_ENCODINGS[kind] + suffix)

    def structs(self, size: int, *, texts: bool = False) -> Structs | None:
        """The fields of each struct, in the order of MATLAB; None where this is not an array of structs or cells.

        Fields that do not hold real numbers, or with `texts` text, are left out.
        """
        if self._class not in (_CELLS, _STRUCTS):
            return None
        if len(self._content) != self.announced:
            raise ValueError(f"{self.name!r:.60} announces {self.announced:,} bytes and holds {len(self._content):,}")
        if self._class == _CELLS:
            cells = [self._nested() for _ in range(self._count(1))]
            read = [cell.structs(size, texts=texts) if cell._class == _STRUCTS else None for cell in cells]
            return None if None in read else [fields for each in read for fields in each or ()]
        length = int(self._next(_INT32)[0])
        letters = self._next(1).tobytes().decode("latin-1")
        names = [letters[k : k + length].partition("\0")[0] for k in range(0, len(letters), max(length, 1))]
        elements = [[self._nested() for _ in names] for _ in range(self._count(len(names)))]
        return [
            {
                name: part.numbers(size) if part.is_real else part.line_of_text()
                for name, part in zip(names, each, strict=True)
                if part.is_real or (texts and part.is_text)
            }
            for each in elements
        ]

    def _count(self, parts: int) -> int:
        """How many cells or structs there are, which have so many parts each. Raises ValueError where they are not."""
        count = prod(self.shape)
        if count and (not parts or 8 * count * parts > len(self._content)):
            raise ValueError(f"{self.name!r:.60} has shape {self.shape!r:.80} and fewer parts")
        return count

    @property
    def is_real(self) -> bool:
        """Whether it holds real numbers."""
        return _SPARSE_CLASS <= self._class <= _LAST_NUMERIC and not self._complex

    @property
    def is_text(self) -> bool:
        """Whether it holds text."""
        return self._class == _TEXT

    def _nested(self) -> _Element:
        """The next element, which is a matrix; MATLAB writes an empty one without class and axes."""
        start = self._place
        kind, length = self._tag()
        if kind != _MATRIX or length > len(self._content) - self._place:
            raise ValueError(f"{self.name!r:.60} has a part of kind {kind} and {length:,} bytes, which is not there")
        self._place += length
        return _Element(self._content[start : self._place] if length else _EMPTY[self._order], self._order)

    def _sparse(self) -> Any:
        rows, starts, values = self._next(_INT32), self._next(_INT32), self._next()
        parts_fit = len(self.shape) == 2 and starts.size == self.shape[1] + 1
        if not parts_fit or not 0 <= starts[-1] <= min(rows.size, values.size):
            raise ValueError(f"{self.name!r:.60} is sparse, and its parts do not fit its shape {self.shape!r:.80}")
        stored = int(starts[-1])
        return scipy.sparse.csc_array((values[:stored], rows[:stored], starts), shape=self.shape)

    def _tag(self) -> tuple[int, int]:
        """The kind and the length that an element begins with; move behind them."""
        if self._place + 8 > len(self._content):
            raise ValueError("a variable ends before one of its parts")
        kind, length = struct.unpack_from(f"{self._order}II", self._content, self._place)
        self._place += 8
        return kind, length

    def _next(self, kind: int | None = None) -> Any:
        """The numbers of the next element, of this kind."""
        part_kind, start, length = self._part()
        if part_kind not in _NUMBERS or (kind is not None and part_kind != kind):
            raise ValueError(f"a variable has a part of kind {part_kind} and {length:,} bytes, which is not there")
        dtype = np.dtype(self._order + _NUMBERS[part_kind])
        if length % dtype.itemsize:
            raise ValueError(f"a variable has a part of {length:,} bytes, which are not {dtype} numbers")
        return np.frombuffer(self._content, dtype, length // dtype.itemsize, start)

    def _part(self) -> tuple[int, int, int]:
        """The kind, start and length of the next element, which is inside its tag if short; move behind it."""
        kind, length = self._tag()
        start, padded_length = self._place, -(-length // 8) * 8
        if kind >> 16:
            kind, length, start, padded_length = kind & 0xFFFF, kind >> 16, self._place - 4, 0
        if length > len(self._content) - start:
            raise ValueError(f"a variable has a part of kind {kind} and {length:,} bytes, which is not there")
        self._place += padded_length
        return kind, start, length


_EMPTY: dict[Order, bytes] = {
    order: struct.pack(f"{order}14I", _MATRIX, 48, _UINT32, 8, 6, 0, _INT32, 8, 0, 0, 1, 0, 9, 0)
    for order in get_args(Order)
}
"""An empty matrix of float64: its class, its axes, no name and no numbers."""


@dataclass(frozen=True)
class _Header4:
    """A variable of version 4: `sort` is 0 for numbers, 1 for text, 2 for a sparse matrix, from byte `start` on."""

    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    sort: int
    imaginary: int
    start: int

    @property
    def length(self) -> int:
        return prod(self.shape) * self.dtype.itemsize * (1 + self.imaginary)


def _variables_4(file: BinaryIO, size: int) -> Iterator[Variable]:
    place = 0
    for _ in range(MOST_VARIABLES):
        if place == size:
            return
        header = _header_4(file, place, size)
        yield Variable(header.name, partial(_numbers_4, file, header, size), _no_structs, _no_text)
        place = header.start + header.length
    raise ValueError(f"it holds more than {MOST_VARIABLES:,} variables")


def _no_structs(*, texts: bool = False) -> None:
    """Files of version 4 have numbers and text only."""
    del texts


def _no_text() -> str:
    raise ValueError("text of version 4 is not read")


def _header_4(file: BinaryIO, place: int, size: int) -> _Header4:
    head = _read_exactly(file, place, 20)
    order: Order = "<" if 0 <= struct.unpack("<i", head[:4])[0] <= 5000 else ">"
    code, rows, columns, imaginary, letters = struct.unpack(f"{order}5i", head)
    dtype_code = _NUMBERS_4.get(code // 10 % 10, "")
    is_known = dtype_code and code // 100 in (0, 10) and code % 10 <= 2
    if not is_known or imaginary not in (0, 1) or not 1 <= letters <= LONGEST_NAME:
        raise ValueError(f"byte {place} is not the start of a variable")
    name = _read_exactly(file, place + 20, letters).strip(b"\0").decode("latin-1")
    dtype = np.dtype(order + dtype_code)
    header = _Header4(name, (rows, columns), dtype, code % 10, imaginary, place + 20 + letters)
    if min(rows, columns) < 0 or header.start + header.length > size:
        raise ValueError(f"{name!r:.60} announces {rows} by {columns} numbers, which are not there")
    return header


def _numbers_4(file: BinaryIO, header: _Header4, size: int) -> Any:
    if header.sort == _TEXT_4 or header.imaginary:
        raise ValueError(f"{header.name!r:.60} holds {'text' if header.sort == _TEXT_4 else 'complex numbers'}")
    if reason := refusal_of_size(size, prod(header.shape), 8):
        raise ValueError(f"{header.name!r:.60} holds {reason}")
    values = np.frombuffer(_read_exactly(file, header.start, header.length), header.dtype).reshape(
        header.shape, order="F"
    )
    if header.sort != _SPARSE_4:
        return values
    places = values[:, :2]
    if values.shape[0] < 1 or values.shape[1] != 3 or not ((places >= 1) & (places < 2**31)).all():
        raise ValueError(f"{header.name!r:.60} is sparse, and its rows and columns are not counted from 1")
    rows, columns = places[:-1].astype(np.int64).T - 1
    return scipy.sparse.coo_array((values[:-1, 2], (rows, columns)), shape=tuple(int(n) for n in places[-1]))
