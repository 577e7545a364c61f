"""PyTorch Lightning: automatic and manual optimization, clipping after the projection, a checkpoint gone on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, optim

import affinet
from tests.integrations.problem import BATCH, KINDS, ROUNDING, Net, data, loss_of, numbers, plain, rules_of, violation

lightning = pytest.importorskip("lightning.pytorch")


class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
    def __init__(self, kind: str, *, manual: bool = False, late: bool = False) -> None:
        super().__init__()
        self.kind, self.learned = kind, None
        self.net, self.automatic_optimization, self.late = Net(), not manual, late
        self.seen: list[float] = []

    def attach(self, optimizer: Any) -> None:
        self.handle = affinet.project(self.net, optimizer, rules_of(affinet.weights(self.net), self.kind))
        if self.learned is not None:
            self.handle.load_state_dict(self.learned)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["rules"] = self.handle.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.learned = checkpoint["rules"]

    def configure_optimizers(self) -> optim.Optimizer:
        optimizer = optim.AdamW(self.net.parameters(), lr=0.02, weight_decay=0.1)
        if not self.late:
            self.attach(optimizer)
        return optimizer

    def on_train_start(self) -> None:
        if self.late:
            self.attach(self.optimizers())

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
    ) -> None:
        if gradient_clip_val:
            self.handle.project_gradients()
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def training_step(self, batch: list[Tensor], _: int) -> Tensor | None:
        loss = loss_of(self.net, batch[0])
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return None

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen.append(violation(self.net, self.kind))


def fit(module: Module, folder: Path, **options: Any) -> Module:
    resumed = options.pop("ckpt_path", None)
    options = {"max_epochs": 1, "enable_checkpointing": False, **options}
    trainer = lightning.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data()), batch_size=BATCH)
    trainer.fit(module, loader, ckpt_path=resumed)
    module.saved = trainer.save_checkpoint
    return module


def adamw(parameters: Any) -> optim.Optimizer:
    return optim.AdamW(parameters, lr=0.02, weight_decay=0.1)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_training_is_the_plain_loop_to_the_bit(kind: str, manual: bool, late: bool, tmp_path: Path) -> None:
    module = fit(Module(kind, manual=manual, late=late), tmp_path)
    assert max(module.seen) < ROUNDING
    assert torch.equal(numbers(module.net), numbers(plain(adamw, kind=kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_clipping_after_the_projection_is_the_plain_loop_to_the_bit(kind: str, tmp_path: Path) -> None:
    module = fit(Module(kind), tmp_path, gradient_clip_val=0.05)
    assert torch.equal(numbers(module.net), numbers(plain(adamw, most=0.05, kind=kind)))


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_training_is_one_in_one_go_to_the_bit(kind: str, late: bool, tmp_path: Path) -> None:
    whole = fit(Module(kind, late=late), tmp_path, max_epochs=2)
    first = fit(Module(kind, late=late), tmp_path)
    first.saved(tmp_path / "half.ckpt")
    second = fit(Module(kind, late=late), tmp_path, max_epochs=2, ckpt_path=str(tmp_path / "half.ckpt"))
    assert torch.equal(numbers(second.net), numbers(whole.net))
    assert max(second.seen) < ROUNDING
