"""Identify rules by a digest of their content."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from affinet.system.stored.description import described
from affinet.system.system import System


def digest_of_rules(system: System) -> str:
    """SHA-256 of the content of rules, the same for a system and for its stored form."""
    description, rows = described(system)
    digest = hashlib.sha256(json.dumps(description).encode())
    for row in rows:
        digest.update(f"\n{row.dtype.name} {row.size}\n".encode())
        digest.update(np.ascontiguousarray(row).data.cast("B"))
    return digest.hexdigest()
