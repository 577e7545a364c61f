"""Linear models of scikit-learn whose coefficients obey rules, at the optimum that the rules allow."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
from scipy.special import expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from affinet.adapters.coefficient_losses import BinaryLogLoss, LogLoss, SquaredErrors
from affinet.adapters.coefficient_programs import Loss, Optimum, Region, minimise
from affinet.adapters.coefficient_rules import CoefficientRegion, Coefficients, coefficient_region
from affinet.adapters.named_rules import AnyRules, Monotone, feature_names, read_directions, read_rules
from affinet.errors import EstimatorError, callers_line
from affinet.language.calculus.terms import Floats, Integers
from affinet.plans.plan import Plan


class ConstrainedLinearRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Least squares whose coefficients obey linear rules: `½ Σ s_i (y_i − x_i·coef − intercept)² + ½ alpha |coef|²`.

    Rules are about `coef`, which is indexed by names of features, and `intercept`. Of several optima the coefficients
    are those of the smallest norm, as in scikit-learn.

    Parameters: `rules` as text, a function of `coef` and `intercept`, or a list of these; `monotone` maps names of
    features to 1, where the prediction may not fall with them, or −1; `alpha` is the weight of a penalty;
    `fit_intercept`; `max_iter` and `tol` of the solver, whose steps are relative to the size of the coefficients.

    Attributes: `coef_`, `intercept_`, `n_iter_`, `plan_` (the `affinet.Plan` of the rules, None without rules),
    `multipliers_` (rule name → what its right-hand side costs), `n_features_in_`, `feature_names_in_`.
    """

    def __init__(
        self,
        *,
        rules: AnyRules = None,
        monotone: Monotone = None,
        alpha: float = 0.0,
        fit_intercept: bool = True,
        max_iter: int = 100,
        tol: float = 1e-10,
    ) -> None:
        self.rules = rules
        self.monotone = monotone
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the coefficients. Raises ValueError for data and parameters that cannot be used.

        Errors: those of rules, `InfeasibleError` where no coefficients satisfy them, `EstimatorError`.
        Warns (ConvergenceWarning of scikit-learn) where `max_iter` steps were too few.
        """
        targets = getattr(y, "columns", None)
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        alpha = _number(self, "alpha", 0.0)
        Y = np.asarray(y, np.float64).reshape(len(X), -1)
        rows = None if y.ndim == 1 else y.shape[1]
        names = None if targets is None or rows is None else list(map(str, targets))
        coefficients = Coefficients(feature_names(self), rows, names, bool(self.fit_intercept))
        design, means, noise = _design(X, weights, coefficients.intercept)
        allowed = _region(self, coefficients, means)
        penalties = _penalties(alpha, coefficients)
        Z, slopes, optima = np.zeros(coefficients.shape), np.zeros(coefficients.shape), []
        for part, region in allowed.parts():
            loss = SquaredErrors(design, Y[:, part], weights, penalties, noise)
            optima.append(_minimised(self, loss, region))
            Z[part] = optima[-1].z.reshape(len(part), -1)
            slopes[part] = loss.gradient(optima[-1].z).reshape(len(part), -1)
        _warn_of_steps(self, optima)
        matrix = allowed.uncentred(Z, means)
        coef, intercept = matrix[:, : X.shape[1]], matrix[:, X.shape[1] :].sum(axis=1)
        self.coef_ = coef[0] if rows is None else coef
        self.intercept_ = float(intercept[0]) if rows is None else intercept
        self.plan_: Plan | None = allowed.plan
        self._optimum = matrix, allowed.uncentred_slopes(slopes, means)
        self.n_iter_ = max(each.steps for each in optima)
        return self

    @property
    def multipliers_(self) -> dict[str, Floats]:
        """Rule name → change of the loss per unit of the right-hand side, of the rule's shape; 0 where it is slack."""
        return _multipliers(self)

    def predict(self, X: Any) -> Floats:
        """The predictions, of the shape of y."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(X @ self.coef_.T + self.intercept_)


class ConstrainedLogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Logistic regression whose coefficients obey linear rules: `C Σ s_i log loss_i + ½ |coef|²`, as in scikit-learn.

    With two classes `coef` is a vector, which is indexed by names of features, and `intercept` a number. With more
    (softmax) they have a row for each class, with names where the classes are text: `coef["setosa", "petal length"]`.

    Parameters: `rules` as text, a function of `coef` and `intercept`, or a list of these; `monotone`, for two classes,
    maps names of features to 1, where the probability of the second class may not fall with them, or −1; `C`, infinite
    for a fit without penalty; `fit_intercept`; `class_weight`, a mapping or "balanced"; `max_iter` and `tol` of the
    solver, whose steps are relative to the size of the coefficients.

    Attributes: `classes_`, `coef_` and `intercept_` in the shapes of scikit-learn, `n_iter_`, `plan_` (the
    `affinet.Plan` of the rules, None without rules), `multipliers_` (rule name → what its right-hand side costs),
    `n_features_in_`, `feature_names_in_`.
    """

    def __init__(
        self,
        *,
        rules: AnyRules = None,
        monotone: Monotone = None,
        C: float = 1.0,
        fit_intercept: bool = True,
        class_weight: Any = None,
        max_iter: int = 100,
        tol: float = 1e-10,
    ) -> None:
        self.rules = rules
        self.monotone = monotone
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the coefficients. Raises ValueError for data and parameters that cannot be used.

        Errors: those of rules, `InfeasibleError` where no coefficients satisfy them, `EstimatorError`.
        Warns (ConvergenceWarning of scikit-learn) where `max_iter` steps were too few.
        """
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        inverse = 1.0 / _number(self, "C", 0.0, open_below=True)
        self.classes_, numbers = np.unique(y, return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise EstimatorError(f"y has one class only, {self.classes_[0]!r}. Give samples of two classes or more.")
        if self.class_weight is not None:
            weights = weights * compute_class_weight(self.class_weight, classes=self.classes_, y=y)[numbers]
        coefficients = _of_classes(self, count)
        design, means, noise = _design(X, weights, coefficients.intercept)
        allowed = _region(self, coefficients, means)
        penalties = _penalties(inverse, coefficients)
        loss: Loss = (
            BinaryLogLoss(design, np.asarray(2.0 * numbers - 1.0), weights, penalties, noise)
            if count == 2
            else LogLoss(design, numbers, count, weights, penalties, noise)
        )
        optimum = _minimised(self, loss, allowed.region)
        _warn_of_steps(self, [optimum])
        matrix = allowed.uncentred(optimum.z.reshape(coefficients.shape), means)
        self.coef_ = matrix[:, : X.shape[1]]
        self.intercept_ = matrix[:, X.shape[1] :].sum(axis=1)
        self.plan_: Plan | None = allowed.plan
        slopes = loss.gradient(optimum.z).reshape(coefficients.shape) / (inverse or 1.0)
        self._optimum = matrix, allowed.uncentred_slopes(slopes, means)
        self.n_iter_ = optimum.steps
        return self

    @property
    def multipliers_(self) -> dict[str, Floats]:
        """Rule name → change of the loss per unit of the right-hand side, of the rule's shape; 0 where it is slack."""
        return _multipliers(self)

    def decision_function(self, X: Any) -> Floats:
        """The scores: (samples,) of the second class for two classes, else (samples, classes)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        scores = X @ self.coef_.T + self.intercept_
        return np.asarray(scores[:, 0] if len(self.classes_) == 2 else scores)

    def predict(self, X: Any) -> Any:
        """The class of each sample."""
        scores = self.decision_function(X)
        numbers: Integers = (scores > 0.0).astype(np.int64) if scores.ndim == 1 else scores.argmax(axis=1)
        return self.classes_[numbers]

    def predict_proba(self, X: Any) -> Floats:
        """The probabilities of the classes (samples, classes)."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return np.stack([expit(-scores), expit(scores)], axis=1)
        return np.asarray(softmax(scores, axis=1))

    def predict_log_proba(self, X: Any) -> Floats:
        """The logarithms of the probabilities."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            return -np.stack([np.logaddexp(0.0, scores), np.logaddexp(0.0, -scores)], axis=1)
        return np.asarray(log_softmax(scores, axis=1))


def _of_classes(estimator: Any, count: int) -> Coefficients:
    if count > 2 and estimator.monotone is not None:
        raise EstimatorError(
            f"monotone is about the probability of the second of two classes, and y has {count} classes. Write rules "
            f"about coef, which has a row for each class, such as \"coef[0, 'x0'] >= coef[1, 'x0']\"."
        )
    text = estimator.classes_.dtype.kind in "OUS" and all(isinstance(name, str) for name in estimator.classes_)
    names = list(map(str, estimator.classes_)) if text else None
    rows = None if count == 2 else count
    return Coefficients(feature_names(estimator), rows, names if rows else None, bool(estimator.fit_intercept))


def _number(estimator: Any, name: str, lowest: float, *, open_below: bool = False) -> float:
    value = getattr(estimator, name)
    if isinstance(value, int | float | np.number) and (value > lowest or (value == lowest and not open_below)):
        return float(value)
    bound = "greater than" if open_below else "at least"
    raise EstimatorError(f"{name} must be a number, {bound} {lowest:g}; got {value!r:.60}.")


def _design(X: Floats, weights: Floats, intercept: bool) -> tuple[Floats, Floats, Floats]:
    """The columns of the centred features and of ones, the means, and the rounding of each, in that of its norm.

    Features that are constant to rounding have columns of zeros. Where no intercept is fitted, the features.
    """
    if not intercept:
        return X, np.zeros(X.shape[1]), np.ones(X.shape[1])
    means = np.average(X, axis=0, weights=weights) if weights.sum() > 0.0 else X.mean(axis=0)
    centred = X - means
    sizes, spreads = np.linalg.norm(X, axis=0), np.linalg.norm(centred, axis=0)
    constant = spreads <= len(X) * np.finfo(np.float64).eps * sizes
    centred[:, constant] = 0.0
    noise = np.ones(X.shape[1] + 1)
    noise[:-1][~constant] = sizes[~constant] / spreads[~constant]
    return np.concatenate([centred, np.ones((len(X), 1))], axis=1), means, noise


def _penalties(alpha: float, coefficients: Coefficients) -> Floats:
    penalties = np.full(coefficients.shape[1], alpha)
    penalties[len(coefficients.features) :] = 0.0
    return penalties


def _region(estimator: Any, coefficients: Coefficients, means: Floats) -> CoefficientRegion:
    directions = read_directions(estimator.monotone, coefficients.features)
    rules = read_rules(estimator.rules, coefficients.weights, "coef")
    return coefficient_region(coefficients, [*rules, *coefficients.monotone_rules(directions)], means)


def _minimised(estimator: Any, loss: Loss, region: Region) -> Optimum:
    most_steps, tolerance = int(_number(estimator, "max_iter", 1)), _number(estimator, "tol", 0.0)
    return minimise(loss, region, most_steps=most_steps, tolerance=tolerance)


def _multipliers(estimator: Any) -> dict[str, Floats]:
    """The multipliers of the rules at the optimum, from the slopes of the loss there."""
    check_is_fitted(estimator)
    if estimator.plan_ is None:
        return {}
    shapes = {parameter.name: parameter.shape for parameter in estimator.plan_.parameters}
    features = estimator.n_features_in_
    weights, slopes = (
        {
            name: np.ascontiguousarray(each[:, :features] if name == "coef" else each[:, features]).reshape(shape)
            for name, shape in shapes.items()
        }
        for each in estimator._optimum
    )
    multipliers: dict[str, Floats] = estimator.plan_.projector(weights).multipliers(slopes, at=weights)
    return multipliers


def _warn_of_steps(estimator: Any, optima: list[Optimum]) -> None:
    way_out = "Raise max_iter, scale the features, or drop rules that follow from others."
    if getattr(estimator, "C", 0.0) == np.inf:
        way_out = "Raise max_iter; classes that a line can separate have an optimum with a finite C only."
    for optimum in optima:
        if not optimum.converged:
            warnings.warn(
                f"{type(estimator).__name__} did not converge: the last of {optimum.steps} steps (max_iter) moved the "
                f"coefficients by {optimum.length:.2g} of their size, and tol is {estimator.tol:.2g}. {way_out}",
                ConvergenceWarning,
                stacklevel=callers_line(),
            )
            return
