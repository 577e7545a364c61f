from __future__ import annotations

from pathlib import Path

import pytest
import torch

from affinet.cli.trainings.torch.optimizers import OPTIMIZERS, make_optimizer
from affinet.errors import JobError
from tests.cli.conftest import changed, job_of


def made(folder: Path, name: str, options: str = "", network: torch.nn.Module | None = None) -> torch.optim.Optimizer:
    line = f'optimizer = "{name}"' + (f"\noptions = {options}" if options else "")
    return make_optimizer(job_of(changed(('optimizer = "Adam"', line)), folder), network or torch.nn.Linear(3, 2))


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "SparseAdam"])
def test_every_optimizer_is_made_with_the_learning_rate(tmp_path: Path, name: str) -> None:
    network = torch.nn.Linear(3, 2, bias=False)  # Muon takes matrices only
    optimizer = made(tmp_path, name, network=network)
    assert type(optimizer) is OPTIMIZERS[name]
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_options_are_handed_on(tmp_path: Path) -> None:
    group = made(tmp_path, "Adam", "{ betas = [0.5, 0.6], amsgrad = true }").param_groups[0]
    assert (group["betas"], group["amsgrad"]) == ((0.5, 0.6), True)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adamw", "", r"line 10: torch.optim has no optimizer 'adamw'. Did you mean 'AdamW'\? There are: ASGD"),
        ("SparseAdam", "", "line 10: SparseAdam needs sparse gradients, which affinet cannot project; Adam takes"),
        (
            "Adam",
            "{ weight_deacy = 1 }",
            r"line 11: Adam has no option 'weight_deacy'. Did you mean 'weight_decay'",
        ),
        ("SGD", "{ lr = 1 }", r"SGD has no option 'lr'. Write it as learning_rate in \[train\]. It takes: momentum,"),
        ("SGD", "{ params = 1 }", "SGD has no option 'params'. It takes: momentum,"),
        ("SGD", "{ momentum = -1 }", "line 11: SGD refuses: Invalid momentum value: -1"),
        ("Adam", "{ betas = 0.5 }", "line 11: Adam refuses: "),
        ("Adam", '{ eps = "x" }', "line 11: Adam refuses: "),
        pytest.param(
            "Muon",
            "",
            "line 10: Muon refuses: Muon only supports 2D parameters",
            marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon"),
        ),
    ],
)
def test_what_the_optimizer_does_not_take_is_told(tmp_path: Path, name: str, options: str, message: str) -> None:
    with pytest.raises(JobError, match=message):
        made(tmp_path, name, options)
