"""Name the arrays of a stored tree of JAX as `affinet.weights` names those of the tree: keys joined by dots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Leaf = TypeVar("Leaf")

COLLECTION = "params"
VALUES = ("value", "raw_value")


def named_by_tree(leaves: Mapping[tuple[str, ...], Leaf]) -> dict[str, Leaf]:
    """The leaves by name. Where the tree has `params`, as states of a training have, only what is in it.

    Flax NNX keeps an array in the attribute `value`, which has no part in its name.
    """
    if any(keys[0] == COLLECTION and len(keys) > 1 for keys in leaves if keys):
        leaves = {keys[1:]: leaf for keys, leaf in leaves.items() if keys and keys[0] == COLLECTION and len(keys) > 1}
    return {".".join(_without_value(keys)) or "weight": leaf for keys, leaf in leaves.items()}


def _without_value(keys: tuple[str, ...]) -> tuple[str, ...]:
    return keys[:-1] if len(keys) > 1 and keys[-1] in VALUES else keys
