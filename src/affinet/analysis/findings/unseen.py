"""What is not looked for among large rules: their equations are not written out, and their blocks do not tell it."""

from __future__ import annotations

from collections.abc import Iterator

from affinet.analysis.findings.looking import Group, Look
from affinet.analysis.findings.overlooked import Overlooked
from affinet.analysis.lookup.tracing import MOST_ENTRIES
from affinet.blocks.bordered import Bordered
from affinet.blocks.dense import Dense
from affinet.blocks.joined import Joined
from affinet.blocks.kinds import Block
from affinet.blocks.product import Product
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties


def unseen(look: Look) -> Iterator[Overlooked]:
    """By group of rules too large to be written out."""
    for group in look.groups:
        if group.rows is not None:
            continue
        what = []
        if any(_may_be_near(block) for block in group.blocks):
            what.append("near-redundancy")
        if not _only_ties(look, group) and any(_has_classes(block) for block in group.blocks):
            what.append("entries made equal")
        if what:
            equations = sum(look.system.rules[rule].equations for rule in group.rules)
            yield Overlooked(look.names(group.rules), equations, " and ".join(what))


def _may_be_near(block: Block) -> bool:
    """Whether a block has components of several equations whose condition number nothing tells."""
    match block:
        case Dense():
            return int(block.basis.shape[1]) > 1
        case Sparse():
            return True
        case Slices():
            return len(block.basis) > 1 and block.inner.size > MOST_ENTRIES
        case Product():
            return any(len(part.basis) > 1 for part in block.slices)
        case Joined():
            return _may_be_near(block.base)
        case Bordered():
            return any(_may_be_near(base) for base in block.bases)
        case _:
            return False


def _has_classes(block: Block) -> bool:
    return isinstance(block, Ties | Dense | Sparse) and not block.classes.plain


def _only_ties(look: Look, group: Group) -> bool:
    rules = (look.system.rules[rule] for rule in group.rules)
    return all(rule.pairs <= 2 * rule.equations for rule in rules)
