"""Run a job: train under the rules and save each epoch, then train the same network without them and compare."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Protocol

import torch

from affinet.blocks.interval import Interval
from affinet.cli.run_summary import Outcome, RunSummary
from affinet.cli.runs.checkpoint import Checkpoint
from affinet.cli.runs.identity import identity_of
from affinet.cli.runs.locking import locked
from affinet.cli.runs.runfolder import METRICS, RunFolder, begin_run, make_folder, refuse_used
from affinet.cli.runs.snapshot import put_back_ruled, take_ruled
from affinet.cli.runs.start_record import StartRecord
from affinet.cli.trainings.keeping import Learner, RuledLearner, under_rules, without_rules
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.cli.trainings.preparation import Prepared, make_network, seeded
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
from affinet.errors import AffinetError, InfeasibleError, LeftOutWarning, RunError, named_violations
from affinet.kernels.torch import measuring
from affinet.training.augmented.lagrange_handle import LagrangeHandle
from affinet.training.baking import Trainable

if TYPE_CHECKING:
    from affinet import Handle, Reparametrization

ShowEvent = Callable[[Step | Epoch], None]
SaveEpoch = Callable[[Progress], None]


class Watch(Protocol):
    """A display that shows a run while it lasts."""

    def say(self, sentence: str) -> None:
        """Show a sentence about the run."""

    def training(self, title: str, epochs: int, steps: int, steps_done: int) -> AbstractContextManager[ShowEvent]:
        """Show a training of `steps` steps, `steps_done` already taken; the block receives a function for events."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run, with a sentence about what is on disk."""


def run(prepared: Prepared, out: Path, watch: Watch) -> RunSummary:
    """Train under the rules and save each epoch under `out`; then train without them, and compare.

    The rules are attached before the folder is made. Raises RunError where `out` holds a run, another process writes to
    it or the training under rules fails, and Interrupted on Ctrl-C.
    """
    refuse_used(out)
    with seeded(prepared.job.job.train.seed):
        ruled = _ruled_learner(prepared)
        watch.say(_start_sentence(ruled.handle))
        make_folder(out)
        with locked(out):
            folder = begin_run(
                out, new_start_record(prepared), prepared.job.text, prepared.rules, prepared.data.score_name
            )
            return _train_and_compare(prepared, ruled, folder, watch, None)


def finish_run(prepared: Prepared, folder: RunFolder, checkpoint: Checkpoint | None, watch: Watch) -> RunSummary:
    """Finish a run from a checkpoint of its training under rules, or from the first epoch where `checkpoint` is None.

    Law: weights and metrics are, bit for bit, those of an uninterrupted run. The caller holds the lock. Raises as
    `run`.
    """
    with seeded(prepared.job.job.train.seed):
        ruled = _ruled_learner(prepared)
        if checkpoint is None:
            watch.say(_start_sentence(ruled.handle))
        return _train_and_compare(prepared, ruled, folder, watch, checkpoint)


def restore_results(prepared: Prepared, folder: RunFolder, checkpoint: Checkpoint, watch: Watch) -> None:
    """Restore the weights and the metrics of a checkpoint without training."""
    with seeded(prepared.job.job.train.seed):
        _restore_checkpoint(checkpoint, _ruled_learner(prepared), torch.Generator(), folder, watch)


def new_start_record(prepared: Prepared) -> StartRecord:
    """The record of a run that starts now."""
    place = prepared.job.path.resolve()
    return StartRecord(
        folder=str(place.parent),
        name=place.name,
        identity=identity_of(prepared),
        torch=torch.__version__,
        threads=torch.get_num_threads(),
    )


def _ruled_learner(prepared: Prepared) -> RuledLearner:
    return under_rules(prepared.job, make_network(prepared.job, prepared.data), prepared.rules)


def _train_and_compare(
    prepared: Prepared, ruled: RuledLearner, folder: RunFolder, watch: Watch, checkpoint: Checkpoint | None
) -> RunSummary:
    rules = _with_rules(prepared, ruled, folder, watch, checkpoint)
    plain: Outcome | None = None
    try:
        plain = _without_rules(prepared, watch)
    except KeyboardInterrupt:
        event = "Interrupted while training without rules for comparison"
        result = f"the run with rules is finished, and everything is in {folder.path}. {folder.resume_hint()}"
        raise Interrupted(f"{event}; {result}") from None
    except Diverged as error:
        watch.say(f"Without the rules {error}")
    rows = rows_for(ruled.learner.network, prepared.data)
    summary = RunSummary(prepared.data.score_name, len(rows.test_targets), trivial_score(rows), rules, plain)
    folder.finish(summary)
    return summary


