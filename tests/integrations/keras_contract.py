"""Project, take tangents and train in Keras: `python -m tests.integrations.keras_contract FOLDER`.

Reads jobs.pkl of the folder, a list of plans with numbers, and writes results.npz.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

import affinet
import affinet.keras
from affinet.adapters.keras_steps import Sandwich
from tests.integrations.keras_bare import Bare, compiled, enable_float64, numpy_of, tensors, train
from tests.integrations.keras_jobs import Job

Arrays = Mapping[str, np.ndarray]


def results_of(job: Job) -> dict[str, Arrays]:
    """What comes of a job: weights that are projected once and twice, and the tangent, or weights that were trained."""
    if job.noise is not None:
        return {"trained": trained(job.plan, job.weights, job.noise)}
    sandwich = Sandwich(job.plan)

    def both(weights: Any, gradients: Any) -> Any:
        return sandwich.placed(weights), sandwich.prepared(gradients, weights, ())[0]

    run, gradients = compiled(both), tensors(job.gradients)
    projected, tangent = map(numpy_of, run(tensors(job.weights), gradients))
    return {"projected": projected, "tangent": tangent, "again": numpy_of(run(tensors(projected), gradients)[0])}


def trained(plan: affinet.Plan, weights: Arrays, noise: Arrays) -> Arrays:
    model, rows = Bare(weights), tensors(noise)
    optimizer = affinet.keras.project(model, keras.optimizers.AdamW(0.05, weight_decay=0.1), plan)
    steps = len(next(iter(noise.values())))
    train(model, optimizer, lambda w, number: {n: rows[n][number] * (1.0 + w[n] ** 2) for n in w}, steps)
    return model.arrays()


def main(folder: Path) -> None:
    enable_float64()
    jobs = pickle.loads((folder / "jobs.pkl").read_bytes())
    made = {
        f"{number} {purpose} {name}": array
        for number, job in enumerate(jobs)
        for purpose, arrays in results_of(job).items()
        for name, array in arrays.items()
    }
    np.savez(folder / "results.npz", **made)
    print(len(made))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
