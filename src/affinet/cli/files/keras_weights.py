"""Read the weights in files of Keras 3: `.weights.h5`, and `.keras`, a zip archive that holds such a file.

`model.save`, `model.save_weights`: https://keras.io/guides/serialization_and_saving
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from affinet.cli.files.hdf_process import HdfProcess
from affinet.cli.files.keras_archives import check_archive
from affinet.cli.files.libraries import needed_library
from affinet.cli.files.stored_weight import Stored, of_array


def keras_weights(path: Path, stack: ExitStack) -> Stored:
    """The weights by `layer/weight`, with all layers around them; each is read when it is needed.

    The process that reads the file runs until `stack` is closed. Raises ModelFileError without the package h5py, for
    files that do not name their layers, and for damaged ones.
    """
    needed_library("h5py", path)
    if path.suffix == ".keras":
        check_archive(path)
    process = stack.enter_context(HdfProcess(path))
    return {
        name: of_array(shape, dtype, partial(process.numbers, name, dtype))
        for name, (shape, dtype) in process.described.items()
    }
