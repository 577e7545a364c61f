"""Identify the job, the rules and the data of a run by digests, so that it is resumed only with the same ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from affinet.cli.jobs.job import Table
from affinet.cli.trainings.data import Data
from affinet.cli.trainings.preparation import Prepared
from affinet.errors import RunError
from affinet.system.stored.digest import digest_of_rules


class Identity(Table):
    """SHA-256 of the job's text, of the rules' content, and of the rows that the training uses."""

    job: str
    plan: str
    data: str


def identity_of(prepared: Prepared) -> Identity:
    """The digests of a job with its files."""
    return Identity(
        job=digest_of_text(prepared.job.text),
        plan=digest_of_rules(prepared.rules.system),
        data=_digest_of_data(prepared.data),
    )


def digest_of_text(text: str) -> str:
    """SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def refuse_other(run: Path, stored: Identity, current: Identity) -> None:
    """Raise RunError where a run that was started with `stored` would be resumed with `current`."""
    causes = {
        "job": "its job.toml",
        "plan": "the content of its rules (a matrix or right-hand side in a file, or the weights of the network)",
        "data": "its data (a file, or how the installed packages read it)",
    }
    for part, cause in causes.items():
        before, after = getattr(stored, part), getattr(current, part)
        if before != after:
            raise RunError(
                f"{run} cannot be resumed: {cause} changed since it was started (SHA-256 {before[:12]}… then, "
                f"{after[:12]}… now). Restore the former content, or start a new run with --out."
            )


def _digest_of_data(data: Data) -> str:
    digest = hashlib.sha256(f"{data.task} {data.outputs}".encode())
    for rows in (data.train_features, data.train_targets, data.test_features, data.test_targets):
        digest.update(f"\n{rows.dtype.name} {rows.shape}\n".encode())
        digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()
