"""How long `import affinet` takes: alone, and beyond `import torch`, and with every public name resolved."""

from __future__ import annotations

import statistics
import subprocess
import sys

ALONE = "import affinet"
EVERYTHING = "import affinet; [getattr(affinet, name) for name in affinet.__all__]"


def measured(runs: int = 9) -> dict[str, float]:
    """Statement → seconds, medians over new interpreters."""
    return {
        "import torch": seconds("import torch", runs=runs),
        ALONE: seconds(ALONE, runs=runs),
        f"{ALONE}, after torch": seconds(ALONE, before="import torch", runs=runs),
        f"{ALONE} and resolve every public name, after torch": seconds(EVERYTHING, before="import torch", runs=runs),
    }


def seconds(statement: str, *, before: str = "", runs: int) -> float:
    """Median wall time of `statement` in new interpreters, after `before` has run untimed."""
    code = (
        f"{before}\nfrom time import perf_counter\nbegan = perf_counter()\n{statement}\nprint(perf_counter() - began)"
    )
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(runs)
    )
