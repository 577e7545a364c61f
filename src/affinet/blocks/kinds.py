"""The union of all block kinds."""

from __future__ import annotations

from affinet.blocks.bordered import Bordered
from affinet.blocks.commuting import Commuting
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.joined import Joined
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties

AnyBlock = Slices | Commuting | Mirror | Pairs | Fixed | Ties | Dense | Sparse | Bordered | Joined
