"""Check a `.keras` archive: a zip file that holds the weights of a model of Keras 3 in an HDF5 file."""

from __future__ import annotations

import zipfile
from pathlib import Path

from affinet.errors import ModelFileError
from affinet.system.unfolding import refusal_of_size

MEMBER = "model.weights.h5"
"""The file in the archive that holds the weights."""


def check_archive(path: Path) -> None:
    """Raise ModelFileError unless the archive holds weights of an acceptable size, zipfile.BadZipFile for others."""
    with zipfile.ZipFile(path) as archive:
        if MEMBER not in archive.namelist():
            raise ModelFileError(f"{path} is a zip archive without {MEMBER}. Name a file that model.save wrote.")
        info = archive.getinfo(MEMBER)
        reason = refusal_of_size(path.stat().st_size, info.file_size // 8, 8)
        if reason and info.compress_type != zipfile.ZIP_STORED:
            raise ModelFileError(f"{path} holds {reason}. Save the model again with model.save.")
