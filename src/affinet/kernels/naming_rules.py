"""Name the rules of a block in errors about the memory that its projection would take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from affinet.blocks.kinds import AnyBlock
from affinet.errors import TooLargeError
from affinet.plans.plan import Plan


@contextmanager
def naming_rules(plan: Plan, block: AnyBlock) -> Iterator[None]:
    """Add the names of the rules of a block to a TooLargeError that is raised inside the `with` block."""
    try:
        yield
    except TooLargeError as error:
        raise error.of_rules([plan.system.rules[rule].name for rule in block.rules]) from None
