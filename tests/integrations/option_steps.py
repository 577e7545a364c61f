"""Rules, start and targets of steps under options of an optimizer, and the ends of such steps under torch.

Torch is imported where it is used, so that processes without it read the rules. AFFINET_KERAS_PRODUCT=1 (`make long`)
adds rules whose steps take long to compile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import affinet
from affinet import families

STEPS, RATE, MOMENTUM = 8, 0.25, 0.5
EVERYTHING = bool(os.environ.get("AFFINET_KERAS_PRODUCT"))
SHAPES: dict[str, tuple[int, ...]] = {"bounded": (4, 3), "unit": (3, 4), "tied": (6,), "free": (3,)}
if EVERYTHING:
    SHAPES |= {"simplex": (4, 5), "half": (4, 4)}
CLIPS: dict[str, dict[str, float]] = {
    "clipvalue": {"clipvalue": 0.25},
    "clipnorm": {"clipnorm": 0.5},
    "global_clipnorm": {"global_clipnorm": 0.75},
}
AVERAGES = {
    "use_ema": {"use_ema": True, "ema_momentum": 0.75},
    "overwritten": {"use_ema": True, "ema_momentum": 0.75, "ema_overwrite_frequency": 3},
}
SCALE, OVERFLOW = 2.0**10, 3
"""The scale of losses, and the step whose gradients are infinite: it is not taken, and the scale is halved."""
SHAPES_OF_MISSING = {"sums": (3, 5), "tied": (6,), "bounded": (4, 4)}
MISSING = ("sums", "bounded")
"""Weights without a gradient, of which rules tie a row of `sums` to weights with one."""
Arrays = Mapping[str, np.ndarray]


def rules_of(w: Any) -> list[Any]:
    rules = [w["bounded"] >= 0.1, families.unit_norm(w["unit"], 1), w["tied"][:3] == -2.0 * w["tied"][3:]]
    if EVERYTHING:
        half = w["half"]
        rules += [families.simplex(w["simplex"], dim=1), half @ np.arange(4.0) <= 1.0, np.ones(4) @ half <= 0.3]
    return rules


def rules_of_missing(w: Any) -> list[Any]:
    return [w["sums"][0] == w["tied"][:5], w["sums"].sum(dim=1) == 1.0, w["bounded"] >= 0.1]


def drawn(shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The start, and the weights at which the loss is least without rules."""
    random = np.random.default_rng(1)
    start, targets = ({name: random.uniform(-0.5, 1.5, shape) for name, shape in shapes.items()} for _ in range(2))
    return start, targets


class InTorch:
    """A training of torch under the rules, on the gradients `w − target`."""

    def __init__(self, start: Arrays, targets: Arrays, rules: Callable[[Any], list[Any]], **options: Any) -> None:
        import torch

        self.targets = targets
        self.module = torch.nn.ParameterDict({name: torch.tensor(array) for name, array in start.items()})
        kind = options.pop("kind", "SGD")
        self.optimizer = getattr(torch.optim, kind)(self.module.parameters(), **options)
        made = affinet.plan(rules(affinet.weights(self.module)))
        self.projector = made.projector(dict(start))
        self.handle = affinet.project(self.module, self.optimizer, made)

    def step(
        self, change: Callable[[dict[str, Any]], dict[str, Any]] = dict, missing: tuple[str, ...] = (), scale: Any = 1.0
    ) -> None:
        """Take a step, with gradients along the rules that `change` replaces, as options of Keras do."""
        import torch

        for name, parameter in self.module.items():
            gradient = torch.tensor(scale) * (parameter.detach() - torch.tensor(self.targets[name]))
            parameter.grad = None if name in missing else gradient
        if change is not dict:
            self.handle.project_gradients()
            changed = change({name: p.grad for name, p in self.module.items()})
            for name, parameter in self.module.items():
                parameter.grad = changed[name]
        self.optimizer.step()

    def arrays(self) -> dict[str, np.ndarray]:
        return {name: p.detach().numpy().copy() for name, p in self.module.items()}

    def fill(self, arrays: Arrays) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self.module.items():
                parameter.copy_(torch.tensor(arrays[name]))


