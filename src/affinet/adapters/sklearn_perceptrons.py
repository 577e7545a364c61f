"""Perceptrons with the interface of scikit-learn whose weights obey rules, trained by torch and used by NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from scipy.special import expit, log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from affinet.adapters.layer_rules import Layers
from affinet.adapters.named_rules import AnyRules, Monotone, feature_names, read_directions, read_rules
from affinet.errors import EstimatorError, callers_line
from affinet.language.calculus.terms import Floats, Integers
from affinet.plans.plan import plan

ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "identity": lambda x: x,
    "logistic": expit,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
}
"""The activations by the names of scikit-learn; none of them falls, as monotone networks need."""


class _Perceptron(BaseEstimator):  # type: ignore[misc]
    """What the classifier and the regressor share: their parameters, the training and the scores."""

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        rules: AnyRules = None,
        monotone: Monotone = None,
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate_init: float = 0.001,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 0.0001,
        n_iter_no_change: int = 10,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.rules = rules
        self.monotone = monotone
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate_init = learning_rate_init
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change

    @property
    def coefs_(self) -> list[Floats]:
        """The weights of each layer as scikit-learn has them: (inputs, outputs)."""
        return [array.T for name, array in self.weights_.items() if name.endswith(".weight")]

    @property
    def intercepts_(self) -> list[Floats]:
        """The biases of each layer."""
        return [array for name, array in self.weights_.items() if name.endswith(".bias")]

    def _begin(self, layers: Layers) -> None:
        """Draw weights, and plan the rules; errors in rules come before anything is fitted."""
        _check_parameters(self)
        directions = read_directions(self.monotone, layers.features)
        rules = [*read_rules(self.rules, layers.weights), *layers.monotone_rules(directions)]
        self.plan_ = plan(rules) if rules else None
        self._random = check_random_state(self.random_state)
        self.weights_ = layers.drawn(self._random, directions, self.activation)
        self._memory: Any = None
        self.loss_curve_: list[float] = []

    def _continue(self, X: Floats, y: Any, weights: Floats, loss: str, epochs: int) -> None:
        """Train on from the weights that there are."""
        from affinet.adapters.perceptron_training import Samples, Trained, Training, train

        size = min(200, len(X)) if self.batch_size == "auto" else int(self.batch_size)
        alpha, rate = float(self.alpha), float(self.learning_rate_init)
        training = Training(self.activation, loss, alpha, rate, size, bool(self.shuffle), self._random, self.plan_)
        trained = train(
            Trained(self.weights_, memory=self._memory), Samples(X, y, weights), training, epochs, self._has_converged
        )
        self.weights_, self._memory = trained.weights, trained.memory
        self.loss_curve_ = [*self.loss_curve_, *trained.losses]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.loss_curve_)
        if epochs > 1 and not self._has_converged(trained.losses):
            warnings.warn(
                f"{type(self).__name__} did not converge: after {self.n_iter_} epochs (max_iter) the loss is "
                f"{self.loss_:.4g}, and {self.n_iter_no_change} epochs without a decrease by {self.tol:.2g} would end "
                f"the training. The rules hold. Raise max_iter or learning_rate_init, or scale the features.",
                ConvergenceWarning,
                stacklevel=callers_line(),
            )

    def _has_converged(self, losses: Sequence[float]) -> bool:
        """Whether the loss has not fallen by `tol` for `n_iter_no_change` epochs, as scikit-learn counts them."""
        best, epochs = np.inf, 0
        for loss in losses:
            epochs = epochs + 1 if loss > best - self.tol else 0
            best = min(best, loss)
        return epochs >= self.n_iter_no_change

    def _scores(self, X: Any) -> Floats:
        check_is_fitted(self)
        scores = validate_data(self, X, dtype=np.float64, reset=False)
        activation = ACTIVATIONS[self.activation]
        for number, (matrix, bias) in enumerate(zip(self.coefs_, self.intercepts_, strict=True), start=1):
            scores = scores @ matrix + bias
            if number < len(self.coefs_):
                scores = activation(scores)
        return np.asarray(scores)


class ConstrainedMLPRegressor(MultiOutputMixin, RegressorMixin, _Perceptron):  # type: ignore[misc]
    """A perceptron for regression whose weights obey rules after every step, trained by Adam on squared errors.

    Parameters: `rules` as text, a function, or a list of these, about the weights `hidden1.weight`, `hidden1.bias`, …,
    `output.weight`, `output.bias`, whose rows are the units of the layer; the columns of the first weight are indexed
    by names of features, `hidden1.weight[:, "age"]`. A function is called with all weights, as in
    `lambda w: w.output.bias == 0`. `monotone` maps names of features to 1, where the prediction may not fall with
    them, or −1. The others are those of scikit-learn's MLPRegressor.

    Attributes: `weights_` (name → array, as in rules), `coefs_` and `intercepts_` as in scikit-learn, `loss_`,
    `loss_curve_`, `n_iter_` (epochs), `plan_`, `n_features_in_`, `feature_names_in_`.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train from newly drawn weights, for `max_iter` epochs at most.

        Errors: those of rules, `InfeasibleError` where no weights satisfy them, `EstimatorError`.
        Warns (ConvergenceWarning of scikit-learn) where the loss still falls after `max_iter` epochs.
        """
        return self._trained(X, y, sample_weight, True, None)

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on these samples, from the present weights, with the state of the optimizer."""
        return self._trained(X, y, sample_weight, not hasattr(self, "weights_"), 1)

    def predict(self, X: Any) -> Floats:
        """The predictions, of the shape of y."""
        scores = self._scores(X)
        return scores[:, 0] if self._single else scores

    def _trained(self, X: Any, y: Any, sample_weight: Any, anew: bool, epochs: int | None) -> Self:
        targets = getattr(y, "columns", None)
        X, y = validate_data(self, X, y, dtype=np.float64, multi_output=True, y_numeric=True, reset=anew)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        Y = np.asarray(y, np.float64).reshape(len(X), -1)
        if anew:
            self._single = y.ndim == 1
            names = None if targets is None or self._single else list(map(str, targets))
            self._begin(Layers(feature_names(self), _hidden(self), Y.shape[1], names))
        elif Y.shape[1] != len(self.intercepts_[-1]):
            raise EstimatorError(
                f"y has {Y.shape[1]} targets, and the weights are for {len(self.intercepts_[-1])}. Give y of the shape "
                f"of the first call, or call fit."
            )
        self._continue(X, Y, weights, "squared error", self.max_iter if epochs is None else epochs)
        return self


