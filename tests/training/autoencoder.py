"""A model under rules of every reach, reparametrized and trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn, optim
from torch.utils.checkpoint import checkpoint

import affinet
from affinet.training.reparametrization import Basis

each_basis = pytest.mark.parametrize("basis", ["orthonormal", "free", "projection"])
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))


class Autoencoder(nn.Module):
    """Three layers under rules of every reach, one bias in none, and its activations checkpointed where asked."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.hidden, self.decoder = nn.Linear(8, 4), nn.Linear(4, 4), nn.Linear(4, 8)
        self.reentrant: bool | None = None

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner(x) if self.reentrant is None else checkpoint(self.inner, x, use_reentrant=self.reentrant)
        return self.decoder(inner)

    def inner(self, x: Tensor) -> Tensor:
        return torch.tanh(self.hidden(torch.tanh(self.encoder(x)) + x @ self.encoder.weight.T))

    def rules(self) -> list[affinet.Constraint]:
        w = affinet.weights(self)
        return [
            w.hidden.weight[0, 1] == w.hidden.weight[2, 3],
            (w.hidden.weight.sum(dim=1) == 1).named("rows sum to one"),
            w.decoder.weight == w.encoder.weight.T,
            3 * w.encoder.bias[0] - w.decoder.bias[1] / 2 == 0.5,
        ]


def made(basis: Basis = "orthonormal", **options: Any) -> tuple[Autoencoder, affinet.Reparametrization]:
    torch.manual_seed(1)
    model = Autoencoder()
    return model, affinet.reparametrize(model, model.rules(), basis=basis, **options)


def train(model: nn.Module, x: Tensor = X, steps: int = 3, loss: Any = None) -> None:
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        out = model(x)
        (out if isinstance(out, Tensor) else out[0]).square().sum().backward()
        optimizer.step()
