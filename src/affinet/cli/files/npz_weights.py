"""Read the weights of a `.npz` archive, an array each: `numpy.savez("weights.npz", **weights)`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from affinet.cli.files.arrays import describe_npz, read_npz_array
from affinet.cli.files.stored_weight import Stored, of_array
from affinet.errors import DataError, ModelFileError


def npz_weights(path: Path) -> Stored:
    """The arrays by name; each is read when it is needed. Raises ModelFileError and errors of archives."""
    try:
        described = describe_npz(path)
    except DataError as error:
        raise ModelFileError(str(error)) from None
    return {
        name: of_array(shape, dtype.newbyteorder("=").name, partial(read_npz_array, path, name))
        for name, (shape, dtype) in described.items()
    }
