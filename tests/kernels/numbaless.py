"""Run as a script: numba cannot be imported; show a plan, and run the named part of the contract."""

from __future__ import annotations

import sys

import pytest


def main(arguments: list[str]) -> int:
    sys.modules["numba"] = sys.modules["llvmlite"] = None  # type: ignore[assignment]  # what import then finds missing
    import affinet
    from affinet.kernels.torch import looped

    w = affinet.weights({"a": (8, 8)})
    print(affinet.plan(w.a.sum(dim=1) == 1))  # noqa: T201
    assert not looped.available()
    return pytest.main(["-q", "-p", "no:cacheprovider", "-p", "no:randomly", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
