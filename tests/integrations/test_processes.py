"""Two processes with gloo: DistributedDataParallel and ZeroRedundancyOptimizer, bit-equal ranks, the loop of one."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import optim
from torch.distributed.optim import ZeroRedundancyOptimizer

import affinet
from tests.integrations.problem import (
    BATCH,
    KINDS,
    ROUNDING,
    Net,
    batches,
    loss_of,
    numbers,
    plain,
    rules_of,
    violation,
)

WORLD = 2


def adam(parameters: Any) -> optim.Optimizer:
    return optim.Adam(parameters, lr=0.02, weight_decay=0.1)


WAYS = ("ddp", "ddp, bucket views", "zero", "zero, bucket views", "zero, its inner optimizer")


def trained(rank: int, how: str, kind: str) -> torch.Tensor | str:
    """Each process sees its half of every batch; the mean of their gradients is that of the whole."""
    net = torch.nn.parallel.DistributedDataParallel(Net(), gradient_as_bucket_view="bucket views" in how)
    optimizer: Any = adam(net.parameters())
    if "zero" in how:
        optimizer = ZeroRedundancyOptimizer(net.parameters(), optim.Adam, lr=0.02, weight_decay=0.1)
    try:
        affinet.project(net, optimizer.optim if "inner" in how else optimizer, rules_of(affinet.weights(net), kind))
    except affinet.AttachError as error:
        return str(error)
    for x in batches():
        optimizer.zero_grad()
        loss_of(net, x.split(BATCH // WORLD)[rank]).backward()
        optimizer.step()
        assert violation(net.module, kind) < ROUNDING
    return numbers(net)


def on_rank(rank: int, folder: str) -> None:
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    try:
        torch.save(
            {f"{how}, {kind}": trained(rank, how, kind) for how in WAYS for kind in KINDS}, f"{folder}/{rank}.pt"
        )
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank ended with, by way of training: two processes for all of them."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(on_rank, args=(str(folder),), nprocs=WORLD)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORLD)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", WAYS[:-1])
def test_ranks_are_equal_to_the_bit_and_follow_the_loop_of_one_process(
    how: str, kind: str, ends: list[dict[str, Any]]
) -> None:
    first, second = (end[f"{how}, {kind}"] for end in ends)
    assert torch.equal(first, second)
    # The mean over a batch is taken in two parts: a rounding of the gradient, amplified by Adam's first steps.
    assert torch.allclose(first, numbers(plain(adam, kind=kind)), rtol=0, atol=1e-4)


def test_the_inner_optimizer_of_zero_is_refused_naming_the_outer(ends: list[dict[str, Any]]) -> None:
    for said in (end["zero, its inner optimizer, equations"] for end in ends):
        assert "attach to the outer one" in said
