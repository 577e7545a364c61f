"""Perceptrons under rules: what is guaranteed of monotone networks, rules at every call, and repeated trainings."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler

import affinet
from affinet.sklearn import (
    ConstrainedLinearRegression,
    ConstrainedLogisticRegression,
    ConstrainedMLPClassifier,
    ConstrainedMLPRegressor,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
DRAW = np.random.default_rng(0)
X = DRAW.uniform(-2, 2, (300, 3))
Y = np.tanh(2 * X[:, 0]) - X[:, 1] ** 3 / 4 + np.sin(3 * X[:, 2]) + 0.3 * DRAW.standard_normal(300)


@pytest.mark.parametrize("hidden", [(), (12,), (12, 6)])
@pytest.mark.parametrize("activation", ["identity", "logistic", "relu", "tanh"])
def test_monotone_networks_never_fall(activation: str, hidden: tuple[int, ...]) -> None:
    """On segments far beyond the data, along features with a direction, at random values of the others."""
    model = ConstrainedMLPRegressor(
        hidden, activation, monotone={"x0": 1, "x1": -1}, max_iter=40, learning_rate_init=0.02, random_state=0
    ).fit(X, Y)
    classifier = ConstrainedMLPClassifier(
        hidden, activation, monotone=[1, -1, 0], max_iter=10, learning_rate_init=0.02, random_state=0
    ).fit(X, Y > 0)
    start = DRAW.normal(0, 5, (400, 3))
    end = start + np.stack([DRAW.exponential(1, 400), -DRAW.exponential(1, 400), np.zeros(400)], axis=1)
    for scores in (model.predict, lambda x: classifier.predict_proba(x)[:, 1]):
        rise = scores(end) - scores(start)
        assert (rise >= -1e-12).all()  # rounding of sums of some dozen terms of size 100
        assert (rise > 0).mean() > 0.3
    if activation == "tanh" and hidden:
        assert model.score(X, Y) > 0.6


def test_the_feature_without_a_direction_can_rise_and_fall() -> None:
    model = ConstrainedMLPRegressor(
        (20, 10), "tanh", monotone={"x0": 1}, max_iter=300, learning_rate_init=0.02, random_state=0
    ).fit(X, Y)
    line = np.stack([np.zeros(50), np.zeros(50), np.linspace(-2, 2, 50)], axis=1)
    steps = np.diff(model.predict(line))
    assert (steps > 0.01).any()
    assert (steps < -0.01).any()


RULES = [
    "hidden1.weight.sum(dim=1) == 1",
    "output.weight >= 0",
    "hidden1.weight[:, 'x0'] == 2 * hidden1.weight[:, 'x1']",
]


def model_of(**options: Any) -> ConstrainedMLPRegressor:
    return ConstrainedMLPRegressor((6,), "tanh", rules=RULES, max_iter=20, random_state=3, **options)


def test_rules_hold_after_every_call_of_partial_fit() -> None:
    model = model_of(batch_size=50)
    for call in range(4):
        model.partial_fit(X[call::4], Y[call::4])
        weight = model.weights_["hidden1.weight"]
        assert np.abs(weight.sum(axis=1) - 1.0).max() < 1e-14
        assert np.abs(weight[:, 0] - 2 * weight[:, 1]).max() < 1e-14
        assert (model.weights_["output.weight"] >= 0.0).all()
    assert model.n_iter_ == 4
    assert np.array_equal(model.coefs_[0], model.weights_["hidden1.weight"].T)


def test_a_training_that_is_pickled_between_its_calls_has_the_same_bits() -> None:
    through, pickled = model_of(batch_size=40), model_of(batch_size=40)
    for _ in range(3):
        through.partial_fit(X, Y)
        pickled = pickle.loads(pickle.dumps(pickled)).partial_fit(X, Y)
    for name, array in through.weights_.items():
        assert np.array_equal(array, pickled.weights_[name])
    assert np.array_equal(through.predict(X), pickled.predict(X))


def test_a_random_state_repeats_a_fit_and_leaves_that_of_torch_alone() -> None:
    before = torch.get_rng_state()
    first, second = model_of().fit(X, Y), model_of().fit(X, Y)
    assert torch.equal(before, torch.get_rng_state())
    assert np.array_equal(first.predict(X), second.predict(X))
    other = model_of().set_params(random_state=4).fit(X, Y)
    assert not np.array_equal(first.predict(X), other.predict(X))


def test_without_rules_a_step_is_that_of_scikit_learn() -> None:
    """The same first weights, the same batches, one epoch of full batches: to rounding of Adam's division."""
    options = {"activation": "tanh", "alpha": 0.1, "batch_size": 300, "shuffle": False, "random_state": 1}
    theirs = MLPRegressor(hidden_layer_sizes=(5,), **options, max_iter=1)
    ours = ConstrainedMLPRegressor((5,), **options)
    theirs.partial_fit(X, Y)
    ours.partial_fit(X, Y)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-12)


