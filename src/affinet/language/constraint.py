"""Where the rest of affinet finds `Constraint`, which is defined beside `Expression`, whose `==` makes it."""

from affinet.language.expression import Constraint

__all__ = ["Constraint"]
