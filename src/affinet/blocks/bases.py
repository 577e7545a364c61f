"""The union of the block kinds that can be a base of a `Bordered` block."""

from __future__ import annotations

from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.joined import Joined
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices

AnyBase = Slices | Commuting | Mirror | Pairs | Dense | Joined
