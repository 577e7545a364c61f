"""Job files: what `affinet train` and `affinet check` read."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from affinet.cli import commands
from affinet.cli.checking import explain
from affinet.cli.jobs.jobfile import JobFile, read_job, refuse_code
from affinet.cli.screen import Screen
from affinet.cli.trainings import first_network, perceptron
from affinet.cli.trainings.array_framework import ArrayFramework
from affinet.cli.trainings.array_training import Steps
from affinet.cli.trainings.optimizer_options import IN_KERAS, IN_OPTAX, settings_of
from affinet.cli.trainings.preparation import Prepared, prepare
from affinet.errors import JobError, RunError, UnknownWeightError
from tests.cli.conftest import SMALL, changed
from tests.errors.case import case
from tests.limits import limit_every_plan

MODEL = ("hidden = [5]", 'factory = "network:make"')
SAID = ('says = "hidden1.weight[0, 1] == hidden1.weight[2, 0]"', "")
NO_RULES = (f'[[rule]]\nname = "a tie"\n{SAID[0]}', "")
IN_JAX = ("hidden = [5]", 'hidden = [5]\nframework = "jax"')
REPARAMETRIZED = ("epochs = 3", 'epochs = 3\nmethod = "reparametrize"')


def written(folder: Path, *changes: tuple[str, str]) -> Path:
    """The job of tests/cli with some of it replaced, beside 24 rows to learn from."""
    rows = [f"{k % 5},{k % 3 / 2},{'owl' if k % 2 else 'cat'}" for k in range(24)]
    (folder / "small.csv").write_text("\n".join(["length,width,kind", *rows]))
    (folder / "job.toml").write_text(changed(*changes, text=SMALL))
    return folder / "job.toml"


def job(folder: Path, *changes: tuple[str, str]) -> JobFile:
    return read_job(written(folder, *changes))


def prepared(folder: Path, *changes: tuple[str, str]) -> Prepared:
    return prepare(job(folder, *changes))


def made(folder: Path, code: str, *changes: tuple[str, str]) -> Prepared:
    """A job whose network is made by the function `make` of this code."""
    name = f"network_{folder.name}"
    (folder / f"{name}.py").write_text(f"import torch\n{code}")
    return prepared(folder, ("hidden = [5]", f'factory = "{name}:make"'), *changes)


@case(JobError, "A line of [rules] is not a rule.", "Correct it at the line that is named.", fragment='rule "sums"')
def a_job_with_a_wrong_line_of_rules(folder: Path) -> None:
    prepared(folder, (NO_RULES[0], '[rules]\nsums = "hidden1.weight.sum() = 1"'))


@case(JobError, "A misspelt feature.", "Take the one that is suggested.", fragment="Did you mean 'width'?")
def a_rule_with_a_misspelt_feature(folder: Path) -> None:
    prepared(folder, (NO_RULES[0], """[rules]\nsums = "hidden1.weight[:, 'widht'] >= 0\""""))


@case(JobError, "A data set without text is to be encoded.", "Remove the key.", fragment="sklearn:iris has no text")
def text_of_a_data_set_of_numbers(folder: Path) -> None:
    job(folder, ('source = "small.csv"\ntarget = "kind"', 'source = "sklearn:iris"\ntext = "encode"'))


@case(JobError, "Two lines of [rules] have one name.", "Rename one.", fragment="two rules have the name 'sums'")
def a_job_with_two_rules_of_one_name(folder: Path) -> None:
    line = 'sums = "hidden1.weight.sum() == 1"'
    prepared(folder, (NO_RULES[0], f"[rules]\n{line}\n{line}"))


@case(JobError, "A line of [rules] has no name.", "Write one before the equals sign.", fragment="has an empty name")
def a_job_with_a_rule_without_a_name(folder: Path) -> None:
    prepared(folder, (NO_RULES[0], '[rules]\n"" = "hidden1.weight.sum() == 1"'))


@case(JobError, "The path is wrong.", "Give the path of a job file.")
def a_job_that_does_not_exist(folder: Path) -> None:
    read_job(folder / "job.toml")


@case(JobError, "The path is that of a folder, or you may not read it.", "Name a file.")
def a_job_that_cannot_be_read(folder: Path) -> None:
    read_job(folder)


@case(JobError, "The file is in another encoding.", "Save it as UTF-8.")
def a_job_in_another_encoding(folder: Path) -> None:
    (folder / "job.toml").write_bytes(b'name = "caf\xe9"')
    read_job(folder / "job.toml")


@case(JobError, "A quote or a bracket is missing.", "Look at the line.", foreign="(?<=TOML file: ).*")
def a_job_that_is_no_toml(folder: Path) -> None:
    (folder / "job.toml").write_text("[data\n")
    read_job(folder / "job.toml")


