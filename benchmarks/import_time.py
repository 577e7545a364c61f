"""How long `import affinet` takes: alone, and beyond `import torch` with every public name resolved (medians)."""

from __future__ import annotations

import statistics
import subprocess
import sys

RUNS = 9
LIMIT_SECONDS = 0.2
ALONE = "import affinet"
AFTER_TORCH = "import affinet; [getattr(affinet, name) for name in affinet.__all__]"


def seconds(statement: str, *, before: str = "") -> float:
    """Median wall time of `statement` in new interpreters, after `before` has run untimed."""
    code = (
        f"{before}\nfrom time import perf_counter\nbegan = perf_counter()\n{statement}\nprint(perf_counter() - began)"
    )
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(RUNS)
    )


def main() -> int:
    """Print both figures; exit status 1 where the second is over its limit."""
    torch, alone = seconds("import torch"), seconds(ALONE)
    light, everything = seconds(ALONE, before="import torch"), seconds(AFTER_TORCH, before="import torch")
    print(f"import torch                                   {torch:7.3f} s")
    print(f"import affinet                                 {alone:7.3f} s")
    print(f"import affinet after torch                     {light:7.3f} s   (limit {LIMIT_SECONDS} s)")
    print(f"import affinet after torch, every public name  {everything:7.3f} s   (with scipy)")
    return int(light > LIMIT_SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
