"""Check that all processes which hold a model together attach the same rules to the same weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from affinet.errors import AttachError, UnsupportedWeightError
from affinet.language.dtensors import is_distributed, loaded_class
from affinet.system.stored.digest import digest_of_rules, digests_by_rule
from affinet.system.system import System
from affinet.training.process_meeting import check_within_reach, meet


def check_agreement(model: torch.nn.Module, system: System, weights: Mapping[str, Tensor]) -> None:
    """Raise AttachError, on all processes, where their rules, or the order or placement of weights, differ.

    Every process computes with all rules, and with as many exchanges as they take: with other rules than the others it
    would wait for ever, or compute other weights. So would copies of a model in DistributedDataParallel become others.
    Nothing is exchanged for other models of one process.
    """
    distributed: dict[str, Any] = {name: weight for name, weight in weights.items() if is_distributed(weight)}
    for group in _groups_of_copies(model):
        _check(group, system, {})
    if not distributed:
        return
    check_within_reach(distributed)
    placements = {
        name: f"{tuple(weight.shape)} {weight.dtype} {weight.placements}" for name, weight in distributed.items()
    }
    for mesh in {id(weight.device_mesh): weight.device_mesh for weight in distributed.values()}.values():
        for group in mesh.get_all_groups():
            _check(group, system, placements)


def check_not_distributed(
    weights: Mapping[str, Tensor],
    call: str,
    way_out: str = "Train with affinet.project, which keeps rules on such weights.",
) -> None:
    """Raise UnsupportedWeightError, for weights that several processes hold, which `call` cannot take."""
    for name, weight in weights.items():
        if is_distributed(weight):
            raise UnsupportedWeightError(
                name,
                f"it is held by several processes (a DTensor, {weight.placements}), and {call} takes weights of one",  # type: ignore[attr-defined]
                way_out,
            )


def _groups_of_copies(model: torch.nn.Module) -> list[Any]:
    """The process groups of DistributedDataParallel in the model."""
    wrapper = loaded_class("torch.nn.parallel", "DistributedDataParallel")
    copies: list[Any] = [part for part in model.modules() if isinstance(part, wrapper)]
    return list({id(part.process_group): part.process_group for part in copies}.values())


def _check(group: Any, system: System, placements: dict[str, str]) -> None:
    meet(group, "attached rules", "Attach the same rules in the same order on every process.")
    digest = digest_of_rules(system)
    description = (digest, placements)
    if all(other == description for other in _collected(group, description)):
        return
    rank, rules = torch.distributed.get_rank(), digests_by_rule(system)
    for peer, peer_digest, peer_placements, peer_rules in _collected(group, (rank, digest, placements, rules)):
        if peer_placements != placements:
            name = next(n for n in {**placements, **peer_placements} if peer_placements.get(n) != placements.get(n))
            raise AttachError(
                f"processes {rank} and {peer} hold {name} differently: {placements.get(name, 'not distributed')} and "
                f"{peer_placements.get(name, 'not distributed')}. Shard the model in the same way on every process."
            )
        if peer_digest != digest:
            raise AttachError(
                f"processes {rank} and {peer} have different rules: {_difference(rules, peer_rules)}. Attach the same "
                f"rules in the same order on every process, with numbers that do not depend on the process."
            )


def _difference(rules: Mapping[str, str], peer_rules: Mapping[str, str]) -> str:
    """What differs in the rules of two processes, given as digests by name in the order of the rules."""
    if [*rules] == [*peer_rules]:
        changed = [name for name in rules if rules[name] != peer_rules[name]]
        return f"their names are the same, and the numbers or weights in {changed[:4] or 'them'} are not"
    if sorted(rules) == sorted(peer_rules):
        return "the same ones in another order"
    only_first = [name for name in rules if name not in peer_rules]
    only_second = [name for name in peer_rules if name not in rules]
    return f"only in the first {only_first[:4]}, only in the second {only_second[:4]}"


def _collected(group: Any, value: Any) -> list[Any]:
    values: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(values, value, group=group)
    return values
