"""Estimators of scikit-learn whose coefficients and weights obey rules.

    from affinet.sklearn import ConstrainedLinearRegression
    model = ConstrainedLinearRegression(rules=["coef['age'] >= 0", "sum(coef) == 1"]).fit(X, y)

`import affinet` does not import this module.
"""

from __future__ import annotations

from affinet.errors import MissingPackageError

try:
    from affinet.adapters.sklearn_linear import ConstrainedLinearRegression, ConstrainedLogisticRegression
    from affinet.adapters.sklearn_perceptrons import ConstrainedMLPClassifier, ConstrainedMLPRegressor
except ModuleNotFoundError as missing:
    way_out = 'Install it with: pip install "affinet[sklearn]"'
    raise MissingPackageError.of(missing, "affinet.sklearn", {"sklearn": way_out}) from None

__all__ = [
    "ConstrainedLinearRegression",
    "ConstrainedLogisticRegression",
    "ConstrainedMLPClassifier",
    "ConstrainedMLPRegressor",
]
