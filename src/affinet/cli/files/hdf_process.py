"""Run the process that reads a file of Keras, and ask it for weights."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import numpy as np

from affinet.errors import ModelFileError

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[2:]; from affinet.cli.files.keras_layers import serve; serve(sys.argv[1])"
)
"""The search path of modules is the parent's, without the current folder."""


class HdfProcess:
    """A process that has a file of Keras open; `described` has the shape and the type of each weight, by name.

    A context manager, which ends the process. Raises ModelFileError for what the process refuses, and where it ends.
    """

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(path.absolute()), *sys.path]
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._path, self._process = path, subprocess.Popen(command, **pipes)
        try:
            described = json.loads(self._answer())
        except BaseException:
            self._end()
            raise
        self.described: dict[str, tuple[tuple[int, ...], str]] = {
            name: (tuple(shape), dtype) for name, (shape, dtype) in described.items()
        }

    def numbers(self, name: str, dtype: str) -> np.ndarray[Any, Any]:
        """The numbers of a weight, row by row; those of bfloat16 as integers of 16 bits."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(name).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._unreadable("the process that reads it has ended") from None
        return np.frombuffer(self._answer(), np.uint16 if dtype == "bfloat16" else np.dtype(dtype))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._end()

    def _answer(self) -> bytes:
        """The content of the next message. Raises ModelFileError."""
        assert self._process.stdout is not None
        head = self._process.stdout.read(9)
        letter, length = struct.unpack("<cQ", head) if len(head) == 9 else (b"", 0)
        content: bytes = self._process.stdout.read(length)
        if not letter or len(content) < length:
            raise self._unreadable("it ended the process that reads it, out of memory, out of time, or damaged")
        if letter == b"u":
            raise self._unreadable(content.decode())
        if letter == b"x":
            raise ModelFileError(content.decode().replace(str(self._path.absolute()), str(self._path)))
        return content

    def _unreadable(self, reason: str) -> ModelFileError:
        return ModelFileError(
            f"{self._path} is not a readable file of Keras weights: {reason.rstrip('.')}. Save the weights again."
        )

    def _end(self) -> None:
        self._process.kill()
        self._process.communicate()
