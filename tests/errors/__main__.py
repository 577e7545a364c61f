"""Print every message that affinet can raise or warn with, its cause and its way out: `python -m tests.errors`.

To read aloud before a release. With words as arguments, only messages and classes that contain one of them are printed.
"""

from __future__ import annotations

import sys

from tests.errors.catalogue import ROOMS, title
from tests.errors.case import cases_of
from tests.errors.running import outcome

for room in ROOMS:
    print(f"\n{title(room)}")
    for module in room:
        for case in cases_of(module):
            message = f"{case.kind.__name__}: {outcome(case).message}"
            if not sys.argv[1:] or any(word in message for word in sys.argv[1:]):
                print(f"\n{message}\n    cause:   {case.cause}\n    way out: {case.way_out}")