@case(JobError, "Lists inside lists.", "Write the job flat, as `affinet demo` shows.")
def a_deep_job(folder: Path) -> None:
    (folder / "job.toml").write_text(f"hidden = {'[' * 60}{']' * 60}")
    read_job(folder / "job.toml")


@case(JobError, "Lists inside lists.", "Write the job flat.", fragment="nested more than")
def a_very_deep_job(folder: Path) -> None:
    (folder / "job.toml").write_text(f"hidden = {'[' * 9000}{']' * 9000}")
    read_job(folder / "job.toml")


@case(JobError, "Lists inside lists.", "Write the job flat.", fragment="nested more than")
def a_job_with_a_very_long_key(folder: Path) -> None:
    (folder / "job.toml").write_text(".".join("a" * 2_000) + " = 1")
    read_job(folder / "job.toml")


@case(JobError, "A number with too many digits.", "Write a smaller one.")
def a_job_with_a_huge_number(folder: Path) -> None:
    job(folder, ("epochs = 3", "epochs = 36893488147419103232"))


@case(JobError, "`--no-code`, and a job that names a factory.", "Leave `--no-code` out where you trust it.")
def a_factory_that_is_refused(folder: Path) -> None:
    refuse_code(job(folder, MODEL))


@case(JobError, "Neither a job nor a run to resume.", "Name one.")
def no_job_at_all() -> None:
    with pytest.MonkeyPatch.context() as patch:  # which would turn it into an exit status
        patch.setattr(commands, "_exit_statuses", lambda *_, **__: nullcontext())
        commands.train(None, None, None)  # type: ignore[arg-type]


@case(RunError, "`--out` and `--resume` at once.", "Give one of them.")
def a_new_run_and_an_old_one(folder: Path) -> None:
    commands._resume(Screen(), folder / "run", None, folder / "other")


