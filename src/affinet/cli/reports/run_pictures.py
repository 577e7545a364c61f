"""Read the weights and rules of a run into pictures of its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from affinet.cli.files.modelfile import open_model
from affinet.cli.reports.feature_names import feature_names
from affinet.cli.runs.runfolder import MODEL, PLAN
from affinet.cli.runs.weight_samples import read_samples
from affinet.errors import AffinetError
from affinet.report.pages.contents import Picture
from affinet.report.pages.rule_marks import RuleReader
from affinet.report.pages.sampling import panel_of, sample_of, weights_drawn
from affinet.system.stored.planfile import read_system
from affinet.system.system import System


def pictures_of_run(run: Path) -> tuple[tuple[Picture, ...], str, list[str]]:
    """Pictures of the weights in rules, a note about those that are not drawn, and sentences about missing files."""
    missing = []
    if not (run / MODEL).exists():
        missing.append(f"{MODEL} is missing, since no epoch was finished or it was removed: no weights can be drawn.")
    if not (run / PLAN).exists():
        missing.append(f"{PLAN} is missing: rules cannot be drawn on weights.")
    if missing:
        return (), "", missing
    try:
        system = read_system(run / PLAN)
        return _pictures(run, system)
    except AffinetError as error:
        return (), "", [f"The weights cannot be drawn: {error}"]


def _pictures(run: Path, system: System) -> tuple[tuple[Picture, ...], str, list[str]]:
    parameters = {parameter.name: parameter for parameter in system.layout.parameters}
    names, side = weights_drawn(list(parameters))
    note = f"{len(names)} of {len(parameters):,} weights in rules are drawn." if len(names) < len(parameters) else ""
    reader, pictures = RuleReader(system), []
    samples, unread = read_samples(run, {name: parameters[name] for name in names}, side)
    features = feature_names(run)
    with open_model(run / MODEL) as file:
        file.check(system.layout)
        for name in names:
            weight, sample = file.weights(frozenset([name]))[name], sample_of(parameters[name].shape, side)
            panels = [panel_of("With the rules", np.asarray(weight.numbers), sample)]
            panels += [panels_of_time[name] for panels_of_time in samples.values() if name in panels_of_time]
            picture = reader.picture(parameters[name], sample, tuple(panels), weight.rounding.spacing)
            if parameters[name].shape[1:] == (len(features.get(name, ())),):
                picture = replace(picture, column_names=tuple(features[name][column] for column in sample.columns))
            pictures.append(picture)
    return tuple(pictures), note, [unread]
