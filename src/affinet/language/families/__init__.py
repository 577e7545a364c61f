"""Rules that have a name: each is a function from weights to one `Constraint` (`powers`: to a permutation)."""

from affinet.language.families.entries import fix, share, sum_to, tie, zero_mean
from affinet.language.families.linear import linear, subspace
from affinet.language.families.matrices import circulant, skew, symmetric, toeplitz
from affinet.language.families.permutations import powers

__all__ = [
    "circulant",
    "fix",
    "linear",
    "powers",
    "share",
    "skew",
    "subspace",
    "sum_to",
    "symmetric",
    "tie",
    "toeplitz",
    "zero_mean",
]
