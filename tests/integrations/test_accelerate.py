"""accelerate and transformers.Trainer: before and after `prepare`, accumulation, clipping, the callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from tests.integrations.problem import (
    BATCH,
    KINDS,
    ROUNDING,
    Net,
    batches,
    data,
    loss_of,
    numbers,
    plain,
    rules_of,
    violation,
)

accelerate = pytest.importorskip("accelerate")


def adamw(parameters: Any) -> optim.Optimizer:
    return optim.AdamW(parameters, lr=0.02, weight_decay=0.1)


@pytest.mark.parametrize("when", ["before prepare", "after prepare", "after prepare, to the inner one"])
@pytest.mark.parametrize("most", [0.0, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prepared_training_is_the_plain_loop_to_the_bit(when: str, most: float, kind: str) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    net: Any = Net()
    optimizer: Any = adamw(net.parameters())
    handle = None
    if when == "before prepare":
        handle = affinet.project(net, optimizer, rules_of(affinet.weights(net), kind))
    net, optimizer = accelerator.prepare(net, optimizer)
    if handle is None:
        given = optimizer if when == "after prepare" else optimizer.optimizer
        handle = affinet.project(net, given, rules_of(affinet.weights(net), kind))
    assert handle.attached_to(optimizer.optimizer)
    for x in batches():
        optimizer.zero_grad()
        accelerator.backward(loss_of(net, x))
        if most:
            handle.project_gradients()
            accelerator.clip_grad_norm_(net.parameters(), most)
        optimizer.step()
        assert violation(net, kind) < ROUNDING
    assert torch.equal(numbers(net), numbers(plain(adamw, most=most, kind=kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_gradients_are_projected_when_the_step_comes(kind: str) -> None:
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=3)
    net, optimizer = accelerator.prepare(module := Net(), adamw(module.parameters()))
    affinet.project(net, optimizer, rules_of(affinet.weights(net), kind))
    before, moved = numbers(net), 0
    for x in batches():
        with accelerator.accumulate(net):
            accelerator.backward(loss_of(net, x))
            optimizer.step()
            optimizer.zero_grad()
        moved += not torch.equal(before, numbers(net))
        before = numbers(net)
        assert violation(net, kind) < ROUNDING
    assert moved == 4


# transformers.Trainer


class Wrapped(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": loss_of(self.net, x)}


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __len__(self) -> int:
        return len(data())

    def __getitem__(self, k: int) -> dict[str, Tensor]:
        return {"x": data()[k]}


def trainer_for(folder: Path, model: Wrapped, most: float, kind: str, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers")
    from affinet.adapters.transformers import RulesCallback

    class InOrder(transformers.Trainer):  # type: ignore[name-defined, misc]
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        per_device_train_batch_size=BATCH,
        learning_rate=0.02,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        optim="adamw_torch",
        max_grad_norm=most,
        remove_unused_columns=False,
        **{"num_train_epochs": 1, "save_strategy": "no", **options},
    )
    callback = RulesCallback(lambda w: rules_of(w.net, kind))
    trainer = InOrder(model=model, args=arguments, train_dataset=Rows(), callbacks=[callback])
    trainer.rules = callback
    return trainer


@pytest.mark.parametrize("most", [0.0, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_a_trainer_with_the_callback_is_the_plain_loop(most: float, kind: str, tmp_path: Path) -> None:
    model = Wrapped()
    trainer = trainer_for(tmp_path, model, most, kind)
    trainer.train()
    assert violation(model.net, kind) < ROUNDING
    assert trainer.args.max_grad_norm == most
    assert not trainer.rules.handle.attached_to(trainer.optimizer)

    def stock(parameters: Any) -> optim.Optimizer:
        return optim.AdamW(parameters, lr=0.02, weight_decay=0.0)

    # The trainer averages losses over what it counts as items: rounding apart, which AdamW's first signs amplify.
    assert torch.allclose(numbers(model.net), numbers(plain(stock, most=most, kind=kind)), rtol=0, atol=1e-5)
    trainer.train()
    assert violation(model.net, kind) < ROUNDING


@pytest.mark.parametrize("most", [0.0, 0.05])
@pytest.mark.parametrize("kind", KINDS)
def test_a_trainer_goes_on_from_a_checkpoint_to_the_same_bits(most: float, kind: str, tmp_path: Path) -> None:
    whole = Wrapped()
    trainer_for(tmp_path / "whole", whole, most, kind, num_train_epochs=2).train()
    halves = Wrapped()
    trainer_for(tmp_path / "half", halves, most, kind, num_train_epochs=2, save_strategy="epoch").train()
    half = next((tmp_path / "half").glob(f"checkpoint-{len(data()) // BATCH}"))
    resumed = Wrapped()
    trainer_for(tmp_path / "half", resumed, most, kind, num_train_epochs=2).train(resume_from_checkpoint=str(half))
    assert torch.equal(numbers(resumed), numbers(whole))