class ConstrainedMLPClassifier(ClassifierMixin, _Perceptron):  # type: ignore[misc]
    """A perceptron for classification whose weights obey rules after every step, trained by Adam on log losses.

    Parameters and attributes are those of ConstrainedMLPRegressor, and `classes_`. The network has one output for two
    classes, else one for each class, whose rows have the names of classes that are text:
    `output.weight["setosa"].sum() == 0`. `monotone`, for two classes, is about the probability of the second.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train from newly drawn weights, for `max_iter` epochs at most.

        Errors: those of rules, `InfeasibleError` where no weights satisfy them, `EstimatorError`.
        Warns (ConvergenceWarning of scikit-learn) where the loss still falls after `max_iter` epochs.
        """
        return self._trained(X, y, None, sample_weight, True, None)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one epoch on these samples, from the present weights, with the state of the optimizer.

        `classes` are all classes, at the first call; without them those of `y`.
        """
        return self._trained(X, y, classes, sample_weight, not hasattr(self, "weights_"), 1)

    def predict_proba(self, X: Any) -> Floats:
        """The probabilities of the classes (samples, classes)."""
        scores = self._scores(X)
        if len(self.classes_) == 2:
            return np.concatenate([expit(-scores), expit(scores)], axis=1)
        return np.asarray(softmax(scores, axis=1))

    def predict_log_proba(self, X: Any) -> Floats:
        """The logarithms of the probabilities."""
        scores = self._scores(X)
        if len(self.classes_) == 2:
            return -np.concatenate([np.logaddexp(0.0, scores), np.logaddexp(0.0, -scores)], axis=1)
        return np.asarray(log_softmax(scores, axis=1))

    def predict(self, X: Any) -> Any:
        """The class of each sample."""
        scores = self._scores(X)
        numbers: Integers = (scores[:, 0] > 0.0).astype(np.int64) if len(self.classes_) == 2 else scores.argmax(axis=1)
        return self.classes_[numbers]

    def _trained(self, X: Any, y: Any, classes: Any, sample_weight: Any, anew: bool, epochs: int | None) -> Self:
        X, y = validate_data(self, X, y, dtype=np.float64, reset=anew)
        check_classification_targets(y)
        weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if anew:
            self.classes_ = np.unique(y if classes is None else classes)
            self._check_classes(self.monotone)
            text = all(isinstance(name, str) for name in self.classes_)
            count = len(self.classes_)
            names = list(map(str, self.classes_)) if text and count > 2 else None
            self._begin(Layers(feature_names(self), _hidden(self), 1 if count == 2 else count, names))
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise EstimatorError(
                f"classes is {np.unique(classes)!r:.100}, and was {self.classes_!r:.100} at the first call of "
                f"partial_fit. Leave it out."
            )
        numbers = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if (unknown := self.classes_[numbers] != y).any():
            raise EstimatorError(
                f"y has the class {y[unknown][0]!r}, which the classes of the first call do not have: "
                f"{self.classes_!r:.100}. Give all classes there: partial_fit(X, y, classes=…)."
            )
        two = len(self.classes_) == 2
        target = numbers.astype(np.float64) if two else numbers.astype(np.int64)
        loss = "binary log loss" if two else "log loss"
        self._continue(X, target, weights, loss, self.max_iter if epochs is None else epochs)
        return self

    def _check_classes(self, monotone: Monotone) -> None:
        count = len(self.classes_)
        if count < 2:
            raise EstimatorError(f"y has one class only, {self.classes_[0]!r}. Give samples of two classes or more.")
        if count > 2 and monotone is not None:
            raise EstimatorError(
                f"monotone is about the probability of the second of two classes, and y has {count} classes. Take two "
                f"classes, or write rules about the weights."
            )


def _hidden(estimator: Any) -> tuple[int, ...]:
    sizes = estimator.hidden_layer_sizes
    hidden = tuple(sizes) if isinstance(sizes, list | tuple | np.ndarray) else (sizes,)
    if not all(isinstance(size, int | np.integer) and size > 0 for size in hidden):
        raise EstimatorError(f"hidden_layer_sizes must be positive integers, such as (100,); got {sizes!r:.60}.")
    return tuple(int(size) for size in hidden)


def _check_parameters(estimator: Any) -> None:
    if estimator.activation not in ACTIVATIONS:
        raise EstimatorError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {estimator.activation!r:.60}.")
    automatic = isinstance(estimator.batch_size, str) and estimator.batch_size == "auto"
    lowest = {"alpha": 0.0, "tol": 0.0, "learning_rate_init": 0.0, "max_iter": 1, "n_iter_no_change": 1}
    for name, bound in (lowest if automatic else {**lowest, "batch_size": 1}).items():
        value = getattr(estimator, name)
        if not isinstance(value, int | float | np.number) or isinstance(value, bool) or not bound <= value < np.inf:
            raise EstimatorError(f"{name} must be a number, at least {bound:g}; got {value!r:.60}.")
