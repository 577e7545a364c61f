"""Run as a script: a training under rules, its data from workers of a data loader, forked or spawned in each epoch."""

from __future__ import annotations

import sys

import torch
from torch.utils.data import DataLoader, TensorDataset

import affinet


def trained(method: str | None) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The weights after two epochs and how far the rules are off; without a method no worker is started."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(300, 260), torch.nn.Tanh(), torch.nn.Linear(260, 300))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    w = affinet.weights(model)
    handle = affinet.project(model, optimizer, [w[0].weight == w[2].weight.T, w[0].bias.sum() == 1])
    data = TensorDataset(torch.randn(64, 300))
    count = 1 if method == "spawn" else 2  # a spawned worker imports torch anew
    workers = {"num_workers": count, "multiprocessing_context": method, "timeout": 60} if method else {}
    for _ in range(2):
        for (batch,) in DataLoader(data, batch_size=16, **workers):
            optimizer.zero_grad()
            (model(batch) - batch).square().mean().backward()
            optimizer.step()
    return {name: p.detach() for name, p in model.named_parameters()}, handle.violation()


def main(method: str) -> None:
    torch.set_num_threads(2)
    (plain, _), (found, violation) = trained(None), trained(method)
    same = all(torch.equal(found[name], plain[name]) for name in plain)
    print(same, max(violation.values()) < 1e-6)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
