"""Named groups and their representations, which say how a group acts on vectors, tensors and sums of such spaces."""

from affinet.language.groups.named import GL, SL, SO, SU, C, D, Lorentz, O, ProperLorentz, S, Sp, U, Z
from affinet.language.groups.representation import Group, Representation

__all__ = [
    "GL",
    "SL",
    "SO",
    "SU",
    "C",
    "D",
    "Group",
    "Lorentz",
    "O",
    "ProperLorentz",
    "Representation",
    "S",
    "Sp",
    "U",
    "Z",
]
