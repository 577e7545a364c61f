"""Rules of estimators by names of features and classes, and estimators inside scikit-learn's tools."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import VotingClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import affinet
from affinet.sklearn import (
    ConstrainedLinearRegression,
    ConstrainedLogisticRegression,
    ConstrainedMLPClassifier,
    ConstrainedMLPRegressor,
)

DIABETES = load_diabetes()
NAMES = DIABETES.feature_names
FRAME = pl.DataFrame(DIABETES.data, schema=NAMES)


def twice_bmi(coef: Any) -> Any:
    return coef["bmi"] == 2 * coef["bp"]


SAME = {
    "text": ["coef['age'] >= 0", "coef['bmi'] == 2 * coef['bp']", "intercept == 150"],
    "lines": "coef['age'] >= 0  # older is not healthier\ncoef['bmi'] == 2 * coef['bp']\nintercept == 150",
    "function": lambda coef, intercept: [coef["age"] >= 0, coef["bmi"] == 2 * coef["bp"], intercept == 150],
    "all weights": lambda w: [w.coef["age"] >= 0, twice_bmi(w.coef), w.intercept == 150],
    "mixed": ["coef['age'] >= 0", twice_bmi, lambda intercept: intercept == 150],
    "with a default": lambda coef, scale=2: [coef["age"] >= 0, coef["bmi"] == scale * coef["bp"]],
    "whole": ["w.coef['age'] >= 0", 'w["coef"]["bmi"] == 2 * coef["bp"]', "w.intercept == 150"],
}


@pytest.mark.parametrize("written", SAME)
def test_rules_are_text_or_functions(written: str) -> None:
    rules = [SAME[written], "intercept == 150"] if written == "with a default" else SAME[written]
    model = ConstrainedLinearRegression(rules=rules).fit(FRAME, DIABETES.target)
    coef = dict(zip(model.feature_names_in_, model.coef_, strict=True))
    assert coef["age"] == 0.0
    assert abs(coef["bmi"] - 2 * coef["bp"]) < 1e-10  # a dozen spacings of 500
    assert model.intercept_ == 150.0
    truth = ConstrainedLinearRegression(rules=SAME["text"]).fit(FRAME, DIABETES.target)
    assert np.array_equal(model.coef_, truth.coef_)
    assert model.plan_.inequalities == 1


def test_monotone_is_a_sign_and_names_without_frames_are_numbered() -> None:
    directions = {"x0": 1, "x2": -1, "x3": 0}
    named = ConstrainedLinearRegression(monotone=directions).fit(DIABETES.data, DIABETES.target)
    listed = ConstrainedLinearRegression(monotone=[1, 0, -1, *[0] * 7]).fit(DIABETES.data, DIABETES.target)
    text = ConstrainedLinearRegression(rules=["coef['x0'] >= 0", "coef['x2'] <= 0"]).fit(DIABETES.data, DIABETES.target)
    assert named.coef_[0] == 0.0
    assert named.coef_[2] == 0.0
    assert np.array_equal(named.coef_, listed.coef_)
    assert np.array_equal(named.coef_, text.coef_)
    assert not hasattr(named, "feature_names_in_")


def test_classes_that_are_text_name_rows() -> None:
    iris = load_iris()
    X = pl.DataFrame(iris.data, schema=["sepal length", "sepal width", "petal length", "petal width"])
    rules = ["coef['setosa', 'petal length'] == -1", "coef['virginica'].sum() == 0", "intercept['setosa'] >= 0"]
    model = ConstrainedLogisticRegression(rules=rules).fit(X, iris.target_names[iris.target])
    assert model.coef_[0, 2] == -1.0
    assert abs(model.coef_[2].sum()) < 1e-13
    numbered = ConstrainedLogisticRegression(rules=["coef[0, 2] == -1", "coef[2].sum() == 0", "intercept[0] >= 0"])
    numbered.fit(iris.data, iris.target)  # in another order of rows and columns, with other sums
    assert np.abs(numbered.coef_ - model.coef_).max() < 1e-9
    assert np.allclose(np.log(model.predict_proba(X)), model.predict_log_proba(X), atol=1e-12)


def test_targets_of_a_frame_name_rows() -> None:
    Y = pl.DataFrame({"a": DIABETES.target, "b": -DIABETES.target})
    model = ConstrainedLinearRegression(rules="coef['a', 'bmi'] + coef['b', 'bmi'] == 1").fit(FRAME, Y)
    assert abs(model.coef_[:, 2].sum() - 1.0) < 1e-10
    perceptron = ConstrainedMLPRegressor(
        (), rules="output.weight['a', 'bmi'] == 0.5", max_iter=1, n_iter_no_change=1, tol=1e9
    )
    assert perceptron.fit(FRAME, Y).weights_["output.weight"][0, 2] == 0.5


def test_a_family_is_a_rule_and_a_plan_says_what_the_rules_amount_to() -> None:
    model = ConstrainedLinearRegression(rules="simplex(coef)").fit(FRAME, DIABETES.target)
    assert abs(model.coef_.sum() - 1.0) < 1e-14
    assert (model.coef_ >= 0.0).all()
    assert "keeps 1 sum of 10 weights" in str(model.plan_)
    assert ConstrainedLinearRegression().fit(FRAME, DIABETES.target).plan_ is None


def test_sparse_data_are_refused_and_missing_numbers_too() -> None:
    with pytest.raises(TypeError, match="Sparse data was passed"):
        ConstrainedLinearRegression().fit(sparse.eye_array(4, format="csr"), np.arange(4.0))
    with pytest.raises(ValueError, match="contains NaN"):
        ConstrainedLogisticRegression().fit([[np.nan], [1.0]], [0, 1])


def test_functions_name_the_weights_that_they_are_given() -> None:
    """A misspelt name stood for coef, and so did `intercept` where it is not fitted: rules on another weight."""
    for rules, hint in (
        (lambda intercpt: intercpt >= 0, r"'intercpt', and there is no such weight\. Did you mean 'intercept'"),
        (lambda bias: bias >= 0, "There are: coef, intercept; w stands for all weights"),
    ):
        with pytest.raises(affinet.EstimatorError, match=hint):
            ConstrainedLinearRegression(rules=rules).fit(FRAME, DIABETES.target)
    without = ConstrainedLinearRegression(rules=lambda intercept: intercept >= 0, fit_intercept=False)
    with pytest.raises(affinet.EstimatorError, match="There are: coef; w stands"):
        without.fit(FRAME, DIABETES.target)


def test_errors_say_where_a_name_belongs() -> None:
    linear = ConstrainedLinearRegression
    with pytest.raises(
        affinet.UnknownFeatureError, match=r'X has no names of its own.*set_output\(transform="pandas"\)'
    ):
        make_pipeline(StandardScaler(), linear(rules="coef['bmi'] >= 0")).fit(FRAME, DIABETES.target)
    with pytest.raises(affinet.UnknownWeightError, match=r"write coef\['bmi'\]"):
        linear(rules="bmi >= 0").fit(FRAME, DIABETES.target)
    with pytest.raises(affinet.ParseError, match=r"expressions have no bmi\. .*write coef\['bmi'\]"):
        linear(rules="coef.bmi >= 0").fit(FRAME, DIABETES.target)
    with pytest.raises(AttributeError, match=r"write coef\['bmi'\]"):
        linear(rules=lambda coef: coef.bmi >= 0).fit(FRAME, DIABETES.target)
    y = np.array(["low", "mid", "age of"])[np.arange(len(FRAME)) % 3]
    with pytest.raises(affinet.UnknownFeatureError, match=r"'age'\. It is a name along axis 1: coef\[:, 'age'\]"):
        ConstrainedLogisticRegression(rules="coef['age', 'low'] >= 0").fit(FRAME, y)


def test_errors_in_rules_come_before_anything_is_fitted() -> None:
    model = ConstrainedMLPClassifier(rules="hidden1.weight[:, 'agee'] == 0")
    with pytest.raises(affinet.UnknownFeatureError, match="Did you mean 'age'"):
        model.fit(FRAME, DIABETES.target > 140)
    assert not hasattr(model, "weights_")
    with pytest.raises(affinet.UnknownWeightError, match="Did you mean 'hidden1"):
        ConstrainedMLPClassifier(rules="hidden.weight == 0").fit(FRAME, DIABETES.target > 140)


def test_searches_pipelines_and_ensembles_take_the_estimators() -> None:
    X = FRAME.with_columns((pl.col("sex") > 0).cast(pl.String).alias("sex"))
    y = DIABETES.target > 140
    columns = ColumnTransformer(
        [
            ("sex", OneHotEncoder(drop="if_binary", sparse_output=False), ["sex"]),
            ("rest", StandardScaler(), ["bmi", "bp", "age"]),
        ],
        verbose_feature_names_out=False,
    ).set_output(transform="polars")
    pipeline = make_pipeline(
        columns, ConstrainedLogisticRegression(rules="coef['bmi'] >= coef['bp']", monotone={"age": -1})
    )
    search = GridSearchCV(pipeline, {"constrainedlogisticregression__C": [0.01, 1.0]}, cv=3, n_jobs=2).fit(X, y)
    best = search.best_estimator_[-1]
    assert list(best.feature_names_in_) == ["sex_true", "bmi", "bp", "age"]
    assert best.coef_[0, 1] >= best.coef_[0, 2]
    assert best.coef_[0, 3] <= 0.0
    assert search.best_score_ > 0.7
    ours = ConstrainedLogisticRegression(monotone={"bmi": 1})
    voting = VotingClassifier([("ours", ours), ("pipeline", search.best_estimator_)], voting="soft")
    calibrated = CalibratedClassifierCV(ours, cv=2)
    for model in (voting, calibrated):
        data = X if model is voting else FRAME
        model = VotingClassifier([("ours", ours)], voting="soft") if model is voting else model
        assert model.fit(FRAME if data is X else data, y).score(FRAME if data is X else data, y) > 0.7


def test_copies_predict_the_same_bits() -> None:
    for model in (ConstrainedLinearRegression(rules="coef >= 0"), ConstrainedLogisticRegression(rules=twice_bmi)):
        y = DIABETES.target if isinstance(model, ConstrainedLinearRegression) else DIABETES.target > 140
        again = pickle.loads(pickle.dumps(clone(model).fit(FRAME, y)))
        assert np.array_equal(again.predict(FRAME), model.fit(FRAME, y).predict(FRAME))
        assert np.array_equal(again.coef_, model.coef_)
        assert again.plan_.rows == model.plan_.rows


def test_scores_of_a_search_over_rules() -> None:
    """Rules are a parameter like any other."""
    search = GridSearchCV(ConstrainedLinearRegression(), {"rules": [None, "coef >= 0", "coef == 0"]}, cv=3)
    assert search.fit(FRAME, DIABETES.target).best_params_["rules"] in (None, "coef >= 0")
    assert cross_val_score(ConstrainedLinearRegression(rules="coef >= 0"), FRAME, DIABETES.target).mean() > 0.4
