"""A Markov chain in equilibrium, in Flax: transition probabilities that obey detailed balance.

A molecule hops between six shapes; each shape has a known share of time. From few observed hops a layer of Flax learns
the chances of the next shape, under three kinds of rules: none is negative, each row sums to one, and every flow equals
the flow back. An independent solver of quadratic programs has the optimum; projecting after Adam's step misses it.

    python examples/gallery/reversible_chain.py --figure docs/gallery/reversible_chain.png
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import quadprog
from numpy.typing import NDArray

import affinet
import affinet.optax

STATES, HOPS, STEPS, RATE = 6, 150, 2000, 0.02
Array = NDArray[np.float64]


def chain() -> tuple[Array, Array]:
    """Shares of time of the six shapes, and the chances of each next shape (rows: now): only neighbours are reached."""
    energies = np.array([0.0, 1.2, 0.3, 1.5, 0.6, 1.0])
    weights = np.exp(-energies)
    chances = np.zeros((STATES, STATES))
    for now in range(STATES):
        for later in (now - 1, now + 1):
            if 0 <= later < STATES:
                chances[now, later] = 0.4 * min(1.0, weights[later] / weights[now])
    return weights / weights.sum(), chances + np.diag(1.0 - chances.sum(axis=1))


def observed() -> Array:
    """How often each hop was seen."""
    draw, (_, chances) = np.random.default_rng(1), chain()
    counts, now = np.zeros((STATES, STATES)), 0
    for _ in range(HOPS):
        later = draw.choice(STATES, p=chances[now])
        counts[now, later] += 1.0
        now = later
    return counts


def rules(variables: Any) -> list[affinet.Constraint]:
    """Probabilities, and detailed balance: the flow from i to j is that from j to i. Kernels of Flax are (in, out)."""
    share, _ = chain()
    kernel = affinet.weights(variables).kernel
    return [
        (kernel >= 0).named("no chance is negative"),
        (kernel.sum(dim=1) == 1).named("one of the shapes comes next"),
        affinet.families.symmetric(share[:, None] * kernel).named("detailed balance"),
    ]


def loss_of(counts: Array) -> Callable[[Any], Any]:
    """The mean Brier score of the predicted next shape, over all hops that were seen."""
    model, now = layer(), jnp.eye(STATES)
    n = jnp.asarray(counts)

    def loss(variables: Any) -> Any:
        chances = model.apply(variables, now)
        squares = jnp.sum(chances**2, axis=1, keepdims=True) - 2.0 * chances + 1.0
        return jnp.sum(n * squares) / jnp.sum(n)

    return loss


def layer() -> nn.Dense:
    """One hot shape in, chances of the next one out."""
    return nn.Dense(STATES, use_bias=False, param_dtype=jnp.float64, kernel_init=nn.initializers.constant(1.0 / STATES))


def train(counts: Array, *, method: str) -> tuple[Array, list[float]]:
    """The kernel, and the loss before each step: with affinet, or projected after each step of Adam."""
    loss = loss_of(counts)
    variables = layer().init(jax.random.key(0), jnp.eye(STATES))
    plan = affinet.plan(rules(variables))
    onto = plan.projector(variables)
    adam = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))
    optimizer = affinet.optax.project(plan, adam) if method == "affinet" else adam

    def step(carry: Any, _: Any) -> Any:
        variables, state = carry
        value, gradients = jax.value_and_grad(loss)(variables)
        updates, state = optimizer.update(gradients, state, variables)
        variables = optax.apply_updates(variables, updates)
        if method != "affinet":
            variables = onto.project(variables)
        return (variables, state), value

    variables = onto.project(variables)
    (variables, _), losses = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=STEPS))(
        (variables, optimizer.init(variables))
    )
    return np.asarray(variables["params"]["kernel"]), np.asarray(losses).tolist()


def optimum(counts: Array) -> Array:
    """The quadratic program by quadprog, its rules written a second time."""
    share, _ = chain()
    visits = counts.sum(axis=1)
    assert visits.min() > 0, "a shape was not seen"
    size = STATES * STATES
    equations, rights = [], []
    for i in range(STATES):
        row = np.zeros((STATES, STATES))
        row[i] = 1.0
        equations.append(row.ravel())
        rights.append(1.0)
        for j in range(i):
            balance = np.zeros((STATES, STATES))
            balance[i, j], balance[j, i] = share[i], -share[j]
            equations.append(balance.ravel())
            rights.append(0.0)
    hessian = np.diag(2.0 * np.repeat(visits, STATES)) / counts.sum()
    normals = np.vstack([*equations, np.eye(size)])
    bounds = np.concatenate([rights, np.zeros(size)])
    solution = quadprog.solve_qp(hessian, 2.0 * counts.ravel() / counts.sum(), normals.T, bounds, len(equations))
    return np.asarray(solution[0]).reshape(STATES, STATES)


def draw(chances: Array, losses: dict[str, list[float]], least: float, path: Path) -> None:
    """The learnt chances, and how far losses are from the least one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.imshow(chances, cmap="Blues", vmin=0, vmax=1)
    for (i, j), chance in np.ndenumerate(chances):
        text = "0" if chance == 0 else f"{chance:.2f}"
        left.text(j, i, text, ha="center", va="center", color="white" if chance > 0.6 else "black", fontsize=8)
    left.set(title="chances under the rules", xlabel="next shape", ylabel="shape now")
    for (name, values), colour in zip(losses.items(), ("#0072B2", "#E69F00"), strict=True):
        right.semilogy(np.maximum(np.array(values) - least, 1e-16), color=colour, label=name)
    right.set(title="loss beyond the optimum", xlabel="step", ylim=(1e-15, 1))
    right.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Train both ways, compare with quadprog, and print the figures; draw them if asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--figure", type=Path, metavar="PNG", help="also draw the picture (needs matplotlib)")
    arguments = parser.parse_args()

    jax.config.update("jax_enable_x64", True)
    counts, (share, truth) = observed(), chain()
    best = optimum(counts)
    least = float(loss_of(counts)({"params": {"kernel": jnp.asarray(best)}}))
    chances, losses = {}, {}
    print("                          loss beyond the optimum   from quadprog's chances   mean error")
    for name in ("affinet", "projected after the step"):
        chances[name], losses[name] = train(counts, method=name)
        beyond, far = max(losses[name][-1] - least, 0.0), np.abs(chances[name] - best).max()
        print(f"{name:<24}{beyond:>25.0e}{far:>26.0e}{np.abs(chances[name] - truth).mean():>13.3f}")
    frequencies = counts / counts.sum(axis=1, keepdims=True)
    print(f"{'frequencies alone':<75}{np.abs(frequencies - truth).mean():>13.3f}")
    learnt = chances["affinet"]
    flow = share[:, None] * learnt
    print(f"{(learnt == 0).sum()} chances are 0, and no flow is out of balance by more than rounding")
    assert np.abs(flow - flow.T).max() < 1e-15
    assert np.abs(learnt - best).max() < 1e-9
    assert losses["projected after the step"][-1] - least > 1e-3
    if arguments.figure:
        draw(learnt, losses, least, arguments.figure)


if __name__ == "__main__":
    main()
