"""Keep rules in `transformers.Trainer`: attached as a training begins, gradients projected before they are clipped."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from affinet.language.constraint import Constraint
from affinet.language.weights import Weights, weights
from affinet.plans.plan import Plan
from affinet.training.handle import Handle
from affinet.training.projection import project

__all__ = ["RulesCallback"]

Rules = Plan | Iterable[Constraint] | Constraint

STATE_FILE = "affinet.pt"
"""The file in a checkpoint that holds the state of the handle."""


class RulesCallback(TrainerCallback):  # type: ignore[misc]  # untyped where transformers is not installed
    """Keeps rules through a training: `Trainer(..., callbacks=[RulesCallback(rules)])`.

    `rules` are rules, a plan, or a function of `affinet.weights(model)` that returns rules. `handle` is that of the
    current or latest training. Other keywords are those of `affinet.project`. Clipping by `max_grad_norm` is done
    here, since it must follow the projection; `TrainingArguments` get their number back when the training ends.

    Checkpoints hold what was learned about inequalities, and a training that resumes from one of `args.output_dir`, or
    of `args.resume_from_checkpoint`, continues with the same bits.
    """

    def __init__(self, rules: Rules | Callable[[Weights], Rules], **options: Any) -> None:
        self.handle: Handle | None = None
        self._rules, self._options, self._max_grad_norm = rules, options, 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach the rules to the model and the optimizer of the trainer."""
        model, rules = kwargs["model"], self._rules
        rules = rules(weights(model)) if callable(rules) else rules
        self.handle = project(model, kwargs["optimizer"], rules, **self._options)
        saved = [folder / STATE_FILE for folder in _checkpoints(args, state) if (folder / STATE_FILE).is_file()]
        if state.global_step > 0 and saved:
            self.handle.load_state_dict(torch.load(saved[0], map_location="cpu", weights_only=True))
        self._max_grad_norm, args.max_grad_norm = args.max_grad_norm or 0.0, 0.0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Project the gradients, then clip them."""
        assert self.handle is not None
        if self._max_grad_norm > 0.0:
            self.handle.project_gradients()
            torch.nn.utils.clip_grad_norm_(kwargs["model"].parameters(), self._max_grad_norm)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write what was learned about inequalities to the checkpoint."""
        assert self.handle is not None
        *_, folder = _checkpoints(args, state)
        self.handle.forget()
        if self.handle.projector.has_inequalities and state.is_world_process_zero and folder.is_dir():
            torch.save(self.handle.state_dict(), folder / STATE_FILE)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Detach the rules from the optimizer, whose training has ended."""
        args.max_grad_norm = self._max_grad_norm
        if self.handle is not None:
            self.handle.remove()


def _checkpoints(args: Any, state: Any) -> list[Path]:
    """Where the checkpoint of the present step may be; the last one is where the trainer writes it."""
    written = Path(args.output_dir) / f"checkpoint-{state.global_step}"
    resumed = getattr(args, "resume_from_checkpoint", None)
    return [Path(resumed), written] if isinstance(resumed, str) else [written]
