"""Rules with a name, each a function from weights to a `Constraint` or a few, and functions that make generators."""

from affinet.language.families.balls import l1_ball, l2_ball, psd, spectral_norm
from affinet.language.families.bounds import between, linf_ball, nonnegative
from affinet.language.families.convolution import convolution
from affinet.language.families.entries import fix, sum_to, tie, zero_mean
from affinet.language.families.equivariance import equivariant
from affinet.language.families.lengths import equal_energy, unit_norm
from affinet.language.families.linear import linear, subspace
from affinet.language.families.matrices import (
    circulant,
    doubly_centred,
    hankel,
    persymmetric,
    skew,
    symmetric,
    toeplitz,
)
from affinet.language.families.matrix_equations import (
    determinant,
    involution,
    orthogonal,
    product,
    projection_matrix,
    rotation,
    spd,
)
from affinet.language.families.permutations import powers
from affinet.language.families.polynomials import polynomial
from affinet.language.families.sequences import concave, convex, monotone
from affinet.language.families.sharing import share
from affinet.language.families.stencils import moments, rotations
from affinet.language.families.sums_of_nonnegative import simplex, sum_at_most, transport
from affinet.language.families.wavelets import wavelet
from affinet.language.families.zeros import banded, block_diagonal
from affinet.language.groups.elements import LieElement, SignedPermutation
from affinet.language.groups.tensors import direct_sum, dual, kronecker_power, kronecker_sum, real_blocks

__all__ = [
    "LieElement",
    "SignedPermutation",
    "banded",
    "between",
    "block_diagonal",
    "circulant",
    "concave",
    "convex",
    "convolution",
    "determinant",
    "direct_sum",
    "doubly_centred",
    "dual",
    "equal_energy",
    "equivariant",
    "fix",
    "hankel",
    "involution",
    "kronecker_power",
    "kronecker_sum",
    "l1_ball",
    "l2_ball",
    "linear",
    "linf_ball",
    "moments",
    "monotone",
    "nonnegative",
    "orthogonal",
    "persymmetric",
    "polynomial",
    "powers",
    "product",
    "projection_matrix",
    "psd",
    "real_blocks",
    "rotation",
    "rotations",
    "share",
    "simplex",
    "skew",
    "spd",
    "spectral_norm",
    "subspace",
    "sum_at_most",
    "sum_to",
    "symmetric",
    "tie",
    "toeplitz",
    "transport",
    "unit_norm",
    "wavelet",
    "zero_mean",
]
