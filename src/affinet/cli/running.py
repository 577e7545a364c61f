"""A whole run: train under the rules and save each epoch, then train the same network without them and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Protocol

from affinet.cli.keeping import Learner, under_rules, without_rules
from affinet.cli.preparing import Prepared, make_network, seeded
from affinet.cli.runfolder import begin_run, refuse_used
from affinet.cli.summary import Outcome, RunSummary
from affinet.cli.threads import suited_threads
from affinet.cli.training import Diverged, Epoch, Measure, Step, rows_for, train_epochs
from affinet.errors import AffinetError, RunError
from affinet.training.baking import Trainable

See = Callable[[Step | Epoch], None]


class Watch(Protocol):
    """Whoever wants to see a run while it lasts."""

    def say(self, sentence: str) -> None:
        """Something has happened that a person should know."""

    def training(self, title: str, epochs: int, steps: int) -> AbstractContextManager[See]:
        """A training of so many steps in all begins; every step and epoch is handed to what the block receives."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run, with a sentence about what is on disk."""


def run(prepared: Prepared, out: Path, watch: Watch) -> RunSummary:
    """Train under the rules and save each epoch under `out`; then train without them, and compare.

    The rules are attached before the folder is made. Raises RunError where `out` holds a run or the training
    under rules fails, and Interrupted on Ctrl-C.
    """
    refuse_used(out)
    rules = _with_rules(prepared, out, watch)
    plain: Outcome | None = None
    try:
        plain = _without_rules(prepared, watch)
    except KeyboardInterrupt:
        fact = "Interrupted while training without rules for comparison"
        raise Interrupted(f"{fact}; the run with rules is finished, and all of it is in {out}.") from None
    except Diverged as error:
        watch.say(f"Without the rules {error}")
    return RunSummary(prepared.data.score_name, len(prepared.data.test_targets), rules, plain)


def _with_rules(prepared: Prepared, out: Path, watch: Watch) -> Outcome:
    with seeded(prepared.job.job.train.seed):
        kept = under_rules(prepared.job, make_network(prepared.job, prepared.data), prepared.plan)
        watch.say(_moved(kept.handle.moved))
        folder = begin_run(out, prepared.job.text, prepared.plan)
        try:
            last, worst, seconds = _train(
                prepared,
                kept.learner,
                watch,
                "with rules",
                kept.handle.violation,
                lambda epoch: folder.save(epoch, kept.state()),
            )
        except KeyboardInterrupt:
            raise Interrupted(f"Interrupted. {folder.contents()}") from None
        except AffinetError as error:
            raise RunError(f"{error} {folder.contents()}") from error
    return Outcome(last.loss, last.score, worst, kept.trained, kept.free, seconds)


def _without_rules(prepared: Prepared, watch: Watch) -> Outcome:
    with seeded(prepared.job.job.train.seed):
        learner = without_rules(prepared.job, make_network(prepared.job, prepared.data))
        weights = dict(learner.network.named_parameters())
        projector = prepared.plan.projector(learner.network)
        measure = partial(projector.violation, weights)
        last, worst, seconds = _train(prepared, learner, watch, "without rules", measure, _forget)
    return Outcome(last.loss, last.score, worst, Trainable(learner.numbers, learner.numbers), learner.numbers, seconds)


def _train(
    prepared: Prepared,
    learner: Learner,
    watch: Watch,
    title: str,
    measure: Measure,
    save: Callable[[Epoch], None],
) -> tuple[Epoch, float, float]:
    """The last epoch, the largest violation of any, and the seconds they took."""
    train, rows = prepared.job.job.train, rows_for(learner.network, prepared.data)
    steps = train.epochs * ceil(len(rows.train_features) / train.batch_size)
    began, worst, last = perf_counter(), 0.0, None
    with (
        suited_threads(learner.numbers * train.batch_size),
        watch.training(title, train.epochs, steps) as see,
    ):
        for event in train_epochs(learner.network, learner.optimizer, rows, train, measure):
            if isinstance(event, Epoch):
                save(event)
                worst, last = max(worst, event.violation), event
            see(event)
    assert last is not None, "a job has at least one epoch"
    return last, worst, perf_counter() - began


def _forget(_epoch: Epoch) -> None:
    """The training without rules is a comparison and leaves nothing on disk."""


def _moved(distances: Mapping[str, float]) -> str:
    parts = [f"{name} by {distance:.3g}" for name, distance in distances.items() if distance > 0]
    if not parts:
        return "The first weights satisfy the rules already; nothing was moved."
    return f"The first weights were moved to the nearest ones that satisfy the rules: {', '.join(parts)}."
