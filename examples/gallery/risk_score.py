"""A risk score with signs that are known: least squares of scikit-learn's diabetes data under rules, with their prices.

Coefficients are fitted on few patients and compared with those without rules, with signs repaired by clipping, and with
a solver of quadratic programs. The score of each is measured on the patients that were left out.

    python examples/gallery/risk_score.py --figure docs/gallery/risk_score.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import quadprog
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from affinet.sklearn import ConstrainedLinearRegression

Array = NDArray[np.float64]
FEATURES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")
LABELS = (
    "age",
    "sex",
    "body mass",
    "blood pressure",
    "cholesterol",
    "LDL",
    "HDL",
    "cholesterol / HDL",
    "triglycerides",
    "glucose",
)
KNOWN = {"age": 1, "bmi": 1, "bp": 1, "s1": 1, "s2": 1, "s3": -1, "s4": 1, "s5": 1, "s6": 1}
"""More of each is known to be no better for a patient (+1), and of HDL no worse (−1); of sex nothing is said."""
SIZES = (15, 20, 30, 50, 100, 200)
REPEATS = 60


def data() -> tuple[Array, Array]:
    """442 patients: features in standard deviations, and the progress of the disease."""
    X, y = load_diabetes(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def with_rules(X: Array, y: Array) -> ConstrainedLinearRegression:
    """Least squares with the known signs; features without names are x0, x1 and so on."""
    return ConstrainedLinearRegression(monotone=[KNOWN.get(name, 0) for name in FEATURES]).fit(X, y)


def clipped(X: Array, y: Array) -> LinearRegression:
    """The usual repair: coefficients of the wrong sign are set to zero after the fit."""
    model = LinearRegression().fit(X, y)
    signs = np.array([KNOWN.get(name, 0) for name in FEATURES])
    model.coef_ = np.where(model.coef_ * signs < 0.0, 0.0, model.coef_)
    model.intercept_ = float(y.mean() - X.mean(axis=0) @ model.coef_)
    return model


def by_quadratic_programming(X: Array, y: Array) -> Array:
    """The coefficients from quadprog, a dual active-set method."""
    centred = X - X.mean(axis=0)
    signs = np.diag([float(KNOWN.get(name, 0)) for name in FEATURES])
    rows = signs[np.abs(signs).sum(axis=1) > 0]
    return np.array(quadprog.solve_qp(centred.T @ centred, centred.T @ (y - y.mean()), rows.T, np.zeros(len(rows)))[0])


def left_out(X: Array, y: Array) -> dict[str, Array]:
    """R² on the patients that were not used, for each recipe and each number of patients: medians over draws."""
    fits = {"without rules": LinearRegression().fit, "clipped": clipped, "with rules": with_rules}
    scores = {name: np.zeros((len(SIZES), REPEATS)) for name in fits}
    for repeat in range(REPEATS):
        order = np.random.default_rng(repeat).permutation(len(y))
        for row, size in enumerate(SIZES):
            used, others = order[:size], order[size:]
            for name, fit in fits.items():
                scores[name][row, repeat] = fit(X[used], y[used]).score(X[others], y[others])
    return {name: np.median(each, axis=1) for name, each in scores.items()}


def draw(free: Array, ruled: Array, scores: dict[str, Array], path: Path) -> None:
    """The coefficients with and without rules, and the scores against the number of patients."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.2, 1])
    places = np.arange(len(FEATURES))[::-1]
    left.barh(places + 0.2, free, 0.38, color="#D55E00", label="without rules")
    left.barh(places - 0.2, ruled, 0.38, color="#0072B2", label="with rules")
    left.axvline(0, color="black", linewidth=0.8)
    left.set_yticks(places, LABELS)
    left.set(xlabel="progress of the disease per standard deviation")
    left.legend(frameon=False, loc="lower left")
    colours = {"without rules": "#D55E00", "clipped": "0.55", "with rules": "#0072B2"}
    for name, score in scores.items():
        right.plot(SIZES, score, "o-", color=colours[name], label=name, markersize=4)
    right.set(xscale="log", xlabel="patients to learn from", ylabel="R² on the others (median)", ylim=(-0.6, 0.55))
    right.set_xticks(SIZES, [str(size) for size in SIZES])
    right.minorticks_off()
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Fit all patients and few, compare with the quadratic program, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    X, y = data()
    free, model, repaired = LinearRegression().fit(X, y), with_rules(X, y), clipped(X, y)
    assert np.abs(model.coef_ - by_quadratic_programming(X, y)).max() < 1e-8
    losses = {
        name: float(np.square(each.predict(X) - y).mean())
        for name, each in (("without rules", free), ("clipped", repaired), ("with rules", model))
    }
    assert losses["without rules"] < losses["with rules"] < losses["clipped"]
    prices = {name.removeprefix("monotone in "): float(price) for name, price in model.multipliers_.items()}
    dearest = max(prices, key=lambda name: abs(prices[name]))

    scores = left_out(X, y)
    assert (scores["with rules"][:3] > scores["without rules"][:3]).all()
    print("                 squared error of all   R² on the others, learnt from 20   from 200")
    for name, loss in losses.items():
        print(f"{name:<17}{loss:>20.0f}{scores[name][1]:>35.2f}{scores[name][-1]:>11.2f}")
    zero = ", ".join(label for label, each in zip(LABELS, model.coef_, strict=True) if each == 0.0)
    print(f"zero under rules: {zero}; the dearest sign is that of {LABELS[int(dearest.removeprefix('x'))]}")
    if arguments.figure:
        draw(free.coef_, model.coef_, scores, arguments.figure)


if __name__ == "__main__":
    main()
