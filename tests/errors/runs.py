"""Runs and their folders: `affinet train --out RUN`, `affinet verify`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import affinet
from affinet.cli.runs.locking import locked
from affinet.cli.runs.runfolder import refuse_used
from affinet.cli.runs.running import Interrupted, run
from affinet.cli.screen import Screen
from affinet.cli.trainings.preparation import prepare
from affinet.cli.trainings.torch.stepping import Rows, add_mean_gradient, forward
from affinet.cli.trainings.training import Epoch
from affinet.cli.verifying import verify_file
from affinet.errors import InfeasibleError, ModelFileError, RunError, TooLargeError
from affinet.system.stored.planfile import write_system
from affinet.system.system import System
from tests.errors.case import case
from tests.errors.job_files import NO_RULES, SAID, job, made


@case(RunError, "--out names a file.", "Name a folder.")
def a_run_in_a_file(folder: Path) -> None:
    (folder / "run").touch()
    refuse_used(folder / "run")


@case(RunError, "The folder holds a run already.", "Name another folder.")
def a_run_over_another(folder: Path) -> None:
    (folder / "job.toml").touch()
    refuse_used(folder)


class Watch:
    """Watches a run, and presses Ctrl-C in the training with this title: after an epoch, or at its first event."""

    def __init__(self, title: str = "", epoch: int | None = None) -> None:
        self.title, self.epoch = title, epoch

    def say(self, sentence: str) -> None: ...

    @contextmanager
    def training(self, title: str, epochs: int, steps: int, steps_done: int) -> Iterator[Any]:
        def see(event: object) -> None:
            number = event.number if isinstance(event, Epoch) else None
            if title == self.title and self.epoch in (None, number):
                raise KeyboardInterrupt

        yield see


@case(RunError, "The learning rate is too large, or the data are not scaled.", "Lower learning_rate.")
def a_training_that_diverges(folder: Path) -> None:
    run(prepare(job(folder, ("0.01", "1e30"), ('"Adam"', '"SGD"'))), folder / "run", Watch())


@case(
    InfeasibleError,
    "No weights that satisfy the rules were found from the last weights of an augmented Lagrangian.",
    "Start from another seed, or change the rules.",
    foreign="(?<=violated by ).*?(?=\\))",
)
def a_training_that_does_not_reach_the_rules(folder: Path) -> None:
    says, method = 'says = "hidden1.weight[0, 0]**2 == -1"', 'epochs = 3\nmethod = "lagrange"'
    run(prepare(job(folder, (SAID[0], says), ("epochs = 3", method))), folder / "run", Watch())


@case(RunError, "The network returns NaN.", "Check its behaviour in eval mode.", fragment="diverged")
def a_network_that_answers_nan(folder: Path) -> None:
    code = "class make(torch.nn.Linear):\n    def forward(self, x):\n        y = super().forward(x)\n"
    network = made(folder, f"{code}        return y if self.training else y + float('nan')\n", NO_RULES)
    run(network, folder / "run", Watch())


@case(RunError, "The disk is full, or you may not write there.", "Name another folder.", foreign="(?<=to: ).*(?= Name)")
def a_folder_that_cannot_be_written_to(folder: Path) -> None:
    run(prepare(job(folder)), folder / "small.csv" / "run", Watch())


@case(Interrupted, "Ctrl-C while training under the rules.", "The last finished epoch is on disk.")
def an_interrupted_training(folder: Path) -> None:
    run(prepare(job(folder)), folder / "run", Watch("with rules"))


@case(Interrupted, "Ctrl-C while training without rules.", "The run with rules is finished.")
def an_interrupted_comparison(folder: Path) -> None:
    run(prepare(job(folder)), folder / "run", Watch("without rules"))


@case(RunError, "The network's own code fails.", "Correct the network.", foreign="(?<=Error: ).*")
def a_network_that_fails() -> None:
    forward(torch.nn.Linear(3, 2), torch.ones(1, 4))


@case(
    RunError,
    "The network has no gradient in its mode for evaluation, as recurrent layers on graphics cards.",
    "Say stationarity_every = 0; a run of one process trains on without.",
    foreign="(?<=evaluation: ).*(?= Training)",
)
def a_network_without_a_gradient_for_evaluation() -> None:
    network = torch.nn.Linear(3, 1)

    def refuse(gradient: torch.Tensor) -> None:
        raise RuntimeError("backward can only be called in training mode")

    network.weight.register_hook(refuse)
    rows = Rows("regression", *(torch.ones(2, *shape) for shape in ((3,), (), (3,), ())))
    add_mean_gradient(network, rows, 2)


def verified(folder: Path, **weights: torch.Tensor) -> None:
    affinet.plan(affinet.weights({"weight": (3,)}).weight == 0).save(folder / "plan.safetensors")
    if weights:
        save_file(weights, folder / "model.safetensors")
    verify_file(folder / "model.safetensors", folder / "plan.safetensors", Screen())


@case(ModelFileError, "The path is wrong.", "Give the path of saved weights.")
def weights_that_do_not_exist(folder: Path) -> None:
    verified(folder)


@case(
    ModelFileError,
    "A file of torch.save, or a damaged one.",
    "Save with safetensors.",
    foreign="(?<=file: ).*(?=\\. Save)",
)
def weights_of_torch_save(folder: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, folder / "model.safetensors")
    verified(folder)


@case(
    ModelFileError,
    "The weights of a run were damaged.",
    "Resume the run, which restores them.",
    foreign="(?<=file: ).*(?=\\. If)",
)
def damaged_weights_of_a_run(folder: Path) -> None:
    (folder / ".begun.json").touch()
    torch.save({"weight": torch.zeros(3)}, folder / "model.safetensors")
    verified(folder)


@case(ModelFileError, "The weights of another model.", "Name the weights that the plan was made for.")
def weights_of_another_model(folder: Path) -> None:
    verified(folder, bias=torch.zeros(3))


@case(ModelFileError, "The weights of a model of another size.", "Name the weights that the plan was made for.")
def weights_of_another_size(folder: Path) -> None:
    verified(folder, weight=torch.zeros(4))


@case(ModelFileError, "Quantized weights.", "Save them as they were trained.")
def quantized_weights(folder: Path) -> None:
    verified(folder, weight=torch.zeros(3, dtype=torch.int8))


@case(TooLargeError, "A plan file of a few bytes whose rule announces very many numbers.", "Split the rule into parts.")
def a_rule_beyond_counting(folder: Path) -> None:
    weight = affinet.weights({"weight": (512, 512)}).weight
    rule = (np.ones((256, 512)) @ weight @ np.ones((512, 512)) == 0).named("both sides")
    write_system(System.of([rule]), folder / "plan.safetensors")  # planning would refuse it
    save_file({"weight": torch.zeros(512, 512)}, folder / "model.safetensors")
    verify_file(folder / "model.safetensors", folder / "plan.safetensors", Screen())


@case(TooLargeError, "A plan file of a few bytes whose rule has very many equations.", "Split the rule into parts.")
def a_rule_of_very_many_equations(folder: Path) -> None:
    w = affinet.weights({"weight": (2**13, 1), "bias": (1, 2**12)})
    write_system(System.of([(w.weight == w.bias).named("all alike")]), folder / "plan.safetensors")
    save_file({"weight": torch.zeros(2**13, 1), "bias": torch.zeros(1, 2**12)}, folder / "model.safetensors")
    verify_file(folder / "model.safetensors", folder / "plan.safetensors", Screen())


def index(folder: Path, content: str, **weights: torch.Tensor) -> None:
    affinet.plan(affinet.weights({"weight": (3,)}).weight == 0).save(folder / "plan.safetensors")
    save_file(weights, folder / "part.safetensors")
    (folder / "model.safetensors.index.json").write_text(content)
    verify_file(folder / "model.safetensors.index.json", folder / "plan.safetensors", Screen())


@case(ModelFileError, "The path of an index leads to no file.", "Give the index that came with the model.")
def an_index_that_does_not_exist(folder: Path) -> None:
    affinet.plan(affinet.weights({"weight": (3,)}).weight == 0).save(folder / "plan.safetensors")
    verify_file(folder / "model.safetensors.index.json", folder / "plan.safetensors", Screen())


@case(ModelFileError, "An index that is damaged.", "Fetch it again.", foreign="(?<=weights: ).*(?= An index is)")
def an_index_that_is_no_json(folder: Path) -> None:
    index(folder, "{")


@case(ModelFileError, "Another JSON file.", "Name the index.")
def an_index_without_a_table(folder: Path) -> None:
    index(folder, "{}")


@case(ModelFileError, "An index that leads to other folders.", "Name the index that came with the model.")
def an_index_that_leads_elsewhere(folder: Path) -> None:
    index(folder, '{"weight_map": {"weight": "../part.safetensors"}}')


@case(ModelFileError, "An index and files that do not belong to each other.", "Fetch them again.")
def an_index_of_other_files(folder: Path) -> None:
    index(folder, '{"weight_map": {"weight": "part.safetensors"}}', bias=torch.zeros(3))


@case(
    RunError,
    "Another process writes to this run.",
    "Wait for it, or name another folder.",
    foreign="(?<=written to by ).*(?=\\. Wait)",
)
def a_run_of_another_process(folder: Path) -> None:
    with locked(folder), locked(folder):
        pass


@case(RunError, "The folder is gone, or its disk has no locks.", "Name another.", foreign="(?<=locked: ).*(?= Name)")
def a_run_that_cannot_be_locked(folder: Path) -> None:
    (folder / "file").touch()
    with locked(folder / "file"):
        pass
