"""scikit-learn's own checks of estimators, with and without rules; none is declared to fail."""

from __future__ import annotations

from typing import Any

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from affinet.sklearn import (
    ConstrainedLinearRegression,
    ConstrainedLogisticRegression,
    ConstrainedMLPClassifier,
    ConstrainedMLPRegressor,
)

FEW = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.03}
"""Small networks and few epochs, as scikit-learn checks its own: the scores that the checks ask for are reached."""
ESTIMATORS = [
    ConstrainedLinearRegression(),
    ConstrainedLinearRegression(rules=["coef <= 1000", "coef[..., 0] == coef[..., -1] / 2"]),
    ConstrainedLogisticRegression(),
    ConstrainedLogisticRegression(rules="coef.sum() <= 100"),
    ConstrainedMLPClassifier(**FEW, max_iter=25),
    ConstrainedMLPRegressor(**FEW, max_iter=60),
    ConstrainedMLPRegressor(**FEW, max_iter=40, rules="hidden1.bias.sum() == 0"),
]


@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore::sklearn.exceptions.SkipTestWarning"
)
@parametrize_with_checks(ESTIMATORS)
def test_a_check_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)
