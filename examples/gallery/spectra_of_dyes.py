"""The spectra of dyes from mixtures, in Keras: each is a density of light over wavelengths, and no part is negative.

A detector has channels of unequal width, and a little daylight falls into it. From mixtures of three dyes in known
amounts, a Dense layer learns how each dye shines in each channel, under two rules: no density is negative, and each
spectrum has area one. SciPy has the optimum; weights that a `kernel_constraint` projects after Adam's step end
elsewhere.

    KERAS_BACKEND=tensorflow python examples/gallery/spectra_of_dyes.py
    KERAS_BACKEND=jax python examples/gallery/spectra_of_dyes.py --figure docs/gallery/spectra_of_dyes.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import affinet
import affinet.keras

DYES, MIXTURES, STEPS, RATE = 3, 40, 1000, 0.02
NEWTON = 12
"""Steps of Newton's method, which ends at the exact shift after a few."""
DAYLIGHT = 0.2
"""What daylight adds to each channel, per 100 nm."""
WIDTHS = np.repeat([0.10, 0.20, 0.05, 0.25, 0.10], [6, 4, 8, 3, 5])
"""Widths of the channels, in units of 100 nm."""
Array = NDArray[np.float64]


def spectra() -> Array:
    """The density of the light of each dye in each channel (dyes, channels): a steep rise and a long tail."""
    middle = np.cumsum(WIDTHS) - WIDTHS / 2.0
    shapes = []
    for start, length in ((0.2, 0.25), (0.7, 0.3), (1.5, 0.35)):
        x = np.maximum(middle - start, 0.0) / length
        shapes.append(x**2 * np.exp(-2.0 * x))
    density: Array = np.array(shapes)
    return np.asarray(density / (density @ WIDTHS)[:, None])


def measured() -> tuple[Array, Array]:
    """Amounts of the dyes (mixtures, dyes), and the light seen (mixtures, channels): narrow channels are noisier."""
    draw = np.random.default_rng(0)
    amounts = draw.uniform(0.0, 1.0, (MIXTURES, DYES))
    noise = draw.normal(0.0, 0.1, (MIXTURES, len(WIDTHS))) / np.sqrt(WIDTHS)
    return amounts, amounts @ spectra() + DAYLIGHT + noise


def network(constraint: Any = None) -> Any:
    """Amounts in, light out: the kernel (in, out) holds a spectrum in each row. It starts with flat spectra."""
    start = keras.initializers.Constant(1.0 / WIDTHS.sum())
    layer = keras.layers.Dense(
        len(WIDTHS), use_bias=False, kernel_initializer=start, kernel_constraint=constraint, name="spectra"
    )
    return keras.Sequential([keras.Input((DYES,)), layer])


def rules(model: Any) -> list[affinet.Constraint]:
    """No density is negative, and each spectrum has area one."""
    kernel = affinet.keras.weights(model)["spectra/kernel"]
    return [
        (kernel >= 0).named("no light is negative"),
        ((kernel * WIDTHS).sum(dim=1) == 1).named("area one"),
    ]


class ClippedAndDivided(keras.constraints.Constraint):  # type: ignore[misc]
    """What is usually written: negative parts become zero, and each spectrum is divided by its area."""

    def __call__(self, w: Any) -> Any:
        w = keras.ops.maximum(w, 0.0)
        return w / keras.ops.sum(w * WIDTHS.astype("float32"), axis=1, keepdims=True)


class Nearest(keras.constraints.Constraint):  # type: ignore[misc]
    """The nearest spectra without negative parts, of area one: `max(w − ν d, 0)`, with ν by Newton's method."""

    def __call__(self, w: Any) -> Any:
        d = WIDTHS.astype("float32")
        shift = keras.ops.min(w / d, axis=1, keepdims=True) - 1.0 / (d @ d)  # where the area is one or more
        for _ in range(NEWTON):
            rest = w - shift * d
            area = keras.ops.sum(keras.ops.maximum(rest, 0.0) * d, axis=1, keepdims=True)
            slope = keras.ops.sum(keras.ops.where(rest > 0.0, d * d, 0.0), axis=1, keepdims=True)
            shift = shift + (area - 1.0) / slope
        return keras.ops.maximum(w - shift * d, 0.0)


