"""`affinet check`: the plan of a job's rules and what it means for the network, without training."""

from __future__ import annotations

from affinet.cli.jobfile import JobFile
from affinet.cli.keeping import free_numbers, numbers_of
from affinet.cli.preparing import make_network, prepare, seeded
from affinet.cli.screen import Screen
from affinet.cli.summary import shown_count


def check(job: JobFile, screen: Screen) -> None:
    """Show the plan, its rank, what is free and what is redundant.

    Raises what `prepare` raises: InfeasibleError where the rules contradict each other.
    """
    prepared = prepare(job)
    plan = prepared.plan
    with seeded(job.job.train.seed):
        network = make_network(job, prepared.data)
    rank, redundant = shown_count(plan.rank), shown_count(plan.redundant)
    numbers, free = numbers_of(network), shown_count(free_numbers(network, plan.rank))
    screen.say(f"{plan}\n")
    screen.say(f"No contradictions: {plan.rows:,} equations, rank {rank}, redundant {redundant}.")
    screen.say(f"Of the network's {numbers:,} numbers {free} are free.")
