"""Makes the matrix files that the demo ships with; `python tests/cli/demo_files.py` writes them again."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import scipy.io
import scipy.sparse

FOLDER = Path(__file__).parents[2] / "src" / "affinet" / "cli" / "demo"
HIDDEN2, OUTPUT = 32 * 64, 10 * 32
EQUATIONS = 50
NOTE = " Made by tests/cli/demo_files.py with numpy.random.default_rng(0)."


def demo_files() -> dict[str, bytes]:
    """`A.mtx`, 50 equations with three entries of each of two layers, and `b.mtx`, their right-hand sides."""
    random = np.random.default_rng(0)
    columns = [
        np.concatenate([random.choice(HIDDEN2, 3, replace=False), HIDDEN2 + random.choice(OUTPUT, 3, replace=False)])
        for _ in range(EQUATIONS)
    ]
    rows = np.repeat(np.arange(EQUATIONS), 6)
    # Quarters are exact in every floating-point type, so the file says exactly what is meant.
    values = random.choice([-1.0, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1.0], size=rows.size)
    matrix = scipy.sparse.coo_array((values, (rows, np.concatenate(columns))), shape=(EQUATIONS, HIDDEN2 + OUTPUT))
    right = random.choice([-0.25, -0.125, 0.0, 0.125, 0.25], size=(EQUATIONS, 1))
    return {"A.mtx": _written(matrix), "b.mtx": _written(right)}


def _written(array: object) -> bytes:
    file = io.BytesIO()
    scipy.io.mmwrite(file, array, comment=NOTE, precision=6)
    return file.getvalue()


if __name__ == "__main__":
    for name, content in demo_files().items():
        (FOLDER / name).write_bytes(content)
