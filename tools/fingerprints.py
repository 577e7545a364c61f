"""Write or compare fingerprints of plans and projections: a change of structure alone changes none of them.

`python -m tools.fingerprints kept.json` writes them for every case of the contract table, read equation by equation and
from terms; `python -m tools.fingerprints kept.json --compare` prints the cases whose fingerprint differs and exits 1.
They hold on one machine with one set of packages: another processor rounds otherwise.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from affinet.kernels.torch import looped
from tests.contract.building import PATHS, plan_of, tensors_of
from tests.contract.cases import CASES

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


def main(
    kept: Path, compare: Annotated[bool, typer.Option("--compare", help="Compare with the file.")] = False
) -> None:
    """Write the fingerprints of plans and projections to a file, or compare them with those in it."""
    torch.set_num_threads(1)
    found = dict(fingerprints())
    if not compare:
        kept.write_text(json.dumps(found, indent=0, sort_keys=True), encoding="utf-8")
        print(f"{len(found):,} fingerprints written to {kept}")
        return
    before = json.loads(kept.read_text(encoding="utf-8"))
    differing = sorted(name for name in before.keys() | found.keys() if before.get(name) != found.get(name))
    for name in differing:
        print(name, "is new" if name not in before else "is missing" if name not in found else "differs")
    print(f"{len(differing):,} of {len(found):,} fingerprints differ")
    sys.exit(1 if differing else 0)


def fingerprints() -> Iterator[tuple[str, str]]:
    """Name and hash of each plan, and of what its projector makes of seeded weights and gradients."""
    for case in CASES:
        for path in PATHS:
            plan = plan_of(case.name, path)
            yield f"plan | {case.name} | {path}", _hash(plan.blocks)
            for loops in ("loops", "torch"):
                for dtype in DTYPES:
                    name = f"projection | {case.name} | {path} | {loops} | {dtype}"
                    yield name, _projected(case, plan, dtype, loops == "loops")


def _projected(case: Any, plan: Any, dtype: torch.dtype, loops: bool) -> str:
    available = looped.available
    looped.available = available if loops else lambda: False  # type: ignore[assignment]
    try:
        weights, gradients = tensors_of(case, "weights", dtype), tensors_of(case, "gradients", dtype)
        projector = plan.projector(weights)
        tangent = projector.tangent(gradients)
        projector.project_(weights, passes=2)
        projector.project_gradients_(gradients, weights, {})
    finally:
        looped.available = available
    return _hash([tangent, weights, gradients])


def _hash(value: object) -> str:
    state = sha256()
    for part in _parts(value):
        state.update(part)
    return state.hexdigest()[:16]


def _parts(value: object) -> Iterator[bytes]:
    """The content of a value, without the names of modules."""
    if isinstance(value, torch.Tensor):
        yield from _parts(value.detach().to(torch.float64).numpy())
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif hasattr(value, "indptr"):
        yield from _parts([value.indptr, value.indices, value.data, value.shape])  # type: ignore[attr-defined]
    elif is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__.encode()
        for field in fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, dict):
        yield from _parts(sorted(value.items(), key=lambda item: str(item[0])))
    elif isinstance(value, (list, tuple)):
        yield f"[{len(value)}".encode()
        for item in value:
            yield from _parts(item)
    else:
        yield repr(value).encode()


if __name__ == "__main__":
    typer.run(main)
