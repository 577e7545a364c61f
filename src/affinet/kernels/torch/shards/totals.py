"""Runs verbs of laws on the parts of several processes together: one all-reduce and one all-to-all a round for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from affinet.blocks.law import Rounds

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Groups = tuple["ProcessGroup", ...]
"""Process groups over which numbers are added up, one after the other; none where each process has the total."""


@dataclass(frozen=True, eq=False)
class Exchange:
    """Which of the numbers that a block yields are added up: over `groups`, those at `places` of each row of `width`.

    Without places all of them. Other numbers are of one process alone.
    """

    groups: Groups = ()
    places: Tensor | None = None
    width: int = 0

    def sent(self, numbers: Tensor) -> Tensor:
        """The numbers that other processes need, flat."""
        if not self.groups:
            return numbers.new_zeros(0)
        if self.places is None:
            return numbers.reshape(-1)
        return numbers.reshape(-1, self.width)[:, self.places].reshape(-1)

    def received(self, numbers: Tensor, totals: Tensor) -> Tensor:
        """The numbers of this process, with totals where numbers were sent."""
        if not self.groups:
            return numbers
        if self.places is None:
            return totals.view(numbers.shape)
        added = numbers.reshape(-1, self.width).clone()
        added[:, self.places] = totals.view(-1, len(self.places))
        return added.view(numbers.shape)


@dataclass(frozen=True, eq=False)
class PeerExchange:
    """How many of the numbers that a block yields go to each process of `group`, and how many come from each."""

    group: ProcessGroup
    sent: tuple[int, ...]
    received: tuple[int, ...]


def run_together(running: Sequence[tuple[Rounds[None], Exchange | PeerExchange]]) -> None:
    """Run verbs in lockstep, on all processes in the same order."""
    answers: dict[int, Any] = dict.fromkeys(range(len(running)))
    while answers:
        sums: dict[int, tuple[Tensor, Exchange]] = {}
        swaps: dict[int, tuple[Tensor, PeerExchange]] = {}
        for number, answer in answers.items():
            rounds, exchange = running[number]
            try:
                numbers = rounds.send(answer).numbers
            except StopIteration:
                continue
            if isinstance(exchange, PeerExchange):
                swaps[number] = numbers, exchange
            else:
                sums[number] = numbers, exchange
        answers = _added_up(sums) | _swapped(swaps)


def _swapped(requests: dict[int, tuple[Tensor, PeerExchange]]) -> dict[int, Tensor]:
    """What other processes gave for each request, with one message for all numbers of the same group and dtype."""
    messages: dict[tuple[ProcessGroup, torch.dtype], list[int]] = {}
    for number, (numbers, exchange) in requests.items():
        messages.setdefault((exchange.group, numbers.dtype), []).append(number)
    answers: dict[int, Tensor] = {}
    for (group, _), members in messages.items():
        if len(members) == 1:
            numbers, exchange = requests[members[0]]
            answers[members[0]] = _all_to_all(numbers, exchange.received, exchange.sent, group)
            continue
        pieces = [requests[number][0].split(requests[number][1].sent) for number in members]
        sizes = [requests[number][1].received for number in members]
        outgoing = torch.cat([piece for to_process in zip(*pieces, strict=True) for piece in to_process])
        sent, received = (
            [sum(each) for each in zip(*counts, strict=True)]
            for counts in ([requests[number][1].sent for number in members], sizes)
        )
        incoming = _all_to_all(outgoing, received, sent, group)
        by_process = [
            part.split([size[process] for size in sizes]) for process, part in enumerate(incoming.split(received))
        ]
        answers.update(
            (number, torch.cat(parts)) for number, parts in zip(members, zip(*by_process, strict=True), strict=True)
        )
    return answers


def _all_to_all(numbers: Tensor, received: Sequence[int], sent: Sequence[int], group: ProcessGroup) -> Tensor:
    """What the processes of a group give to this one, in their order; of its numbers each gets the next `sent`."""
    incoming = numbers.new_empty(sum(received))
    torch.distributed.all_to_all_single(incoming, numbers, list(received), list(sent), group=group)
    return incoming


def _added_up(requests: dict[int, tuple[Tensor, Exchange]]) -> dict[int, Tensor]:
    """The totals of what was requested, with one message for all numbers of the same groups and dtype."""
    messages: dict[tuple[Groups, torch.dtype], list[tuple[int, Tensor]]] = {}
    for number, (numbers, exchange) in requests.items():
        if exchange.groups:
            messages.setdefault((exchange.groups, numbers.dtype), []).append((number, exchange.sent(numbers)))
    totals: dict[int, Tensor] = {}
    for (groups, _), parts in messages.items():
        flat = torch.cat([part for _, part in parts])
        for group in groups:
            torch.distributed.all_reduce(flat, group=group)
        pieces = flat.split([len(part) for _, part in parts])
        totals.update((number, piece) for (number, _), piece in zip(parts, pieces, strict=True))
    return {
        number: exchange.received(numbers, totals[number]) if number in totals else numbers
        for number, (numbers, exchange) in requests.items()
    }
