"""Keep a sample of the weights before rules and without them beside a run, for pictures that compare them.

The rows and columns that `report/pages/sampling.py` draws, and the sums of whole rows and columns: some MB at most.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from affinet.cli.runs.durable import write_file
from affinet.language.calculus.terms import Parameter
from affinet.report.pages.contents import Panel
from affinet.report.pages.sampling import panel_of, sample_of, weights_drawn
from affinet.system.layout import Layout

SAMPLES = "samples.safetensors"
TITLES = {"first": "Before the rules and the training", "without": "Trained without the rules"}
"""The times of samples, in the order in which they are shown behind the weights under rules."""
PARTS = ("values", "rows", "columns")

Samples = Mapping[str, Mapping[str, Panel]]
"""Time → weight → the numbers that are drawn."""


def samples_of(layout: Layout, weights: Mapping[str, Mapping[str, np.ndarray]]) -> Samples:
    """The samples of the weights in rules that are drawn, at each time that is given."""
    names, side = weights_drawn([parameter.name for parameter in layout.parameters])
    parameters = {parameter.name: parameter for parameter in layout.parameters}
    return {
        time: {
            name: panel_of(TITLES[time], arrays[name], sample_of(parameters[name].shape, side))
            for name in names
            if name in arrays and arrays[name].shape == parameters[name].shape
        }
        for time, arrays in weights.items()
    }


def write_samples(run: Path, samples: Samples) -> None:
    """Write samples to the folder of a run. Raises OSError and SafetensorError where the disk refuses."""
    arrays: dict[str, np.ndarray] = {}
    for time, panels in samples.items():
        for name, panel in panels.items():
            parts = (panel.values, panel.row_sums, panel.column_sums)
            arrays |= {f"{time}/{part}/{name}": np.ascontiguousarray(x) for part, x in zip(PARTS, parts, strict=True)}
    write_file(run / SAMPLES, lambda neighbour: save_file(arrays, neighbour))


def read_samples(run: Path, parameters: Mapping[str, Parameter], side: int) -> tuple[Samples, str]:
    """The samples of a run, of the weights whose shapes fit; and a sentence where they cannot be read."""
    if not (run / SAMPLES).exists():
        return {}, ""
    try:
        arrays = load_file(run / SAMPLES)
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        return {}, f"{SAMPLES} cannot be read, so that weights are not compared: {str(error).splitlines()[0]}."
    samples: dict[str, dict[str, Panel]] = {}
    for time, title in TITLES.items():
        for name, parameter in parameters.items():
            sample = sample_of(parameter.shape, side)
            shapes = (len(sample.rows), len(sample.columns)), (len(sample.rows),), (len(sample.columns),)
            parts = [arrays.get(f"{time}/{part}/{name}") for part in PARTS]
            if all(x is not None and x.shape == shape for x, shape in zip(parts, shapes, strict=True)):
                values, rows, columns = (np.asarray(x, np.float64) for x in parts)
                samples.setdefault(time, {})[name] = Panel(title, values, rows, columns)
    return samples, ""
