"""The unions of all block kinds."""

from __future__ import annotations

from affinet.blocks.ball import Ball
from affinet.blocks.bordered import Bordered
from affinet.blocks.chain import Chain
from affinet.blocks.commuting import Commuting
from affinet.blocks.cone import Cone
from affinet.blocks.curved import Curved
from affinet.blocks.dense import Dense
from affinet.blocks.fixed import Fixed
from affinet.blocks.joined import Joined
from affinet.blocks.mirror import Mirror
from affinet.blocks.pairs import Pairs
from affinet.blocks.polyhedron import Polyhedron
from affinet.blocks.slices import Slices
from affinet.blocks.sparse import Sparse
from affinet.blocks.ties import Ties

AnyLinear = Slices | Commuting | Mirror | Pairs | Fixed | Ties | Dense | Sparse | Bordered | Joined
"""Blocks of equations alone."""
AnySet = Cone | Chain | Ball | Polyhedron | Curved
"""Blocks whose projections depend on the weights: those with inequalities, and nonlinear equations."""
AnyBlock = AnyLinear | AnySet
