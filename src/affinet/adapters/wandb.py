"""Draw observations as curves in a run of Weights & Biases."""

from __future__ import annotations

from typing import Any

from affinet.errors import WatchError
from affinet.report.observation import Observation

STEP = "affinet/step"
"""The axis of the curves. Steps of `run.log(…, step=…)` may only rise, and rows of a smaller one are dropped: another
caller may have counted further."""


class WandbLog:
    """Adds one row per observation to a run of Weights & Biases: `affinet/…`, the names of `Observation.numbers()`.

    Takes the run that `wandb.init(…)` returns, online or offline, which the caller finishes. The curves are drawn over
    `affinet/step`, whatever else is logged. Raises WatchError for anything else than a run.
    """

    def __init__(self, run: Any) -> None:
        if not (callable(getattr(run, "log", None)) and callable(getattr(run, "define_metric", None))):
            raise WatchError(
                f"{run!r:.60} ({type(run).__name__}) is not a run of Weights & Biases. Give what wandb.init(…) returns."
            )
        self._run = run
        run.define_metric("affinet/*", step_metric=STEP)

    def __call__(self, observation: Observation, /) -> None:
        """Add one row."""
        prefix = f"optimizer {observation.optimizer}/" if observation.optimizer else ""
        numbers = {f"affinet/{prefix}{name}": number for name, number in observation.numbers().items()}
        self._run.log({STEP: observation.step, **numbers})
