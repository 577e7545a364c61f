"""Run a job: train under the rules and save each epoch, then train the same network without them and compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np

from affinet.analysis.prices import quickly_priced
from affinet.blocks.interval import Interval
from affinet.cli.run_summary import Outcome, RunSummary
from affinet.cli.runs.checkpoint import Checkpoint
from affinet.cli.runs.identity import identity_of
from affinet.cli.runs.locking import locked
from affinet.cli.runs.runfolder import METRICS, begin_run, complete_scaling, make_folder, refuse_used
from affinet.cli.runs.start_record import StartRecord
from affinet.cli.runs.weight_samples import Samples, samples_of
from affinet.cli.trainings.framework import RuledTraining, Training
from affinet.cli.trainings.observed_epochs import observed_epochs
from affinet.cli.trainings.planned_rules import PlannedRules
from affinet.cli.trainings.preparation import Prepared
from affinet.cli.trainings.processes import LostProcess
from affinet.cli.trainings.training import (
    Diverged,
    Epoch,
    MeasureEpoch,
    Progress,
    Step,
    train_epochs,
    trivial_score,
    unmeasured,
)
from affinet.cli.words import counted, one_paragraph
from affinet.errors import AffinetError, InfeasibleError, RunError, named_violations
from affinet.report.cost import CostReport, Trainable

ShowEvent = Callable[[Step | Epoch], None]
SaveEpoch = Callable[[Progress], None]


class Watch(Protocol):
    """A display that shows a run while it lasts."""

    def say(self, sentence: str) -> None:
        """Show a sentence about the run."""

    def training(self, title: str, epochs: int, steps: int, steps_done: int) -> AbstractContextManager[ShowEvent]:
        """Show a training of `steps` steps, `steps_done` already taken; the block receives a function for events."""


class Folder(Protocol):
    """The folder of a run, in the process that writes it or in another one."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def stationarity(self) -> bool:
        """Whether its metrics have stationarity; the writer's decides."""

    def save(self, checkpoint: Checkpoint, state: Mapping[str, Any]) -> None:
        """Replace the last epoch by a finished one."""

    def restore(self, epoch: Epoch, state: Mapping[str, Any]) -> int:
        """Reset weights and metrics to the epoch of a checkpoint; return how many earlier rows are lost."""

    def finish(self, summary: RunSummary, samples: Samples) -> None:
        """Write the results of the run, and samples of weights to compare with."""

    def contents(self) -> str:
        """The content of the folder, in one sentence."""

    def resume_hint(self) -> str:
        """The command that resumes the run, in one sentence."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a run, with a sentence about what is on disk."""


def run(prepared: Prepared, out: Path, watch: Watch) -> RunSummary:
    """Train under the rules and save each epoch under `out`; then train without them, and compare.

    The rules are attached before the folder is made. Raises RunError where `out` holds a run, another process writes to
    it or the training under rules fails, and Interrupted on Ctrl-C.
    """
    refuse_used(out)
    with prepared.framework.seeded(prepared.job.job.train.seed):
        ruled = _ruled(prepared)
        watch.say(_start_sentence(ruled))
        make_folder(out)
        with locked(out):
            folder = begin_run(
                out, new_start_record(prepared), prepared.job.text, prepared.rules, prepared.data.score_name
            )
            complete_scaling(out, prepared.data.scaling)
            folder = replace(folder, command=prepared.processes.command)
            return _train_and_compare(prepared, ruled, folder, watch, None)


def finish_run(prepared: Prepared, folder: Folder, checkpoint: Checkpoint | None, watch: Watch) -> RunSummary:
    """Finish a run from a checkpoint of its training under rules, or from the first epoch where `checkpoint` is None.

    Of several processes, the checkpoint of the writer counts. Law: weights and metrics are, bit for bit, those of an
    uninterrupted run. The caller holds the lock. Raises as `run`.
    """
    with prepared.framework.seeded(prepared.job.job.train.seed):
        ruled = _ruled(prepared)
        if checkpoint is None:
            watch.say(_start_sentence(ruled))
        return _train_and_compare(prepared, ruled, folder, watch, checkpoint)


