"""Names for the arrays of a tree: nested dicts and lists, and the modules of Flax, Equinox and Haiku.

Names are the keys on the way to an array, joined by dots. The collection `params` of Flax has no part in them, nor has
the attribute `value` in which Flax NNX keeps an array, so that a model, its state and its parameters have the same
names.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from affinet.errors import RuleError
from affinet.language.computed import Refusal

COLLECTION = "params"
"""Under this key Flax keeps the parameters, beside other collections such as `batch_stats`."""


def is_tree(source: Any) -> bool:
    """Whether arrays are found deeper in `source` than as the values of one mapping: in a nest or a module of JAX."""
    if isinstance(source, Mapping):
        return any(_is_node(value) for value in source.values())
    return _is_node(source)


def arrays_of(tree: Any) -> dict[str, Any]:
    """Name → array, or the shape and dtype of one, of all leaves that have them, in the order of the tree.

    Errors: `RuleError` where two arrays have one name.
    """
    return {name: leaf for name, leaf in named_leaves(tree) if name is not None}


def named_leaves(tree: Any) -> list[tuple[str | None, Any]]:
    """All leaves in the order of the tree, with the names of those that are arrays and None for others.

    Errors: `RuleError` where two arrays have one name.
    """
    named = [(_name(keys) if _is_array(leaf) else None, leaf) for keys, leaf in _paths(tree)]
    most_common = Counter(name for name, _ in named if name is not None).most_common(1)
    if most_common and most_common[0][1] > 1:
        raise RuleError(
            f"two arrays of the tree have the name {most_common[0][0]!r}. Rename one of the keys that lead to them: "
            f"the keys on the way to an array, joined by dots, are its name."
        )
    return named


def refusal_of(name: str, leaf: Any) -> Refusal | None:
    """Why no rule can be about this array; None where rules can."""
    dtype = np.dtype(leaf.dtype) if not _is_key(leaf.dtype) else None
    if dtype is None:
        return Refusal(name, "it is a key of random numbers", "Rules hold for floating-point weights.")
    if dtype.kind == "c":
        return Refusal(name, "it is complex", "Keep real and imaginary parts as two real arrays.")
    if dtype.kind in "biu":
        return Refusal(name, f"its numbers are {dtype}", "Rules hold for floating-point weights.")
    return None


Key = tuple[str, bool]
"""A key as text, and whether it is an attribute."""


def _paths(tree: Any) -> Iterator[tuple[list[Key], Any]]:
    """The keys on the way to every leaf, and the leaf."""
    jax = sys.modules.get("jax")
    if jax is None:
        yield from _plain_paths(tree, [])
        return
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        yield [_key(key) for key in path], leaf


def _plain_paths(tree: Any, keys: list[Key]) -> Iterator[tuple[list[Key], Any]]:
    """As `_paths`, of nested dicts and lists, where JAX is not loaded; keys of dicts in its order."""
    if isinstance(tree, Mapping):
        for key in sorted(tree, key=str):
            yield from _plain_paths(tree[key], [*keys, (str(key), False)])
    elif isinstance(tree, Sequence) and not isinstance(tree, str | bytes):
        for number, value in enumerate(tree):
            yield from _plain_paths(value, [*keys, (str(number), False)])
    else:
        yield keys, tree


def _key(key: Any) -> Key:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute)), attribute == "name"
    return str(key), False


def _name(keys: list[Key]) -> str:
    texts = [text for text, _ in keys]
    if len(keys) > 1 and keys[-1] in (("value", True), ("raw_value", True)):
        texts = texts[:-1]
    if len(texts) > 1 and texts[0] == COLLECTION:
        texts = texts[1:]
    return ".".join(texts) or "weight"


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype") and not isinstance(leaf, type)


def _is_key(dtype: Any) -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and bool(jax.dtypes.issubdtype(dtype, jax.dtypes.extended))


def _is_node(value: Any) -> bool:
    """Whether arrays are inside of a value: of a dict, a list, or what is registered with JAX."""
    jax = sys.modules.get("jax")
    nested = isinstance(value, Mapping | list)
    if not nested and (jax is None or isinstance(value, int | str | tuple) or jax.tree_util.all_leaves([value])):
        return False
    return any(_is_array(leaf) for _, leaf in _paths(value))
