"""Nets that are fitted again, cloned, copied and pickled, as scikit-learn does with its estimators."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn, optim

import affinet

skorch = pytest.importorskip("skorch")
X = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
Y = X.sum(1, keepdims=True)


class KeepRules(skorch.callbacks.Callback):  # type: ignore[misc]
    """The callback of docs/export.md."""

    def __init__(self, rules: Any) -> None:
        self.rules = rules

    def initialize(self) -> KeepRules:
        self.handle: affinet.Handle | None = None
        return self

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        if self.handle is not None:
            if self.handle.attached_to(net.optimizer_):
                return
            self.handle.remove()
        self.handle = affinet.project(net.module_, net.optimizer_, self.rules(affinet.weights(net.module_)))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "handle": None}


def rows_sum_to_one(w: Any) -> Any:
    return w[0].weight.sum(dim=1) == 1


def net() -> Any:
    torch.manual_seed(0)
    return skorch.NeuralNetRegressor(
        nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 1)),
        max_epochs=2,
        lr=0.01,
        optimizer=optim.Adam,
        verbose=0,
        train_split=None,
        callbacks=[("rules", KeepRules(rows_sum_to_one))],
    )


def handle_of(fitted: Any) -> affinet.Handle:
    found = dict(fitted.callbacks_)["rules"].handle
    assert isinstance(found, affinet.Handle)
    return found


def assert_on_the_rules(fitted: Any) -> None:
    # Sums of four float32 numbers of size one.
    assert float((fitted.module_[0].weight.detach().sum(1) - 1).abs().max()) <= 8 * torch.finfo(torch.float32).eps
    assert handle_of(fitted).attached_to(fitted.optimizer_)


def test_a_second_fit_goes_on_under_the_same_handle_and_a_first_one_begins_anew() -> None:
    fitted = net().fit(X, Y)
    handle, before = handle_of(fitted), fitted.module_[0].weight.detach().clone()
    fitted.partial_fit(X, Y)
    assert handle_of(fitted) is handle
    assert not torch.equal(fitted.module_[0].weight, before)
    assert_on_the_rules(fitted)
    fitted.fit(X, Y)
    assert handle_of(fitted) is not handle
    assert_on_the_rules(fitted)


def test_a_new_optimizer_for_the_same_module_takes_the_rules_over() -> None:
    fitted = net().fit(X, Y)
    keep, before = dict(fitted.callbacks_)["rules"], fitted.optimizer_
    other = SimpleNamespace(module_=fitted.module_, optimizer_=optim.SGD(fitted.module_.parameters(), lr=0.01))
    keep.on_train_begin(other)
    assert keep.handle.attached_to(other.optimizer_)
    assert not keep.handle.attached_to(before)
    fitted.module_(torch.ones(1, 4)).sum().backward()
    other.optimizer_.step()
    assert max(keep.handle.violation().values()) <= 8 * torch.finfo(torch.float32).eps


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fitted: pickle.loads(pickle.dumps(fitted))])
def test_copies_are_attached_when_they_are_fitted_again(copied: Any) -> None:
    fitted = net().fit(X, Y)
    other = copied(fitted)
    assert torch.equal(other.module_[0].weight, fitted.module_[0].weight)
    other.partial_fit(X, Y)
    assert handle_of(other) is not handle_of(fitted)
    assert_on_the_rules(other)


def test_clones_are_fitted_alike() -> None:
    from sklearn.base import clone

    fitted = [each.fit(X, Y) for each in (net(), clone(net()))]
    assert torch.equal(fitted[0].module_[0].weight, fitted[1].module_[0].weight)
    assert_on_the_rules(fitted[1])