def restore_results(prepared: Prepared, folder: Folder, checkpoint: Checkpoint | None, watch: Watch) -> None:
    """Restore the weights and the metrics of the writer's checkpoint without training."""
    with prepared.framework.seeded(prepared.job.job.train.seed):
        ruled = _ruled(prepared)
        checkpoint = prepared.processes.from_writer(lambda: checkpoint)
        assert checkpoint is not None, "results are those of a checkpoint"
        _restore_checkpoint(checkpoint, ruled, folder, watch)


def new_start_record(prepared: Prepared) -> StartRecord:
    """The record of a run that starts now."""
    place = prepared.job.path.resolve()
    return StartRecord(
        folder=str(place.parent),
        name=place.name,
        identity=identity_of(prepared),
        versions=prepared.framework.versions(),
        threads=prepared.framework.threads(),
        processes=prepared.processes.world,
        stationarity=True,
    )


def _ruled(prepared: Prepared) -> RuledTraining:
    job, framework, data = prepared.job, prepared.framework, prepared.data
    return framework.under_rules(job, data, framework.network(job, data), prepared.rules)


def _train_and_compare(
    prepared: Prepared, ruled: RuledTraining, folder: Folder, watch: Watch, checkpoint: Checkpoint | None
) -> RunSummary:
    prepared.processes.agree(identity_of(prepared).model_dump_json(), "a job, rules or data")
    checkpoint = prepared.processes.from_writer(lambda: checkpoint)
    rules = _with_rules(prepared, ruled, folder, watch, checkpoint)
    weights = {"first": prepared.framework.arrays(prepared.framework.network(prepared.job, prepared.data))}
    result = f"the run with rules is finished, and everything is in {folder.path}. {folder.resume_hint()}"
    prices: CostReport | None = None
    plain: Outcome | None = None
    no_prices, doing = "", "computing what rules cost"
    try:
        prices, no_prices = _prices(prepared, ruled)
        doing = "training without rules for comparison"
        plain, weights["without"] = _without_rules(prepared, watch)
    except KeyboardInterrupt:
        raise Interrupted(f"Interrupted while {doing}; {result}") from None
    except LostProcess as error:
        raise LostProcess(f"{error} It was {doing}; {result}") from error
    except Diverged as error:
        watch.say(f"Without the rules {error}")
    data = prepared.data
    summary = RunSummary(data.score_name, len(data.test_targets), trivial_score(data), rules, plain, prices, no_prices)
    folder.finish(summary, samples_of(prepared.rules.system.layout, weights))
    return summary


def _with_rules(
    prepared: Prepared, ruled: RuledTraining, folder: Folder, watch: Watch, checkpoint: Checkpoint | None
) -> Outcome:
    identity, progress = identity_of(prepared), Progress()
    if checkpoint is not None:
        progress = checkpoint.progress
        _restore_checkpoint(checkpoint, ruled, folder, watch)

    def save(progress: Progress) -> None:
        folder.save(Checkpoint(identity, progress, ruled.snapshot()), ruled.state())

    stationarity = _stationarity_of(prepared, ruled, folder, watch)
    try:
        progress = _train(prepared, ruled, watch, "with rules", save, progress, stationarity)
    except KeyboardInterrupt:
        raise Interrupted(f"Interrupted. {folder.contents()} {folder.resume_hint()}") from None
    except LostProcess as error:
        raise LostProcess(f"{error} {folder.contents()} {folder.resume_hint()}") from error
    except AffinetError as error:
        raise RunError(f"{error} {folder.contents()}") from error
    if not ruled.approaches:
        return _outcome(progress, ruled.trained, ruled.free)
    _check_end(ruled, prepared.rules, folder)
    violation = ruled.violation()
    last = max(violation.values(), default=0.0)
    watch.say(_end_sentence(progress.violation, violation, prepared.rules))
    return replace(_outcome(progress, ruled.trained, ruled.free), violation=last)


def _stationarity_of(prepared: Prepared, ruled: RuledTraining, folder: Folder, watch: Watch) -> MeasureEpoch:
    """Measures stationarity after the epochs that the job, or the sizes of its data and network, decide on.

    A network that has no gradient in its mode for evaluation fails no run of one process: its metrics have no
    stationarity then, and a sentence says why.
    """
    if not prepared.processes.from_writer(lambda: folder.stationarity):
        return unmeasured
    job, is_single = prepared.job.job, prepared.processes.world == 1
    epochs, failures = observed_epochs(job, len(prepared.data.train_features), ruled.numbers), set[str]()

    def stationarity(epoch: int) -> float | None:
        if epoch not in epochs or failures:
            return None
        try:
            return ruled.stationarity(job.train.batch_size)
        except (AffinetError, MemoryError) as error:
            if not is_single:
                raise
            failures.add(one_paragraph(error))
            watch.say(f"Stationarity cannot be measured: {one_paragraph(error)}")
            return None

    return stationarity