@pytest.mark.parametrize("classes", [False, True])
def test_without_hidden_layers_the_optimum_is_that_of_the_linear_model(classes: bool) -> None:
    """Full batches: Adam comes to rest where the exact solver ends, to the root of the rounding of the loss."""
    draw = np.random.default_rng(0)
    features = draw.standard_normal((80, 4))
    y = features @ [1.0, -1.0, 0.5, 2.0] + 0.3 * draw.standard_normal(80)
    rules = ["coef[0] == coef[1]", "coef[2] <= 0.2", "coef.sum() <= 2"]
    options: dict[str, Any] = {
        "rules": [rule.replace("coef[", "output.weight[0, ").replace("coef.", "output.weight.") for rule in rules],
        "alpha": 0.5,
        "batch_size": 80,
        "learning_rate_init": 0.03,
        "max_iter": 600,
        "tol": 0,
        "random_state": 0,
        "n_iter_no_change": 600,
    }
    if classes:
        y = (y > 0).astype(int)
        linear: Any = ConstrainedLogisticRegression(rules=rules, C=2.0).fit(features, y)
        model: Any = ConstrainedMLPClassifier((), **options).fit(features, y)
    else:
        linear = ConstrainedLinearRegression(rules=rules, alpha=0.5).fit(features, y)
        model = ConstrainedMLPRegressor((), **options).fit(features, y)
    assert np.abs(model.coefs_[0].ravel() - np.ravel(linear.coef_)).max() < 1e-7
    assert np.abs(model.intercepts_[0] - linear.intercept_).max() < 1e-7


def test_classes_and_weights_of_samples() -> None:
    iris = load_iris()
    data = StandardScaler().fit_transform(iris.data)
    names = iris.target_names[iris.target]
    model = ConstrainedMLPClassifier(
        (8,), "tanh", rules="output.weight['setosa'] == 0", max_iter=60, learning_rate_init=0.05, random_state=0
    ).fit(data, names, sample_weight=np.where(iris.target == 2, 3.0, 1.0))
    assert model.score(data, names) > 0.85
    assert (model.weights_["output.weight"][0] == 0.0).all()
    assert np.allclose(model.predict_proba(data).sum(axis=1), 1.0, atol=1e-14)
    assert np.allclose(np.log(model.predict_proba(data)), model.predict_log_proba(data), atol=1e-10)


def test_partial_fit_takes_the_classes_at_the_first_call() -> None:
    model = ConstrainedMLPClassifier((4,), random_state=0)
    model.partial_fit(X[:50], np.zeros(50, int), classes=[0, 1, 2])
    assert model.partial_fit(X, np.arange(300) % 3).predict_proba(X).shape == (300, 3)


def test_a_search_over_the_sizes_of_layers() -> None:
    X, y = load_diabetes(return_X_y=True)
    search = GridSearchCV(
        ConstrainedMLPRegressor(monotone={"x2": 1}, max_iter=5, random_state=0, activation="tanh"),
        {"hidden_layer_sizes": [(3,), (4, 4)], "alpha": [0.0, 0.1]},
        cv=2,
    ).fit(StandardScaler().fit_transform(X), (y - y.mean()) / y.std())
    first, *later = (w for name, w in search.best_estimator_.weights_.items() if name.endswith("weight"))
    assert (first[:, 2] >= 0.0).all()
    assert all((w >= 0.0).all() for w in later)


def test_epochs_that_are_too_few_are_warned_of_and_nonlinear_rules_are_kept() -> None:
    model = ConstrainedMLPRegressor((4,), rules="unit_norm(hidden1.weight, dim=1)", max_iter=3, random_state=0)
    with pytest.warns(ConvergenceWarning, match=r"after 3 epochs \(max_iter\) the loss is"):
        model.fit(X, Y)
    assert np.abs(np.linalg.norm(model.weights_["hidden1.weight"], axis=1) - 1.0).max() < 1e-14


def test_rules_that_contradict_a_monotone_network_are_named() -> None:
    model = ConstrainedMLPRegressor((4,), rules="output.weight.sum() == -1", monotone={"x0": 1})
    with pytest.raises(affinet.InfeasibleError, match=r"monotone: output.weight >= 0"):
        model.fit(X, Y)
