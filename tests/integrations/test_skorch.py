"""skorch: rules attached by a callback, for every call of `fit` and of `partial_fit`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import optim

import affinet
from tests.integrations.problem import BATCH, KINDS, ROUNDING, Net, data, numbers, plain, rules_of, violation

skorch = pytest.importorskip("skorch")


class Rules(skorch.callbacks.Callback):  # type: ignore[name-defined, misc]
    """What docs/trainers.md shows; what was learned is passed on to the next call of `partial_fit`."""

    def __init__(self, kind: str) -> None:
        self.kind, self.learned = kind, None

    def on_train_begin(self, net: Any, **_: Any) -> None:
        self.handle = affinet.project(net.module_, net.optimizer_, rules_of(affinet.weights(net.module_), self.kind))
        if self.learned is not None:
            self.handle.load_state_dict(self.learned)

    def on_train_end(self, net: Any, **_: Any) -> None:
        self.learned = self.handle.state_dict()
        self.handle.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_fit_and_partial_fit_are_the_plain_loop_to_the_bit(kind: str) -> None:
    rules = Rules(kind)
    net = skorch.NeuralNet(
        Net,
        criterion=torch.nn.MSELoss,
        optimizer=optim.AdamW,
        optimizer__lr=0.02,
        optimizer__weight_decay=0.1,
        max_epochs=1,
        batch_size=BATCH,
        train_split=None,
        callbacks=[("rules", rules)],
        verbose=0,
    )
    x = data().numpy()

    def make(parameters: Any) -> optim.Optimizer:
        return optim.AdamW(parameters, lr=0.02, weight_decay=0.1)

    net.fit(x, x)
    assert torch.equal(numbers(net.module_), numbers(plain(make, kind=kind)))
    net.partial_fit(x, x)  # the same optimizer goes on
    assert torch.equal(numbers(net.module_), numbers(plain(make, epochs=2, kind=kind)))
    assert violation(net.module_, kind) < ROUNDING
