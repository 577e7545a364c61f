"""The places that raise and need no case, by the beginning of their key, and why."""

from __future__ import annotations

NO_CASE = {
    "language/expression.py Expression.__getattr__: raise AttributeError(name)": "asked for by copy and pickle",
    "language/weights.py Weights.__getattr__: raise AttributeError(name)": "asked for by copy and pickle",
    "structure/summary.py _bytes: raise AssertionError": "a loop that always returns",
}