def _with_rules(
    prepared: Prepared, ruled: RuledLearner, folder: RunFolder, watch: Watch, checkpoint: Checkpoint | None
) -> Outcome:
    shuffling = torch.Generator().manual_seed(prepared.job.job.train.seed)
    identity, progress = identity_of(prepared), Progress()
    if checkpoint is not None:
        progress = checkpoint.progress
        _restore_checkpoint(checkpoint, ruled, shuffling, folder, watch)

    def save(progress: Progress) -> None:
        ruled.handle.forget()
        folder.save(Checkpoint(identity, progress, take_ruled(ruled, shuffling)), ruled.state())

    handle = ruled.handle
    end = partial(_finish_if_possible, handle) if isinstance(handle, LagrangeHandle) else None
    try:
        progress = _train(
            prepared, ruled.learner, watch, "with rules", handle.violation, save, shuffling, progress, end
        )
    except KeyboardInterrupt:
        raise Interrupted(f"Interrupted. {folder.contents()} {folder.resume_hint()}") from None
    except AffinetError as error:
        raise RunError(f"{error} {folder.contents()}") from error
    if not isinstance(handle, LagrangeHandle):
        return _outcome(progress, ruled.trained, ruled.free)
    _check_end(handle, prepared.rules, folder)
    violation = handle.violation()
    last = max(violation.values(), default=0.0)
    watch.say(_end_sentence(progress.violation, violation, prepared.rules))
    return replace(_outcome(progress, ruled.trained, ruled.free), violation=last)


def _restore_checkpoint(
    checkpoint: Checkpoint, ruled: RuledLearner, shuffling: torch.Generator, folder: RunFolder, watch: Watch
) -> None:
    put_back_ruled(checkpoint.snapshot, ruled, shuffling)
    ruled.handle.forget()
    assert checkpoint.progress.last is not None, "a checkpoint follows a finished epoch"
    lost_rows = folder.restore(checkpoint.progress.last, ruled.state())
    if lost_rows:
        watch.say(f"The rows of {counted(lost_rows, 'earlier epoch')} are missing in {folder.path / METRICS}.")


def _without_rules(prepared: Prepared, watch: Watch) -> Outcome:
    seed = prepared.job.job.train.seed
    with seeded(seed):
        learner = without_rules(prepared.job, make_network(prepared.job, prepared.data))
        weights = dict(learner.network.named_parameters())
        measure = partial(measuring.Measure(prepared.rules.system), weights)
        shuffling = torch.Generator().manual_seed(seed)
        progress = _train(prepared, learner, watch, "without rules", measure, _discard, shuffling, Progress())
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
    save: SaveEpoch,
    shuffling: torch.Generator,
    progress: Progress,
    end: Callable[[], object] | None = None,
) -> Progress:
    """Train to the last epoch of the job and return the progress; `save` is called after each epoch, `end` once."""
    train, rows = prepared.job.job.train, rows_for(learner.network, prepared.data)
    steps = ceil(len(rows.train_features) / train.batch_size)
    start = perf_counter()
    with (
        suited_threads(learner.numbers * train.batch_size),
        watch.training(title, train.epochs, train.epochs * steps, progress.epochs * steps) as show,
    ):
        if progress.last is not None:
            show(progress.last)
        for event in train_epochs(
            learner.network, learner.optimizer, rows, train, measure, shuffling, progress.epochs, end
        ):
            if isinstance(event, Epoch):
                progress = progress.after(event, perf_counter() - start)
                start = perf_counter()
                save(progress)
            show(event)
    return progress


def _discard(_progress: Progress) -> None:
    """Save nothing: the training without rules is only a comparison."""


def _end_sentence(largest: float, violation: Mapping[str, float], rules: PlannedRules) -> str:
    held = max((violation[rule.name] for rule in rules.plan.system.every), default=0.0)
    approached = {name: violation[name] for name in rules.left_out}
    sentence = f"An augmented Lagrangian approaches the rules: they were violated by up to {largest:.2g} on the way."
    if rules.plan.system.every:
        onto = "them" if not approached else "those that a plan holds"
        sentence += f" At the end the weights were moved onto {onto}, and violate them by {held:.2g}."
    if approached:
        sentence += f" No plan holds {named_violations(approached)}: training only approaches such rules."
    return sentence


def _start_sentence(handle: Handle | Reparametrization | LagrangeHandle) -> str:
    if isinstance(handle, LagrangeHandle) and not handle.started_feasible:
        return (
            "No weights that satisfy the rules were found from the first ones, so that nothing was moved: training "
            "starts at these, and approaches the rules."
        )
    moves = [f"{name} by {distance:.3g}" for name, distance in handle.moved.items() if distance > 0]
    if not moves:
        return "The first weights satisfy the rules already; nothing was moved."
    return f"The first weights were moved to the nearest ones that satisfy the rules: {', '.join(moves)}."


def _finish_if_possible(handle: LagrangeHandle) -> None:
    """Move weights onto the rules; where no way is found they stay, so that the last epoch is saved all the same.

    How much the rules without a plan are violated is told at the end.
    """
    with suppress(InfeasibleError), warnings.catch_warnings():
        warnings.simplefilter("ignore", LeftOutWarning)
        handle.finish(partial=True)


def _check_end(handle: LagrangeHandle, planned: PlannedRules, folder: RunFolder) -> None:
    """Raise InfeasibleError where the last weights violate rules that a plan holds."""
    held = planned.plan.system.every
    violated = handle.violated([rule.name for rule in held])
    if violated:
        rules = [(rule.name, rule.text) for rule in held if rule.name in violated]
        where = f"These are the weights at the end of the training, which violate {named_violations(violated)}."
        raise InfeasibleError.not_found(rules, f"{where} {folder.contents()}")
