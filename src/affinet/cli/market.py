"""Matrix Market files: the sizes in the header are held against the length of the file before scipy reads the rest."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import scipy.io

from affinet.cli.unfolding import unfolds

LONGEST_LINE = 2**16
_BANNER = re.compile(
    r"%%MatrixMarket\s+matrix\s+(array|coordinate)\s+(real|double|integer|unsigned-integer|pattern|complex)"
    r"\s+(general|symmetric|skew-symmetric|hermitian)\s*",
    re.IGNORECASE | re.ASCII,
)
_SIZES = re.compile(r"\s*(\d{1,18})\s+(\d{1,18})(?:\s+(\d{1,18}))?\s*", re.ASCII)


def read_mtx(path: Path) -> Any:
    """A dense array or a scipy.sparse one. Raises ValueError, and what scipy raises of malformed lines."""
    size = path.stat().st_size
    with path.open("rb") as file:
        banner = _BANNER.fullmatch(file.readline(LONGEST_LINE).decode("latin-1"))
        if banner is None:
            raise ValueError("its first line is not that of a Matrix Market file of a matrix")
        line = b"%"
        while line.startswith(b"%") or (line and not line.strip()):
            line = file.readline(LONGEST_LINE)
        sizes = _SIZES.fullmatch(line.decode("latin-1"))
        left = size - file.tell()
    sparse = banner[1].lower() == "coordinate"
    if sizes is None or (sizes[3] is not None) != sparse:
        raise ValueError(f"{line[:60]!r} are not its sizes")
    rows, columns, stored = (int(number or 0) for number in sizes.groups())
    lines = stored if sparse else rows * columns if banner[3].lower() == "general" else rows * (rows - 1) // 2
    shortest = 4 if sparse else 2  # "1 1" or "1", and the end of the line
    if lines * shortest > left + 1:
        raise ValueError(f"its sizes announce {lines:,} lines, and {left:,} bytes follow")
    if reason := unfolds(size, 2 * stored if sparse else rows * columns, 8):
        raise ValueError(f"it holds {reason}")
    return scipy.io.mmread(path)
