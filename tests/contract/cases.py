"""The table of cases that every law is held against."""

from __future__ import annotations

from tests.contract.algebra_cases import ALGEBRA
from tests.contract.bordered_cases import BORDERED, OVERLAPPING
from tests.contract.case import Case
from tests.contract.family_cases import FAMILIES
from tests.contract.joined_cases import JOINED
from tests.contract.masked_cases import MASKED
from tests.contract.summed_cases import CONVOLUTIONS, SUMS
from tests.contract.tied_cases import MATRICES, TIES

CASES: tuple[Case, ...] = (
    *TIES,
    *MATRICES,
    *SUMS,
    *CONVOLUTIONS,
    *ALGEBRA,
    *BORDERED,
    *OVERLAPPING,
    *FAMILIES,
    *MASKED,
    *JOINED,
)