def _restore_checkpoint(checkpoint: Checkpoint, ruled: RuledTraining, folder: Folder, watch: Watch) -> None:
    ruled.restore(checkpoint.snapshot)
    assert checkpoint.progress.last is not None, "a checkpoint follows a finished epoch"
    lost_rows = folder.restore(checkpoint.progress.last, ruled.state())
    if lost_rows:
        watch.say(f"The rows of {counted(lost_rows, 'earlier epoch')} are missing in {folder.path / METRICS}.")


def _prices(prepared: Prepared, ruled: RuledTraining) -> tuple[CostReport | None, str]:
    """What the rules cost at the last weights; where that is not known, why. It fails no run whose processes live."""
    if not quickly_priced(prepared.rules.system, prepared.processes.world):
        pairs = sum(rule.nonzeros for rule in prepared.rules.system.every)
        return None, f"Prices of rules are not computed in runs whose rules have {pairs:,} pairs of a row and an entry."
    try:
        return ruled.prices(prepared.job.job.train.batch_size), ""
    except LostProcess:
        raise
    except (AffinetError, MemoryError) as error:
        return None, f"Prices of rules are not known: {one_paragraph(error)}"


def _without_rules(prepared: Prepared, watch: Watch) -> tuple[Outcome, Mapping[str, np.ndarray]]:
    """The results of the training without rules, and its last weights."""
    job, framework, data = prepared.job, prepared.framework, prepared.data
    with framework.seeded(job.job.train.seed):
        plain = framework.without_rules(job, data, framework.network(job, data), prepared.rules.system)
        progress = _train(prepared, plain, watch, "without rules", _discard, Progress())
    return _outcome(progress, Trainable(plain.numbers, plain.numbers), plain.numbers), plain.weights()


def _outcome(progress: Progress, trained: Trainable, free: int | Interval) -> Outcome:
    last = progress.last
    assert last is not None, "a job has at least one epoch"
    return Outcome(last.loss, last.score, progress.violation, trained, free, progress.seconds, progress.measuring)


def _train(
    prepared: Prepared,
    training: Training,
    watch: Watch,
    title: str,
    save: SaveEpoch,
    progress: Progress,
    stationarity: MeasureEpoch = unmeasured,
) -> Progress:
    """Train to the last epoch of the job and return the progress; `save` is called after each epoch."""
    train = prepared.job.job.train
    steps = ceil(len(prepared.data.train_features) / train.batch_size)
    start = perf_counter()
    with (
        training.settings(train.batch_size),
        watch.training(title, train.epochs, train.epochs * steps, progress.epochs * steps) as show,
    ):
        if progress.last is not None:
            show(progress.last)
        for event in train_epochs(training, train, progress.epochs, stationarity):
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


def _start_sentence(ruled: RuledTraining) -> str:
    if not ruled.starts_on_rules:
        return (
            "No weights that satisfy the rules were found from the first ones, so that nothing was moved: training "
            "starts at these, and approaches the rules."
        )
    moves = [f"{name} by {distance:.3g}" for name, distance in ruled.moved.items() if distance > 0]
    if not moves:
        return "The first weights satisfy the rules already; nothing was moved."
    return f"The first weights were moved to the nearest ones that satisfy the rules: {', '.join(moves)}."


def _check_end(ruled: RuledTraining, planned: PlannedRules, folder: Folder) -> None:
    """Raise InfeasibleError where the last weights violate rules that a plan holds."""
    held = planned.plan.system.every
    violated = ruled.violated([rule.name for rule in held])
    if violated:
        rules = [(rule.name, rule.text) for rule in held if rule.name in violated]
        where = f"These are the weights at the end of the training, which violate {named_violations(violated)}."
        raise InfeasibleError.not_found(rules, f"{where} {folder.contents()}")
