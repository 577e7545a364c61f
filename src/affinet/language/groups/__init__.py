"""Groups that have a name and their representations: how they act on vectors, tensors, and what is made of them."""

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
