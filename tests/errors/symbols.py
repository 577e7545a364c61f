"""The small weights, and models as Keras has them, that several cases are about."""

from __future__ import annotations

from typing import Any

import affinet

w = affinet.weights(
    {
        "hidden.weight": (3, 4),
        "hidden.bias": (3,),
        "out.weight": (3, 3),
        "conv.weight": (2, 2, 3, 3),
        "scale": (),
        "empty": (0, 4),
    }
)
W, b, M, K, scale, empty = w


def of_keras(name: str, *bases: type) -> Any:
    """An object as Keras has it, by the module of its class: on its torch backend models are torch modules, too."""
    return type(name, bases, {"__module__": "keras.src"})()
