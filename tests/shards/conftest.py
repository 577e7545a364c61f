"""Leaves out the tests of sharded weights where torch has no `fully_shard` in its public place, before 2.6."""

from __future__ import annotations

import torch.distributed.fsdp

collect_ignore_glob = [] if hasattr(torch.distributed.fsdp, "fully_shard") else ["test_*.py"]
