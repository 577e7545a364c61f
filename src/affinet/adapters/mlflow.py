"""Draw observations as metrics of a run of MLflow, under names that MLflow accepts."""

from __future__ import annotations

import re
from typing import Any

from affinet.errors import WatchError
from affinet.report.observation import Observation

LONGEST_NAME = 250
"""Characters of the name of a metric, of which MLflow's databases keep no more."""


class MlflowLog:
    """Adds one value per observation to each metric `affinet/…` of a run of MLflow; names as `Observation.numbers()`.

    Takes the run that `mlflow.start_run()` returns, or its id; the caller ends it. Names of rules keep letters, digits,
    spaces, `_`, `-` and `.`; each other character becomes `_`, and two rules whose names are then equal are numbered.
    Raises WatchError for anything else than a run, and where MLflow is not installed.
    """

    def __init__(self, run: Any) -> None:
        run_id = run if isinstance(run, str) else getattr(getattr(run, "info", None), "run_id", None)
        if not isinstance(run_id, str):
            raise WatchError(
                f"{run!r:.60} ({type(run).__name__}) is neither a run of MLflow nor its id. Give what "
                f"mlflow.start_run() returns."
            )
        try:
            from mlflow import log_metrics
        except ImportError as missing:
            raise WatchError(
                "MlflowLog writes with the package mlflow, which is not installed. Run pip install mlflow, or write a "
                "table with affinet.CsvLog(path)."
            ) from missing
        self._run_id, self._log_metrics = run_id, log_metrics
        self._metrics: dict[str, str] = {}

    def __call__(self, observation: Observation, /) -> None:
        """Add one value to each metric."""
        prefix = f"optimizer {observation.optimizer}/" if observation.optimizer else ""
        numbers = {self._metric(prefix + name): number for name, number in observation.numbers().items()}
        self._log_metrics(numbers, step=observation.step, run_id=self._run_id)

    def _metric(self, name: str) -> str:
        """The metric of a number: always the same one, and no two numbers of one metric."""
        if name not in self._metrics:
            self._metrics[name] = _free_name(_accepted(name), set(self._metrics.values()))
        return self._metrics[name]


def _accepted(name: str) -> str:
    """A name that MLflow accepts: `affinet/kind/rule`, where the rule is one part of a path."""
    optimizer, kind, rule = re.fullmatch(r"(optimizer \d+/)?([^/]*)/?(.*)", name, re.DOTALL).groups("")  # type: ignore[union-attr]
    part = re.sub(r"[^\w.\- ]", "_", rule)
    if not part.strip("."):
        part = "_" * len(part)  # "." and ".." are folders
    return f"affinet/{optimizer}{kind}{'/' if part else ''}{part}"[:LONGEST_NAME]


def _free_name(name: str, used: set[str]) -> str:
    """`name`, or the first of `name 2`, `name 3`, … that is not used."""
    number, free = 1, name
    while free in used:
        number += 1
        ending = f" {number}"
        free = name[: LONGEST_NAME - len(ending)] + ending
    return free
