"""Execute notebooks from top to bottom, each in a folder of its own, and write the executed copies with their pictures.

An error in a cell, an assertion that does not hold and a warning are faults.

    python -m tools.run_notebooks build/notebooks docs/notebooks/*.ipynb
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS_OF_CELL = 300


def main(arguments: list[str]) -> int:
    """Execute the notebooks after the folder for their copies; exit status 1 where one has a fault."""
    folder, *notebooks = map(Path, arguments)
    folder.mkdir(parents=True, exist_ok=True)
    failed = not notebooks
    for path in notebooks:
        executed = execute(path, folder / path.name)
        for fault in faults(executed):
            failed = True
            print(f"{path}: {fault}", file=sys.stderr)
        print(f"{path}: {sum(cell['cell_type'] == 'code' for cell in executed['cells'])} cells")
    return int(failed)


def execute(path: Path, copy: Path) -> dict[str, Any]:
    """The notebook in `path` with the outputs of its cells, which are also written to `copy`; it stops at an error."""
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    with tempfile.TemporaryDirectory() as empty:
        client = nbclient.NotebookClient(notebook, timeout=SECONDS_OF_CELL, resources={"metadata": {"path": empty}})
        try:
            client.execute()
        except nbclient.exceptions.CellExecutionError:
            pass  # the error is an output of its cell
        finally:
            nbformat.write(notebook, copy)
    return dict(notebook)


def faults(notebook: dict[str, Any]) -> Iterator[str]:
    """A sentence for each output that is an error or was written to the standard error, as warnings are."""
    for number, cell in enumerate(notebook["cells"], start=1):
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                yield f"cell {number} raises {output['ename']}: {output['evalue']}\n" + "\n".join(output["traceback"])
            elif output.get("name") == "stderr":
                yield f"cell {number} warns: {output['text']}"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
