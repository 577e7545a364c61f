"""A whole run: train under the rules and save each epoch, then train the same network without them and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Protocol

import torch

from affinet.blocks.interval import Interval
from affinet.cli.runs.begun import Begun
from affinet.cli.runs.checkpoint import Checkpoint
from affinet.cli.runs.identity import identity_of
from affinet.cli.runs.locking import locked
from affinet.cli.runs.runfolder import METRICS, RunFolder, begin_run, make_folder, refuse_used
from affinet.cli.runs.snapshot import put_back, take
from affinet.cli.summary import Outcome, RunSummary
from affinet.cli.trainings.keeping import Kept, Learner, under_rules, without_rules
from affinet.cli.trainings.preparing import Prepared, make_network, seeded
from affinet.cli.trainings.threads import suited_threads
from affinet.cli.trainings.training import (
    Diverged,
    Epoch,
    Measure,
    Progress,
    Step,
    rows_for,
    train_epochs,
    trivial_score,
)
from affinet.cli.words import counted
from affinet.errors import AffinetError, RunError
from affinet.training.baking import Trainable

See = Callable[[Step | Epoch], None]
Save = Callable[[Progress], None]


class Watch(Protocol):
    """Whoever wants to see a run while it lasts."""

    def say(self, sentence: str) -> None:
        """Something has happened that a person should know."""

    def training(self, title: str, epochs: int, steps: int, taken: int) -> AbstractContextManager[See]:
        """A training of so many steps, some of them taken already; the block receives what to hand each event to."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run, with a sentence about what is on disk."""


def run(prepared: Prepared, out: Path, watch: Watch) -> RunSummary:
    """Train under the rules and save each epoch under `out`; then train without them, and compare.

    The rules are attached before the folder is made. Raises RunError where `out` holds a run, another process writes to
    it or the training under rules fails, and Interrupted on Ctrl-C.
    """
    refuse_used(out)
    with seeded(prepared.job.job.train.seed):
        kept = _kept(prepared)
        watch.say(_moved(kept.handle.moved))
        make_folder(out)
        with locked(out):
            folder = begin_run(out, begun_now(prepared), prepared.job.text, prepared.plan, prepared.data.score_name)
            return _compared(prepared, kept, folder, watch, None)


def go_on(prepared: Prepared, folder: RunFolder, checkpoint: Checkpoint | None, watch: Watch) -> RunSummary:
    """The rest of a run: from a checkpoint of its training under rules, or from the beginning where there is none.

    Law: weights and metrics are, bit for bit, those of the run in one go. The caller holds the lock. Raises as `run`.
    """
    with seeded(prepared.job.job.train.seed):
        kept = _kept(prepared)
        if checkpoint is None:
            watch.say(_moved(kept.handle.moved))
        return _compared(prepared, kept, folder, watch, checkpoint)


def made_again(prepared: Prepared, folder: RunFolder, checkpoint: Checkpoint, watch: Watch) -> None:
    """Put weights and metrics back as they were after the epoch of a checkpoint; nothing is trained."""
    with seeded(prepared.job.job.train.seed):
        _put_back(checkpoint, _kept(prepared), torch.Generator(), folder, watch)


def begun_now(prepared: Prepared) -> Begun:
    """What a run that begins here and now has to remember."""
    place = prepared.job.path.resolve()
    return Begun(
        folder=str(place.parent),
        name=place.name,
        identity=identity_of(prepared),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )


def _kept(prepared: Prepared) -> Kept:
    return under_rules(prepared.job, make_network(prepared.job, prepared.data), prepared.plan)


def _compared(
    prepared: Prepared, kept: Kept, folder: RunFolder, watch: Watch, checkpoint: Checkpoint | None
) -> RunSummary:
    rules = _with_rules(prepared, kept, folder, watch, checkpoint)
    plain: Outcome | None = None
    try:
        plain = _without_rules(prepared, watch)
    except KeyboardInterrupt:
        fact = "Interrupted while training without rules for comparison"
        rest = f"the run with rules is finished, and all of it is in {folder.path}. {folder.way_on()}"
        raise Interrupted(f"{fact}; {rest}") from None
    except Diverged as error:
        watch.say(f"Without the rules {error}")
    rows = rows_for(kept.learner.network, prepared.data)
    summary = RunSummary(prepared.data.score_name, len(rows.test_targets), trivial_score(rows), rules, plain)
    folder.finish(summary)
    return summary


