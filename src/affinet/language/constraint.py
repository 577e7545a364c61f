"""The module from which other folders import `Constraint`, which is defined next to `Expression`."""

from affinet.language.expression import Constraint

__all__ = ["Constraint"]
