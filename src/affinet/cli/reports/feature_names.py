"""Read which feature each column of the first weight of a run is about, from its job and its scaling."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from affinet.cli.jobs.jobfile import read_job
from affinet.cli.runs.runfolder import SCALING
from affinet.cli.runs.start_record import JOB
from affinet.cli.trainings.perceptron import first_weight
from affinet.errors import AffinetError


def feature_names(run: Path) -> Mapping[str, tuple[str, ...]]:
    """The first weight of the built-in network → the names of its columns.

    Empty where the network is of a factory, and where a file is missing, damaged or of an earlier version.
    """
    try:
        job = read_job(run / JOB).job
        content = json.loads((run / SCALING).read_bytes())
    except (AffinetError, OSError, ValueError, RecursionError):
        return {}
    names = content.get("features") if isinstance(content, dict) else None
    if job.model.hidden is None or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return {}
    return {first_weight(job): tuple(names)}
