"""The losses that a small classifier reaches with orthonormal or normalised rows, beside other libraries.

`python -m benchmarks.peers.final_losses` prints them. Each way starts at the same orthogonal matrix and trains the
digits of scikit-learn with the same number of steps, batches and seeds, at each of a few learning rates that fall along
half a cosine, and its best rate counts. Steps are equal, not times: those are in `benchmarks/peers/manifolds.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean

import geoopt
import geotorch
import torch
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from torch import Tensor, nn

import affinet
from affinet import families

STEPS, BATCH, SEEDS, RATES = 300, 128, range(5), (1e-2, 3e-2)
HIDDEN = 48
SMOOTHING = 0.1
"""Of labels, so that the loss has a minimum: without it losses fall towards zero, and one compares how fast."""
Made = tuple[nn.Sequential, torch.optim.Optimizer]
Make = Callable[[float], Made]


def network() -> nn.Sequential:
    """The square layer that the rules are about is the second one."""
    square = nn.Linear(HIDDEN, HIDDEN)
    nn.init.orthogonal_(square.weight)
    return nn.Sequential(nn.Linear(64, HIDDEN), nn.Tanh(), square, nn.Tanh(), nn.Linear(HIDDEN, 10))


def with_affinet(rule: Callable[[affinet.Expression], affinet.Constraint]) -> Make:
    """A rule about the second layer, and Adam."""

    def make(rate: float) -> Made:
        model = network()
        stepper = torch.optim.Adam(model.parameters(), lr=rate)
        affinet.project(model, stepper, rule(affinet.weights(model)[2].weight))
        return model, stepper

    return make


def with_parametrization(register: Callable[[nn.Module], object]) -> Make:
    """Another library's parametrization of the second layer, and Adam."""

    def make(rate: float) -> Made:
        model = network()
        register(model[2])
        return model, torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)

    return make


def with_geoopt(rate: float) -> Made:
    """Riemannian Adam on geoopt's Euclidean Stiefel manifold."""
    model = network()
    start = model[2].get_parameter("weight").detach()
    model[2].weight = geoopt.ManifoldParameter(start, manifold=geoopt.EuclideanStiefel())
    return model, geoopt.optim.RiemannianAdam(model.parameters(), lr=rate)


def geotorch_orthogonal(layer: nn.Module) -> None:
    """Its own start is another one."""
    start = layer.get_parameter("weight").detach().clone()
    geotorch.orthogonal(layer, "weight")
    layer.weight = start


def weight_norm(layer: nn.Module) -> None:
    """Weight normalisation by torch with lengths of one, which are not trained."""
    nn.utils.parametrizations.weight_norm(layer, "weight", dim=0)
    layer.get_parameter("parametrizations.weight.original0").requires_grad_(False).fill_(1.0)


def normalised_by_hand(rate: float) -> Made:
    """Adam, followed by a division by the lengths."""
    model = network()
    weight = model[2].get_parameter("weight")

    def divide(*_: object) -> None:
        with torch.no_grad():
            weight.div_(weight.norm(dim=1, keepdim=True))

    divide()
    stepper = torch.optim.Adam(model.parameters(), lr=rate)
    stepper.register_step_post_hook(divide)
    return model, stepper


WAYS: dict[str, dict[str, Make]] = {
    "orthonormal rows": {
        "affinet": with_affinet(lambda w: families.orthogonal(w, of="rows")),
        "geotorch": with_parametrization(geotorch_orthogonal),
        "geoopt": with_geoopt,
        "torch's orthogonal": with_parametrization(lambda layer: nn.utils.parametrizations.orthogonal(layer, "weight")),
    },
    "rows of length one": {
        "affinet": with_affinet(lambda w: families.unit_norm(w, dim=1)),
        "torch's weight_norm": with_parametrization(weight_norm),
        "by hand": normalised_by_hand,
    },
}


def final_loss(make: Make, rate: float, seed: int, x: Tensor, y: Tensor) -> float:
    """The loss over all digits after training."""
    torch.manual_seed(seed)
    model, stepper = make(rate)
    batches = torch.Generator().manual_seed(seed)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(stepper, STEPS)
    for _ in range(STEPS):
        some = torch.randint(len(x), (BATCH,), generator=batches)
        stepper.zero_grad()
        nn.functional.cross_entropy(model(x[some]), y[some], label_smoothing=SMOOTHING).backward()
        stepper.step()
        schedule.step()
    with torch.no_grad():
        return float(nn.functional.cross_entropy(model(x), y, label_smoothing=SMOOTHING))


def main() -> None:
    """Print the mean of the final losses over the seeds, at the best rate of each way."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target)
    table = Table("rule", "way", "loss", "rate", "beside affinet")
    for rule, ways in WAYS.items():
        ours = 0.0
        for way, make in ways.items():
            losses = {rate: mean(final_loss(make, rate, seed, x, y) for seed in SEEDS) for rate in RATES}
            rate = min(losses, key=losses.__getitem__)
            ours = losses[rate] if way == "affinet" else ours
            table.add_row(rule, way, f"{losses[rate]:.5f}", f"{rate:g}", f"{losses[rate] / ours:.3f} ×")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