def _with_rules(
    prepared: Prepared, kept: Kept, folder: RunFolder, watch: Watch, checkpoint: Checkpoint | None
) -> Outcome:
    shuffling = torch.Generator().manual_seed(prepared.job.job.train.seed)
    identity, progress = identity_of(prepared), Progress()
    if checkpoint is not None:
        progress = checkpoint.progress
        _put_back(checkpoint, kept, shuffling, folder, watch)

    def save(progress: Progress) -> None:
        kept.handle.forget()
        folder.save(Checkpoint(identity, progress, take(kept.learner, shuffling)), kept.state())

    try:
        progress = _train(prepared, kept.learner, watch, "with rules", kept.handle.violation, save, shuffling, progress)
    except KeyboardInterrupt:
        raise Interrupted(f"Interrupted. {folder.contents()} {folder.way_on()}") from None
    except AffinetError as error:
        raise RunError(f"{error} {folder.contents()}") from error
    return _outcome(progress, kept.trained, kept.free)


def _put_back(checkpoint: Checkpoint, kept: Kept, shuffling: torch.Generator, folder: RunFolder, watch: Watch) -> None:
    put_back(checkpoint.snapshot, kept.learner, shuffling)
    kept.handle.forget()
    assert checkpoint.progress.last is not None, "a checkpoint follows a finished epoch"
    lost = folder.restore(checkpoint.progress.last, kept.state())
    if lost:
        watch.say(f"The rows of {counted(lost, 'earlier epoch')} are missing in {folder.path / METRICS}.")


def _without_rules(prepared: Prepared, watch: Watch) -> Outcome:
    seed = prepared.job.job.train.seed
    with seeded(seed):
        learner = without_rules(prepared.job, make_network(prepared.job, prepared.data))
        weights = dict(learner.network.named_parameters())
        projector = prepared.plan.projector(learner.network)
        measure = partial(projector.violation, weights)
        shuffling = torch.Generator().manual_seed(seed)
        progress = _train(prepared, learner, watch, "without rules", measure, _forget, shuffling, Progress())
    return _outcome(progress, Trainable(learner.numbers, learner.numbers), learner.numbers)


def _outcome(progress: Progress, trained: Trainable, free: int | Interval) -> Outcome:
    last = progress.last
    assert last is not None, "a job has at least one epoch"
    return Outcome(last.loss, last.score, progress.violation, trained, free, progress.seconds, progress.measuring)


def _train(
    prepared: Prepared,
    learner: Learner,
    watch: Watch,
    title: str,
    measure: Measure,
    save: Save,
    shuffling: torch.Generator,
    progress: Progress,
) -> Progress:
    """The progress after the last epoch of the job; `save` is called with each on the way."""
    train, rows = prepared.job.job.train, rows_for(learner.network, prepared.data)
    steps = ceil(len(rows.train_features) / train.batch_size)
    began = perf_counter()
    with (
        suited_threads(learner.numbers * train.batch_size),
        watch.training(title, train.epochs, train.epochs * steps, progress.epochs * steps) as see,
    ):
        if progress.last is not None:
            see(progress.last)
        for event in train_epochs(learner.network, learner.optimizer, rows, train, measure, shuffling, progress.epochs):
            if isinstance(event, Epoch):
                progress = progress.after(event, perf_counter() - began)
                began = perf_counter()
                save(progress)
            see(event)
    return progress


def _forget(_progress: Progress) -> None:
    """The training without rules is a comparison and leaves nothing on disk."""


def _moved(distances: Mapping[str, float]) -> str:
    parts = [f"{name} by {distance:.3g}" for name, distance in distances.items() if distance > 0]
    if not parts:
        return "The first weights satisfy the rules already; nothing was moved."
    return f"The first weights were moved to the nearest ones that satisfy the rules: {', '.join(parts)}."
