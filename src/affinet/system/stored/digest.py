"""Identify rules by a digest of their content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np

from affinet.language.nodes import weights_of
from affinet.system.layout import Layout
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


def digests_by_rule(system: System) -> dict[str, str]:
    """Rule name → SHA-256 of the content of this rule alone, in the order of the rules."""
    return {rule.name: digest_of_rules(_system_of_rule(system, number)) for number, rule in enumerate(system.every)}


def _system_of_rule(system: System, number: int) -> System:
    """The system of one rule, without the weights that only others read."""
    return replace(system.only([number]), layout=Layout.of(weights_of([system.rule(number).expression.affine])))
