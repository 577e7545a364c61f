"""The small weights that the cases speak of."""

from __future__ import annotations

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