def train(constraint: Any, *, ruled: bool) -> tuple[Array, list[Array]]:
    """The kernel at the end, and after each tenth step."""
    keras.utils.set_random_seed(0)
    model, path = network(constraint), []
    optimizer: Any = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, STEPS))
    if ruled:
        optimizer = affinet.keras.project(model, optimizer, rules(model))
    model.compile(optimizer, "mse")
    amounts, light = (keras.ops.convert_to_tensor(x, "float32") for x in measured())
    for step in range(STEPS):
        model.train_on_batch(amounts, light)
        if step % 10 == 9:
            path.append(np.array(model.get_weights()[0], np.float64))
    return path[-1], path


def loss_of(kernel: Array) -> float:
    """The mean square of what is missed."""
    amounts, light = measured()
    return float(np.mean((amounts @ kernel - light) ** 2))


def optimum() -> Array:
    """The quadratic program by SciPy's SLSQP in float64, its rules written a second time."""
    amounts, light = measured()
    shape = (DYES, len(WIDTHS))

    def value(x: Array) -> tuple[float, Array]:
        missed = amounts @ x.reshape(shape) - light
        return float(np.mean(missed**2)), 2.0 * (amounts.T @ missed).ravel() / missed.size

    area = np.kron(np.eye(DYES), WIDTHS)
    found = minimize(
        value,
        spectra().ravel(),
        jac=True,
        method="SLSQP",
        bounds=[(0.0, None)] * (DYES * len(WIDTHS)),
        constraints={"type": "eq", "fun": lambda x: area @ x - 1.0, "jac": lambda x: area},
        options={"ftol": 1e-15, "maxiter": 1000},
    )
    assert found.success, found.message
    return np.asarray(found.x).reshape(shape)


def draw(kernels: Mapping[str, Array], best: Array, losses: Mapping[str, list[float]], path: Path) -> None:
    """The spectra of each way to train, over the true ones, and how far losses are from the least one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    *left, right = figure.subplots(1, 3)
    edges, truth = 450.0 + 100.0 * np.concatenate([[0.0], np.cumsum(WIDTHS)]), spectra()
    for axes, name in zip(left, ("affinet", "nearest, after the step"), strict=True):
        for dye, colour in enumerate(("#0072B2", "#009E73", "#D55E00")):
            axes.stairs(truth[dye], edges, color=colour, alpha=0.25, fill=True)
            axes.stairs(best[dye], edges, color="black", linewidth=2.6)
            axes.stairs(kernels[name][dye], edges, color=colour, linewidth=1.2)
        axes.set(title=name, xlabel="wavelength (nm)", ylim=(-0.05, 2.6))
    left[0].set_ylabel("light per 100 nm")
    for (name, values), colour in zip(losses.items(), ("#0072B2", "#E69F00", "#CC79A7"), strict=True):
        right.semilogy(10 * np.arange(1, len(values) + 1), np.maximum(values, 1e-9), color=colour, label=name)
    right.set(title="loss beyond the optimum", xlabel="step")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=120)


WAYS: Mapping[str, tuple[Callable[[], Any], bool]] = {
    "affinet": (lambda: None, True),
    "nearest, after the step": (Nearest, False),
    "clipped and divided": (ClippedAndDivided, False),
}


def main() -> None:
    """Train in three ways and without rules, compare with SciPy, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    best, kernels, losses = optimum(), {}, {}
    least = loss_of(best)
    print("                        loss beyond the optimum   farthest from SciPy's   mean error   zeros")
    for name, (constraint, ruled) in WAYS.items():
        kernels[name], path = train(constraint(), ruled=ruled)
        losses[name] = [loss_of(kernel) - least for kernel in path]
        _print(name, kernels[name], best, losses[name][-1])
    amounts, light = measured()
    free = np.asarray(np.linalg.lstsq(amounts, light, rcond=None)[0], np.float64)
    _print("least squares, no rules", free, best, None)
    assert np.abs(kernels["affinet"] - best).max() < 1e-4
    assert losses["nearest, after the step"][-1] > 0.1 * least
    if arguments.figure:
        draw(kernels, best, losses, arguments.figure)


def _print(name: str, kernel: Array, best: Array, beyond: float | None) -> None:
    error, far = np.abs(kernel - spectra()) @ WIDTHS / 2.0, np.abs(kernel - best).max()
    text = "" if beyond is None else f"{max(beyond, 0.0):.0e}"
    print(f"{name:<24}{text:>23}{far:>24.0e}{error.mean():>13.2f}{(kernel == 0).sum():>8}")


if __name__ == "__main__":
    main()
