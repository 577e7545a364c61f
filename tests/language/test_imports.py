"""The language runs without torch, and without scipy until a sparse matrix is met."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import affinet.language.text, affinet.language.evaluation
from affinet.language import families
from affinet.language.weights import weights
w = weights({"a": (3, 3)})
families.symmetric(w.a), w.a @ [1, 2, 3] == 0
print(sorted({"torch", "scipy"} & set(sys.modules)))
"""


def test_the_language_imports_neither_torch_nor_scipy() -> None:
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert (ran.stdout.strip(), ran.stderr) == ("[]", "")
