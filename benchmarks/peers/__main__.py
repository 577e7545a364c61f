"""`python -m benchmarks.peers PEER TITLE`: one peer's rows, each a line of JSON as soon as it is there."""

from __future__ import annotations

import sys
import warnings
from dataclasses import asdict
from importlib import import_module

import torch

from benchmarks.apart import tell
from benchmarks.peers import PEERS

if __name__ == "__main__":
    _, peer, title = sys.argv
    if peer not in PEERS:
        raise SystemExit(f"no such peer: {peer}; there are {', '.join(PEERS)}")
    warnings.simplefilter("ignore")  # theirs, about their own future
    torch.set_num_threads(2)
    for row in import_module(f"benchmarks.peers.{peer}").measured(title):
        tell(asdict(row))