def _clipped(kind: str, bound: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    import torch

    def norm(*gradients: Any) -> Any:
        return torch.cat([g.reshape(-1) for g in gradients]).norm()

    def clipped(gradients: dict[str, Any]) -> dict[str, Any]:
        match kind:
            case "clipvalue":
                return {name: g.clamp(-bound, bound) for name, g in gradients.items()}
            case "clipnorm":
                return {name: g * (bound / norm(g)).clamp(max=1.0) for name, g in gradients.items()}
            case _:
                share = (bound / norm(*gradients.values())).clamp(max=1.0)
                return {name: g * share for name, g in gradients.items()}

    return clipped


def clipped_in_torch(kind: str) -> dict[str, np.ndarray]:
    """The weights after steps on gradients along the rules that are clipped by hand.

    The hooks of torch project clipped gradients again, which is another step where the projection does not commute with
    clipping and changes with the weights: unit lengths under `clipvalue` are written by hand, inequalities left out.
    """
    training = InTorch(*drawn(SHAPES), rules_of, lr=RATE, momentum=MOMENTUM)
    for _ in range(STEPS):
        training.step(_clipped(kind, CLIPS[kind][kind]))
    if kind != "clipvalue":
        return training.arrays()
    arrays = training.arrays() | {"unit": _clipped_on_spheres(CLIPS[kind][kind])}
    return {name: arrays[name] for name in ("bounded", "unit", "tied", "free")}


def _clipped_on_spheres(bound: float) -> np.ndarray:
    """Rows of length one: `w ← (w + m) / |w + m|` with momentum m of clipped gradients along the spheres."""
    start, targets = (arrays["unit"] for arrays in drawn(SHAPES))
    w, momentum = start / np.linalg.norm(start, axis=1, keepdims=True), np.zeros_like(start)
    for _ in range(STEPS):
        gradient = w - targets
        along = gradient - w * (w * gradient).sum(1, keepdims=True)
        momentum = MOMENTUM * momentum - RATE * np.clip(along, -bound, bound)
        w = (w + momentum) / np.linalg.norm(w + momentum, axis=1, keepdims=True)
    return np.asarray(w)


def averaged_in_torch(momentum: float, overwrite_frequency: int | None) -> dict[str, np.ndarray]:
    """The averages of the weights after each step, on the rules.

    Where they overwrite the weights, inequalities are left out: what is known of them then starts anew, in another way.
    """
    training = InTorch(*drawn(SHAPES), rules_of, lr=RATE, momentum=MOMENTUM)
    averages: dict[str, np.ndarray] = {}
    for step in range(1, STEPS + 1):
        training.step()
        now = training.arrays()
        averages = {n: momentum * averages[n] + (1 - momentum) * w for n, w in now.items()} if averages else now
        if overwrite_frequency and step % overwrite_frequency == 0:
            training.fill(training.projector.project(averages))
    placed = training.projector.project(averages)
    return {name: placed[name] for name in ("unit", "tied", "free")} if overwrite_frequency else placed


def scaled_in_torch() -> dict[str, np.ndarray]:
    """The weights after steps of which one is left out, and the gradients are twice as large after it."""
    training = InTorch(*drawn(SHAPES), rules_of, lr=RATE / 2, momentum=MOMENTUM)
    for step in range(STEPS):
        if step != OVERFLOW:
            training.step((lambda gradients: {n: 2 * g for n, g in gradients.items()}) if step > OVERFLOW else dict)
    return training.arrays()


def missing_in_torch() -> dict[str, np.ndarray]:
    """The weights after steps of AdamW without the gradients of some weights."""
    options = {"betas": (0.875, 1.0 - 2.0**-10), "eps": 1e-30, "weight_decay": 0.125}
    training = InTorch(*drawn(SHAPES_OF_MISSING), rules_of_missing, kind="AdamW", lr=0.0625, **options)
    for step in range(STEPS):
        training.step(missing=MISSING if step > 1 else ())
    return training.arrays()


IDS = np.array([[0, 1], [1, 2], [0, 0], [2, 1]])
ROWS = np.random.default_rng(2).integers(-8, 8, (4, 2, 4)) / 8.0
TABLE = np.arange(20.0).reshape(5, 4) / 16.0
RATE_OF_ROWS = 4.0


def rules_of_rows(table: Any) -> list[Any]:
    return [table[1:3] >= 0.0, table[3] == table[0], table[4].sum() == 1.0]


def embedded_in_torch() -> np.ndarray:
    """The embeddings after steps on the mean squared distance of the embeddings of `IDS` from `ROWS`, by dense rows."""
    counts, means = np.zeros((5, 1)), TABLE.copy()
    for row in range(5):
        counts[row] = (row == IDS).sum()
        if counts[row]:
            means[row] = ROWS[row == IDS].mean(0)
    share = 2.0 * counts / ROWS.size
    training = InTorch({"e": TABLE}, {"e": means}, lambda w: rules_of_rows(w["e"]), lr=RATE_OF_ROWS, momentum=MOMENTUM)
    for _ in range(STEPS):
        training.step(scale=share)
    return training.arrays()["e"]