@case(JobError, "The disk fails.", "Copy the job elsewhere.", fragment="cannot be read: Input/output error")
def a_job_on_a_disk_that_fails(folder: Path) -> None:
    def fails(*_: object, **__: object) -> str:
        raise OSError(5, "Input/output error")

    path = written(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", fails)
        read_job(path)


@case(JobError, "A misspelt key.", "Take one of those listed.")
def a_misspelt_key(folder: Path) -> None:
    job(folder, ("epochs = 3", "epoch = 3"))


@case(JobError, "A value that a key does not take.", "Write one of the values it takes.")
def a_value_that_will_not_do(folder: Path) -> None:
    job(folder, ("epochs = 3", "epochs = 0"))


@case(JobError, "Two keys that exclude each other.", "Remove one.")
def two_keys_that_exclude_each_other(folder: Path) -> None:
    job(folder, MODEL, ('factory = "network:make"', 'factory = "network:make"\nactivation = "relu"'))


@case(JobError, "A misspelt activation.", "Take one of those listed.")
def a_misspelt_activation(folder: Path) -> None:
    prepared(folder, ("hidden = [5]", 'hidden = [5]\nactivation = "rellu"'))


@case(JobError, "A network that does not fit in memory.", "Make it smaller.")
def a_network_beyond_memory(folder: Path) -> None:
    prepared(folder, ("hidden = [5]", "hidden = [100000000000000000]"))


@case(
    JobError,
    "The machine has less memory than the network takes.",
    "Make it smaller.",
    foreign="(?<=made: ).*(?= Make)",
)
def a_network_that_memory_does_not_hold(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # in place of 4 GiB on a small machine
        patch.setattr(perceptron, "MOST_NUMBERS", 2**80)
        prepared(folder, ("hidden = [5]", "hidden = [1000000000000]"))


@case(JobError, "The memory ends while the first weights are drawn.", "Make the network smaller.")
def a_network_in_jax_beyond_memory(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # in place of a network of billions of numbers
        patch.setattr(first_network, "_words", out_of_memory)
        first_network.first_network(job(folder, IN_JAX), 2, 2)


@case(JobError, "The memory ends while an optimizer makes its state.", "Make the network smaller.")
def a_state_beyond_memory(folder: Path) -> None:
    made = job(folder, IN_JAX)
    Large().without_rules(made, None, first_network.first_network(made, 2, 2), None)  # type: ignore[arg-type]


class Large(ArrayFramework):
    """A framework whose optimizers need more memory than there is."""

    def steps(self, *arguments: object) -> Steps:
        del arguments
        raise ValueError("RESOURCE_EXHAUSTED: Out of memory allocating 1600000000 bytes.")


def out_of_memory(*arguments: object) -> np.ndarray:
    raise MemoryError("Unable to allocate 2.98 GiB")


@case(JobError, "SparseAdam takes no dense gradients.", "Use Adam.")
def a_job_with_a_sparse_optimizer(folder: Path) -> None:
    prepared(folder, ('"Adam"', '"SparseAdam"'))


@case(JobError, "A misspelt optimizer.", "Take one of torch.optim.", foreign="(?<=There are: ).*")
def a_misspelt_optimizer(folder: Path) -> None:
    prepared(folder, ('"Adam"', '"Adamm"'))


@case(JobError, "An optimizer that torch alone has.", "Take a shared one, or torch.", foreign="(?<=There are: ).*")
def an_optimizer_that_jax_lacks(folder: Path) -> None:
    settings_of(job(folder, IN_JAX, ('"Adam"', '"NAdam"')), IN_OPTAX)


@case(JobError, "An option that torch alone has.", "Leave it out, or take torch.", foreign="(?<=It takes: ).*")
def an_option_that_keras_lacks(folder: Path) -> None:
    decay = ("epochs = 3", "epochs = 3\noptions = { weight_decay = 0.1 }")
    settings_of(job(folder, IN_JAX, decay), IN_KERAS)


@case(JobError, "A value that torch's Adam refuses, too.", "Write two numbers.")
def betas_that_are_one_number(folder: Path) -> None:
    settings_of(job(folder, IN_JAX, ("epochs = 3", "epochs = 3\noptions = { betas = 0.9 }")), IN_OPTAX)


@case(JobError, "Nesterov's step is one of a momentum.", "Give a momentum.")
def nesterov_without_a_momentum(folder: Path) -> None:
    changes = ('"Adam"', '"SGD"'), ("epochs = 3", "epochs = 3\noptions = { nesterov = true }")
    settings_of(job(folder, IN_JAX, *changes), IN_OPTAX)


@case(JobError, "An option that the optimizer does not have.", "Take one it has.", foreign="(?<=It takes: ).*")
def an_option_that_is_none(folder: Path) -> None:
    prepared(folder, ("epochs = 3", "epochs = 3\noptions = { momentum = 0.9 }"))


@case(JobError, "An option with a value that the optimizer refuses.", "Change it.", foreign="(?<=refuses: ).*")
def an_option_that_is_refused(folder: Path) -> None:
    prepared(folder, ("epochs = 3", "epochs = 3\noptions = { eps = -1.0 }"))


@case(JobError, "An option that fails in a step.", "Change it or leave it out.", foreign="(?<=fails: ).*")
def an_option_that_fails_in_a_step(folder: Path) -> None:
    prepared(folder, ('"Adam"', '"LBFGS"\noptions = { line_search_fn = "x" }'))


@case(JobError, "The module of the factory is not found, or fails.", "Put it into the folder of the job file.")
def a_factory_without_its_module(folder: Path) -> None:
    prepared(folder, ("hidden = [5]", 'factory = "no_such_module:make"'))


@case(JobError, "The module has no such function.", "Check its name.", foreign="(?<=')network_[^']*(?=')")
def a_factory_that_is_not_there(folder: Path) -> None:
    made(folder, "def made(inputs, outputs): ...\n")


@case(
    JobError, "The factory is not a function.", "Name a function of inputs and outputs.", foreign="network_[^:]*(?=:)"
)
def a_factory_that_is_no_function(folder: Path) -> None:
    made(folder, "make = 3\n")


@case(JobError, "The factory raised an error.", "Correct the factory.", foreign="network_[^:]*(?=:)")
def a_factory_that_raises(folder: Path) -> None:
    made(folder, "def make(inputs, outputs): raise ValueError('no such size')\n")


@case(JobError, "The factory returned something else.", "Return a torch.nn.Module.", foreign="network_[^:]*(?=:)")
def a_factory_that_returns_no_network(folder: Path) -> None:
    made(folder, "def make(inputs, outputs): return [inputs, outputs]\n")


@case(JobError, "The network of the factory has nothing to train.", "Unfreeze it.", foreign="network_[^:]*(?=:)")
def a_factory_without_parameters(folder: Path) -> None:
    made(folder, "def make(inputs, outputs): return torch.nn.Identity()\n")


@case(
    JobError, "The network takes another number of features.", "Use `inputs`.", foreign="(?<=Error: ).*(?= It receives)"
)
def a_network_of_other_inputs(folder: Path) -> None:
    made(folder, "def make(inputs, outputs): return torch.nn.Linear(inputs + 1, outputs)\n")


@case(JobError, "The network returns another number of outputs.", "Use `outputs`.")
def a_network_of_other_outputs(folder: Path) -> None:
    made(folder, "def make(inputs, outputs): return torch.nn.Linear(inputs, outputs + 1)\n")


@case(JobError, "The network keeps something in its state that is not a tensor.", "Keep it elsewhere.")
def a_network_with_extra_state(folder: Path) -> None:
    extra = "class Extra(torch.nn.Linear):\n    def get_extra_state(self): return {'seen': 0}\n"
    made(folder, f"{extra}    def set_extra_state(self, state): ...\nmake = Extra\n")


@case(
    JobError,
    "A network that fails on a batch of one row.",
    "Change batch_size.",
    foreign="(?<=Error: ).*(?= \\(Batches)",
)
def a_network_that_fails_on_one_row(folder: Path) -> None:
    normed = "torch.nn.Sequential(torch.nn.Linear(inputs, outputs), torch.nn.BatchNorm1d(outputs))"
    made(folder, f"def make(inputs, outputs): return {normed}\n", ("batch_size = 16", "batch_size = 17"), NO_RULES)


@case(JobError, "The rules do not allow training fewer numbers.", 'Write method = "project".')
def a_job_without_a_cheap_basis(folder: Path) -> None:
    says = 'says = "hidden1.weight.flatten().diff().diff() == 0"'
    with pytest.MonkeyPatch.context() as patch:  # in place of thousands of equations
        limit_every_plan(patch, dense_rows=2)
        prepared(folder, ("hidden = [5]", "hidden = [1536]"), (SAID[0], says), REPARAMETRIZED)


@case(JobError, "No plan has room for rules of so many weights.", 'Write method = "lagrange".')
def a_job_with_rules_without_a_plan(folder: Path) -> None:
    rules = 'says = "unit_norm(hidden1.weight, dim=1)"\n\n[[rule]]\nsays = "hidden1.weight >= 0"'
    with pytest.MonkeyPatch.context() as patch:  # in place of thousands of weights
        limit_every_plan(patch, most_mixed=0)
        prepared(folder, (SAID[0], rules))


@case(JobError, "The rules fix every number of the network.", "Loosen a rule.")
def a_job_with_nothing_to_train(folder: Path) -> None:
    names = ("hidden1.weight", "hidden1.bias", "output.weight", "output.bias")
    rules = "".join(f'\n[[rule]]\nsays = "{name} == 1"' for name in names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared(folder, (SAID[0], f"{SAID[0]}{rules}"), REPARAMETRIZED)


@case(JobError, "The network renames its weights when it is saved.", 'Write method = "project".')
def a_network_that_renames_its_weights(folder: Path) -> None:
    code = (
        "def rename(module, state, prefix, metadata):\n"
        "    if prefix + 'weight' in state:\n"
        "        state[prefix + 'matrix'] = state.pop(prefix + 'weight')\n"
        "class make(torch.nn.Linear):\n"
        "    def __init__(self, inputs, outputs):\n"
        "        super().__init__(inputs, outputs)\n"
        "        self.register_state_dict_post_hook(rename)\n"
    )
    made(folder, code, (SAID[0], 'says = "weight[0, 0] == weight[1, 1]"'), REPARAMETRIZED)


@case(JobError, "A rule that cannot be read.", "Its own message says what is wrong.")
def a_job_with_a_wrong_rule(folder: Path) -> None:
    prepared(folder, (SAID[0], 'says = "hidden1.weight[9, 0] == 0"'))


@case(JobError, "A matrix that does not fit the weights.", "Write one column per entry.")
def a_job_with_a_matrix_of_another_width(folder: Path) -> None:
    np.save(folder / "A.npy", np.ones((1, 3)))
    prepared(folder, (SAID[0], 'matrix = "A.npy"\nweights = ["hidden1.bias"]'))


@case(JobError, "A matrix over weights that the network does not have.", "Take one of the names that are listed.")
def a_job_with_a_matrix_over_other_weights(folder: Path) -> None:
    prepared(folder, (SAID[0], 'matrix = "A.npy"\nweights = ["hidden2.bias"]'))


@case(JobError, "A matrix file that does not exist.", "Check the path: it is relative to the job file.")
def a_job_without_its_matrix(folder: Path) -> None:
    prepared(folder, (SAID[0], 'matrix = "A.npy"\nweights = ["hidden1.bias"]'))


@case(JobError, "A mistake in a file of rules.", "Mend the line that is named.")
def a_job_with_a_mistake_in_a_file_of_rules(folder: Path) -> None:
    (folder / "rules.txt").write_text("hidden1.bias = 1")
    prepared(folder, (SAID[0], 'sentences = "rules.txt"'))


@case(JobError, "Polynomials in entries that the weights do not have.", "Count entries from 0, through all weights.")
def a_job_with_polynomials_in_other_entries(folder: Path) -> None:
    (folder / "p.csv").write_text("0, 1, 99, 2")
    prepared(folder, (SAID[0], 'polynomials = "p.csv"\nweights = ["hidden1.bias"]'))


@case(UnknownWeightError, "A weight that the network does not have.", "Take one of those listed.")
def explaining_a_weight_of_another_network(folder: Path) -> None:
    explain(job(folder), ["hidden2.weight[0, 0]"], Screen())
