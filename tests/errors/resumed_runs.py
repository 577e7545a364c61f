"""Going on with a run: `affinet train --resume RUN`."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from affinet.cli.runs import runfolder
from affinet.cli.runs.checkpoint import FORMAT, read_checkpoint, write_checkpoint
from affinet.cli.runs.resuming import resume
from affinet.cli.runs.runfolder import CHECKPOINT, PREVIOUS
from affinet.cli.runs.runfolder import MODEL as MODEL_FILE
from affinet.cli.runs.running import Interrupted, run
from affinet.cli.runs.start_record import JOB, START_RECORD, read_start_record, write_start_record
from affinet.cli.screen import Screen
from affinet.cli.trainings.preparation import Prepared
from affinet.errors import RunError
from tests.cli.runs.test_checkpoint import forged
from tests.errors.case import Case, case
from tests.errors.job_files import MODEL, NO_RULES, prepared, written
from tests.errors.runs import Watch

QUIET = Screen(Console(quiet=True), Console(quiet=True))


def stop(prepared: Prepared, out: Path) -> None:
    with suppress(Interrupted):
        run(prepared, out, Watch("with rules", epoch=2))


@cache
def files_of_a_stopped_run() -> dict[str, bytes]:
    """What Ctrl-C after the second epoch of three leaves, the job and its data included."""
    with TemporaryDirectory() as name:
        folder = Path(name).resolve()
        stop(prepared(folder), folder / "run")
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stopped(folder: Path) -> Path:
    """A run that was begun in this folder and stopped."""
    (folder / "run").mkdir()
    for name, content in files_of_a_stopped_run().items():
        (folder / name).write_bytes(content)
    begun_in(folder, folder / "run")
    return folder / "run"


def begun_in(place: Path, run: Path) -> None:
    write_start_record(run, read_start_record(run).model_copy(update={"folder": str(place)}))


def go_on(run: Path, given: Path | None = None) -> None:
    resume(run, given, QUIET)


@case(RunError, "The folder does not hold a run.", "Name the folder of a stopped run.")
def going_on_with_no_run(folder: Path) -> None:
    go_on(folder / "run")


@case(RunError, "A version of affinet without `--resume` made the run.", "Train anew.")
def going_on_with_an_old_run(folder: Path) -> None:
    run = stopped(folder)
    (run / START_RECORD).unlink()
    go_on(run)


@case(RunError, "The file was damaged.", "Train anew.", foreign="(?<=JSON: ).*(?=\\. Name)")
def going_on_from_a_damaged_beginning(folder: Path) -> None:
    run = stopped(folder)
    (run / START_RECORD).write_text("{")
    go_on(run)


@case(RunError, "The copy of the job in the run was edited.", "Restore it, or start another run with the new job.")
def going_on_with_an_edited_job(folder: Path) -> None:
    run = stopped(folder)
    (run / JOB).write_text((run / JOB).read_text().replace("epochs = 3", "epochs = 5"))
    go_on(run)


@case(RunError, "The table was edited since.", "Restore it, or start another run.", foreign="(?<=SHA-256 ).*?(?=\\))")
def going_on_with_other_data(folder: Path) -> None:
    run = stopped(folder)
    table = folder / "small.csv"
    table.write_text(table.read_text().replace("0.5", "0.6"))
    go_on(run)


@case(RunError, "The job named with `--resume` is not the job of the run.", "Leave it out.")
def going_on_with_another_job(folder: Path) -> None:
    run = stopped(folder)
    go_on(run, written(folder, ("epochs = 3", "epochs = 5")))


@case(RunError, "The folder of the job was moved or removed.", "Name the new place of the job.")
def going_on_where_the_job_is_gone(folder: Path) -> None:
    run = stopped(folder)
    begun_in(folder / "gone", run)
    go_on(run)


@case(RunError, "A file that the job names was moved or removed.", "Restore it, or name the new place of the job.")
def going_on_where_the_data_are_gone(folder: Path) -> None:
    run = stopped(folder)
    (folder / "small.csv").unlink()
    go_on(run)


@case(RunError, "The factory makes a different network now.", "Restore the factory.")
def going_on_with_another_network(folder: Path) -> None:
    name = f"growing_{folder.name}"
    layers = "torch.nn.Linear(inputs, 5), torch.nn.Linear(5, outputs)"
    code = f"import torch\ndef make(inputs, outputs): return torch.nn.Sequential({layers})\n"
    (folder / f"{name}.py").write_text(code)
    stop(prepared(folder, MODEL, ("network:make", f"{name}:make"), NO_RULES), folder / "run")
    (folder / f"{name}.py").write_text(code.replace("5, outputs)", "5, outputs, bias=False)"))
    del sys.modules[name]  # the run goes on in another process
    go_on(folder / "run")


@case(RunError, "The checkpoint was copied from another run.", "Restore the checkpoint of the run.")
def going_on_from_the_checkpoint_of_another_run(folder: Path) -> None:
    run = stopped(folder)
    forged(run / CHECKPOINT, lambda said: said["description"]["identity"].update(job="0" * 64))
    go_on(run)


@case(RunError, "The disk is full.", "Make room.", foreign="(?<=written to: ).*(?=\\. Make)")
def a_disk_that_fills_up(folder: Path) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = stopped(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runfolder, "save_arrays", full)
        go_on(run)


@case(RunError, "A setting that a file cannot store, such as the option `maximize = { no = true }`.", "Leave it out.")
def an_optimizer_that_no_checkpoint_holds(folder: Path) -> None:
    options = "epochs = 3\noptions = { maximize = { no = true } }"
    run(prepared(folder, ("epochs = 3", options)), folder / "run", Watch())


def from_its_only_checkpoint(folder: Path) -> Path:
    """The checkpoint of a run that has none before it."""
    run = stopped(folder)
    (run / PREVIOUS).unlink()
    return run / CHECKPOINT


@case(RunError, "The checkpoints were removed.", "Train anew.")
def going_on_without_a_checkpoint(folder: Path) -> None:
    run = from_its_only_checkpoint(folder).parent
    (run / CHECKPOINT).unlink()
    go_on(run)


@case(RunError, "Every checkpoint was cut short.", "Train anew.", foreign="(?<=readable checkpoint: ).*(?=\\. The run)")
def going_on_from_half_a_checkpoint(folder: Path) -> None:
    path = from_its_only_checkpoint(folder)
    path.write_bytes(path.read_bytes()[:100])
    go_on(path.parent)


@case(RunError, "Other weights were put in its place.", "Restore the checkpoint, or train anew.")
def going_on_from_weights(folder: Path) -> None:
    path = from_its_only_checkpoint(folder)
    save_file({"weight": torch.zeros(2)}, path)
    go_on(path.parent)


@case(
    RunError,
    "A newer affinet wrote the checkpoint.",
    "Update affinet, or train anew.",
    foreign="(?<=affinet )[0-9][^ ]*(?= reads)",
)
def going_on_from_a_newer_checkpoint(folder: Path) -> None:
    go_on(forged(from_its_only_checkpoint(folder), lambda said: said.update(version=2)).parent)


@case(RunError, "The checkpoint was changed after it was written.", "Train anew.")
def going_on_from_a_changed_checkpoint(folder: Path) -> None:
    path = from_its_only_checkpoint(folder)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    go_on(path.parent)


@case(RunError, "Another program wrote the file.", "Train anew.")
def going_on_from_a_forged_checkpoint(folder: Path) -> None:
    go_on(forged(from_its_only_checkpoint(folder), lambda said: said["description"].pop("last")).parent)


@case(
    RunError,
    "Another program wrote the file.",
    "Train anew.",
    foreign="(?<=does not hold a checkpoint: ).*(?=\\. The run)",
)
def going_on_from_a_checkpoint_that_is_no_json(folder: Path) -> None:
    path = from_its_only_checkpoint(folder)
    save_file({"weight": torch.zeros(2)}, path, metadata={FORMAT: "{"})
    go_on(path.parent)


@case(RunError, "The weights and the checkpoint of a finished run were removed.", "Train anew.")
def weights_that_nothing_holds(folder: Path) -> None:
    path = folder / "run"
    run(prepared(folder), path, Watch())
    (path / MODEL_FILE).unlink()
    (path / CHECKPOINT).unlink()
    go_on(path)


@case(RunError, "A row of an earlier epoch was edited.", "Put the file back, or remove it.")
def metrics_that_were_edited(folder: Path) -> None:
    path = folder / "run"
    run(prepared(folder), path, Watch())
    rows = (path / "metrics.csv").read_text().splitlines(keepends=True)
    (path / "metrics.csv").write_text("".join([rows[0], "1,0.0,0.0,0.0\n", *rows[2:]]))
    go_on(path)


Change = Callable[[Any], object]
FORGED = "Another program wrote the checkpoint.", "Train anew."


def training(folder: Path, change: Change) -> None:
    run = stopped(folder)
    forged(run / CHECKPOINT, lambda said: change(said["description"]))
    go_on(run)


@case(RunError, *FORGED)
def going_on_from_a_forged_training(folder: Path) -> None:
    training(folder, lambda said: said["optimizer"]["settings"].append({}))


def state(**values: Any) -> Change:
    """Another first value of the optimizer's state."""
    return lambda said: said["optimizer"]["state"]["0"].update(step={"tensor": 0, **values})


def without_numpy(folder: Path) -> None:
    """Random numbers of fewer sources than there are."""
    path = stopped(folder) / CHECKPOINT
    found = read_checkpoint(path)
    random = replace(found.snapshot.random, tensors=found.snapshot.random.tensors[:3])
    write_checkpoint(path, replace(found, snapshot=replace(found.snapshot, random=random)), previous=folder / "before")
    go_on(path.parent)


FORGERIES: dict[str, Change] = {
    "0 is not a table": lambda said: said["optimizer"]["state"].update({"0": []}),
    "axes has the order (1,)": state(order=[1]),
    "a tensor was on the device 'moon'": state(device="moon"),
}


OTHERS = [
    Case("random_states_without_numpy", RunError, *FORGED, without_numpy, fragment="a random state is invalid"),
    *(
        Case(f"a_forged_training_{k}", RunError, *FORGED, partial(training, change=change), fragment=fragment)
        for k, (fragment, change) in enumerate(FORGERIES.items())
    ),
]
