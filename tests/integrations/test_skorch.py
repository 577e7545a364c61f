"""skorch: rules attached by a callback, for every call of `fit` and of `partial_fit`."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from sklearn.model_selection import GridSearchCV
from torch import optim

from tests.integrations.problem import BATCH, KINDS, ROUNDING, Net, data, numbers, plain, rules_of, violation

skorch = pytest.importorskip("skorch")

from affinet.skorch import ProjectRules  # noqa: E402


@pytest.mark.parametrize("kind", KINDS)
def test_fit_and_partial_fit_are_the_plain_loop_to_the_bit(kind: str) -> None:
    rules = ProjectRules(lambda w: rules_of(w, kind))
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


def test_a_new_fit_starts_anew_and_a_failed_one_leaves_no_rules_behind() -> None:
    class Failing(skorch.callbacks.Callback):  # type: ignore[name-defined, misc]
        def on_epoch_end(self, net: Any, **_: Any) -> None:
            if len(net.history) == 1 and not net.failed:
                net.failed = True
                raise RuntimeError("stopped by the test")

    rules = ProjectRules("encoder.weight >= 0")
    net = skorch.NeuralNet(
        Net,
        criterion=torch.nn.MSELoss,
        optimizer=optim.Adam,
        max_epochs=2,
        batch_size=BATCH,
        train_split=None,
        callbacks=[("rules", rules), ("failing", Failing())],
        verbose=0,
    )
    x = data().numpy()
    net.failed = False
    with pytest.raises(RuntimeError, match="stopped by the test"):
        net.fit(x, x)
    net.partial_fit(x, x)  # the same optimizer, whose rules of the failed call are taken off
    net.fit(x, x)
    assert float(net.module_.encoder.weight.min()) >= 0.0
    assert rules.handle_ is None


def test_a_net_with_rules_is_cloned_searched_and_pickled() -> None:
    net = skorch.NeuralNetRegressor(
        Net,
        max_epochs=1,
        lr=0.05,
        batch_size=BATCH,
        callbacks=[("rules", ProjectRules(["decoder.bias.sum() == 1", "encoder.weight >= 0"]))],
        verbose=0,
    )
    x = data().numpy()
    search = GridSearchCV(net, {"lr": [0.01, 0.05]}, cv=2).fit(x, x)
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    assert abs(float(again.module_.decoder.bias.sum()) - 1.0) < ROUNDING
    assert float(again.module_.encoder.weight.min()) >= 0.0
