"""Estimators of scikit-learn with rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import sklearn.exceptions

import affinet
from affinet.errors import (
    EstimatorError,
    InfeasibleError,
    MissingOperationError,
    ParseError,
    RuleError,
    ShapeError,
    UnknownFeatureError,
)
from affinet.language.expression import weight
from affinet.language.labels import labelled
from affinet.language.weights import Weights
from affinet.sklearn import (
    ConstrainedLinearRegression,
    ConstrainedLogisticRegression,
    ConstrainedMLPClassifier,
    ConstrainedMLPRegressor,
)
from tests.errors.case import case

X = np.random.default_rng(0).standard_normal((12, 2))
Y = X @ [1.0, -1.0]
TWO, THREE = np.arange(12) % 2, np.arange(12) % 3


def linear(rules: Any = None, **options: Any) -> None:
    ConstrainedLinearRegression(rules=rules, **options).fit(X, Y)


@case(
    UnknownFeatureError, "A feature is misspelt in a rule.", "Take a name of the list; without names they are x0, x1, …"
)
def a_rule_about_a_feature_that_x_does_not_have() -> None:
    linear("coef['x2'] >= 0")


@case(UnknownFeatureError, "A feature is misspelt in `monotone`.", "Take a name of the list.")
def monotone_in_a_feature_that_x_does_not_have() -> None:
    linear(monotone={"X1": 1})


@case(InfeasibleError, "Rules contradict each other.", "Drop one of the rules that are named.")
def rules_that_no_coefficients_satisfy() -> None:
    linear(["sum(coef) == 1", "coef <= 0.25"])


@case(ShapeError, "Two features have one name.", "Index by position.")
def a_name_of_two_features() -> None:
    parameter = labelled("coef", (3,), ["age", "bmi", "age"])
    weight(parameter)["age"]


@case(ShapeError, "A feature has the name of a class.", "Give an index for each axis.")
def a_name_along_two_axes() -> None:
    weight(labelled("coef", (2, 2), ["a", "b"], ["a", "c"]))["a"]


@case(MissingOperationError, "A feature is asked for as an attribute.", "Write `coef['x0']`.")
def a_feature_as_an_attribute() -> None:
    linear(lambda coef: coef.x0 >= 0)


@case(ShapeError, "An axis has no names.", "Index it by position.")
def a_name_along_an_axis_without_names() -> None:
    weight(labelled("coef", (2, 2), None, ["a", "b"]))["a", "b"]


@case(ParseError, "Names index a whole weight only.", "Index first: `2 * coef['x0']`.")
def a_name_of_an_entry_of_an_expression() -> None:
    linear("(2 * coef)['x0'] >= 0")


@case(RuleError, "Along which axis the builtin `sum` adds is easily misread.", "Write `.sum(dim=1)`.")
def the_builtin_sum_of_a_matrix() -> None:
    affinet.parse("sum(W) == 1", Weights({"W": weight(labelled("W", (2, 3)))}, {}, {}))


@case(EstimatorError, "`rules` is a number.", "Give text, a function, or a list of these.")
def rules_that_are_not_rules() -> None:
    linear(3)


@case(EstimatorError, "A parameter of the function does not name a weight.", "Take a name of the list, or `w`.")
def a_function_of_rules_with_a_misspelt_parameter() -> None:
    linear(lambda intercpt: intercpt >= 0)


@case(EstimatorError, "The function of the rules fails.", "Correct the function.")
def a_function_of_rules_that_fails() -> None:
    linear(lambda coef: [coef["x0"] == 1 / 0])


@case(EstimatorError, "A number for each feature is missing.", "Give one number per feature, or a mapping.")
def monotone_of_another_length() -> None:
    linear(monotone=[1])


@case(EstimatorError, "A direction is 1, −1 or 0.", "Take one of them.")
def monotone_in_another_direction() -> None:
    linear(monotone={"x0": 2})


@case(EstimatorError, "A product of coefficients is not linear.", "Leave it out, or train with `affinet.project`.")
def a_nonlinear_rule_for_a_linear_model() -> None:
    linear("coef['x0'] * coef['x1'] == 1")


@case(EstimatorError, "A penalty below zero has no optimum.", "Give a number that is at least 0.")
def a_negative_penalty() -> None:
    linear(alpha=-1.0)


@case(EstimatorError, "C = 0 would leave the data out.", "Give a positive number.")
def a_logistic_regression_without_data() -> None:
    ConstrainedLogisticRegression(C=0.0).fit(X, TWO)


@case(EstimatorError, "All samples are of one class.", "Give samples of two classes.", fragment="one class only")
def a_logistic_regression_of_one_class() -> None:
    ConstrainedLogisticRegression().fit(X, np.zeros(12))


@case(
    EstimatorError, "With three classes there is no second of two.", "Write rules about `coef`.", fragment="monotone is"
)
def a_monotone_logistic_regression_of_three_classes() -> None:
    ConstrainedLogisticRegression(monotone={"x0": 1}).fit(X, THREE)


@case(EstimatorError, "All samples are of one class.", "Give samples of two classes.", fragment="one class only")
def a_perceptron_of_one_class() -> None:
    ConstrainedMLPClassifier().fit(X, np.zeros(12))


@case(EstimatorError, "With three classes there is no second of two.", "Write rules about the weights.")
def a_monotone_perceptron_of_three_classes() -> None:
    ConstrainedMLPClassifier(monotone={"x0": 1}).fit(X, THREE)


@case(EstimatorError, "A later call names other classes.", "Name the classes at the first call only.")
def other_classes_in_a_later_call() -> None:
    perceptron = ConstrainedMLPClassifier((2,)).partial_fit(X, TWO)
    perceptron.partial_fit(X, TWO, classes=[0, 1, 2])


@case(EstimatorError, "A class appears that the network has no output for.", "Name all classes at the first call.")
def a_new_class_in_a_later_call() -> None:
    ConstrainedMLPClassifier((2,)).partial_fit(X, TWO).partial_fit(X, THREE)


@case(EstimatorError, "y has another number of columns.", "Give y of the first shape, or call `fit`.")
def other_targets_in_a_later_call() -> None:
    ConstrainedMLPRegressor((2,)).partial_fit(X, Y).partial_fit(X, np.stack([Y, Y], axis=1))


@case(EstimatorError, "A layer needs units.", "Give positive integers.")
def a_layer_without_units() -> None:
    ConstrainedMLPRegressor((5, 0)).fit(X, Y)


@case(EstimatorError, "The activation is not known.", "Take one of the list.")
def an_unknown_activation() -> None:
    ConstrainedMLPRegressor(activation="ReLU").fit(X, Y)


@case(EstimatorError, "A number of epochs is needed.", "Give 1 or more.")
def a_perceptron_without_epochs() -> None:
    ConstrainedMLPRegressor(max_iter=0).fit(X, Y)


@case(
    sklearn.exceptions.ConvergenceWarning,
    "Classes that a line separates have no optimum without penalty.",
    "Give a finite `C`, or bound the coefficients.",
    foreign=r"(?<=coefficients by )\S+",
)
def classes_that_a_line_separates() -> None:
    ConstrainedLogisticRegression(C=np.inf, max_iter=20).fit(X, X[:, 0] > 0)


@case(
    sklearn.exceptions.ConvergenceWarning,
    "The loss still falls at the last epoch.",
    "Raise `max_iter`.",
    foreign=r"(?<=the loss is )\S+(?=,)",
)
def a_perceptron_with_too_few_epochs() -> None:
    ConstrainedMLPRegressor(max_iter=2, random_state=0).fit(X, Y)
