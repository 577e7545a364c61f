"""One way in for bytes from outside: who reads them, what it may answer, where to begin and how to go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from affinet.errors import AffinetError
from tests.fuzz.mutations import Mutation

CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Target:
    """`read` is given a file whose name ends in `suffix`; it may return, or raise one of `refusals`.

    `changes` is how many changed inputs the tests read.
    """

    name: str
    suffix: str
    read: Callable[[Path], object]
    refusals: tuple[type[AffinetError], ...]
    mutate: Mutation
    changes: int = 300

    @property
    def corpus(self) -> Path:
        """The folder of its seeds and of every input that once went wrong."""
        return CORPUS / self.name

    def inputs(self) -> list[Path]:
        """The files of the corpus, in one order everywhere."""
        return sorted(self.corpus.iterdir())
