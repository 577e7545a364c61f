"""Print every message that affinet can raise or warn with, its cause and its way out: `python -m tests.errors`.

To read aloud before a release. With words as arguments, only messages and classes that contain one of them are printed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from tests.errors.case import cases_of
from tests.errors.catalogue import ROOMS, title
from tests.errors.running import outcome


def messages(words: list[str]) -> Iterator[str]:
    """A heading for each thing that users do, and the messages that they can meet there."""
    for room in ROOMS:
        yield title(room)
        for case in (case for module in room for case in cases_of(module)):
            message = f"{case.kind.__name__}: {outcome(case).message}"
            if not words or any(word in message for word in words):
                yield f"{message}\n    cause:   {case.cause}\n    way out: {case.way_out}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n\n" for line in messages(sys.argv[1:]))
