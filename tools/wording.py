"""Check names and sentences against STYLE: nouns for values, verbs for functions, sentences that need no decoding.

python -m tools.wording            # lists what the checks find, and the totals
python -m tools.wording src/affinet/cli
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCES = (ROOT / "src" / "affinet",)
DOCUMENTS = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "docs")

VAGUE = frozenset(
    [
        "found",
        "left",
        "one",
        "ones",
        "said",
        "saying",
        "kept",
        "settled",
        "off",
        "along",
        "apart",
        "together",
        "near",
        "idle",
        "fit",
        "told",
        "tells",
        "beside",
        "own",
        "some",
        "its",
        "theirs",
        "mine",
        "others",
        "rest",
        "whole",
        "such",
        "taken",
        "held",
        "given",
        "alone",
        "gone",
        "meant",
        "seen",
        "unseen",
        "spoken",
        "spoken_of",
        "waiting",
        "who",
        "which",
        "whose",
        "somebody",
        "something",
        "done",
        "missed",
        "sought",
        "asked",
        "lying",
        "both_",
        "way_",
        "here",
        "there",
        "now",
        "then",
        "again",
        "still",
        "now_",
        "other_",
    ]
)
"""Pronouns, participles and adverbs that name nothing: a value called so has to be looked up."""

DECODED = (
    (r"(?<!there\s)\b(?:is|are|was|were|be) no (?!longer|more|other|one\b)[a-z`]+", "'is no …': write 'is not a …'"),
    (r"\b(?:that|which|who) (?:is|are|was|were) (?-i:none)\b", "'that is none': repeat the noun"),
    (r"\b(?:is|are|was) (?-i:none)(?=[,;:.)])", "'is none': repeat the noun"),
    (r"\bnone of its\b.{0,12}entries\b", "'none of its entries'"),
    (r"\bwhat is left of\b", "'what is left of': 'the remaining …'"),
    (r"\bone an? (?:row|cell|axis|block|entry|rule|equation|parameter|file|kind|class|line|weight|column|step)\b",
     "'one a …': 'one per …'"),
    ((r"\b(?:kernel|number|equation|line|rule|factor|value|copy|sum|name) an? (?:block|cell|row|class|axis|rule|entry|"
     r"equation|column|step|line)\b(?! of| that| with| in| is)"), "'… a …': '… per …'"),
    (r"\bspeaks? of\b|\bspoken of\b", "'speaks of': 'refers to', 'is about'"),
    (r"\bas many as\b", "'as many as'"),
    (r"\btold (?:of|by)\b", "'told of': 'reported', 'known from'"),
)  # fmt: skip
"""Phrases that a reader has to decode, and what to write."""


class Remark(NamedTuple):
    """One place, the text found there and what to write."""

    path: Path
    line: int
    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}  ({self.advice})"


def vague_names(paths: Iterable[Path]) -> Iterator[Remark]:
    """Names of values, functions, arguments and classes that are in `VAGUE`, underscores at both ends aside.

    The operands `left` and `right` of one file are not among them, nor the method `fit`, which is scikit-learn's.
    """
    for path in paths:
        bound = list(_bound(ast.parse(path.read_text(encoding="utf-8"))))
        operands = any(name == "right" for _, name in bound)
        for line, name in bound:
            if name.strip("_").lower() in VAGUE and not (operands and name == "left"):
                yield Remark(path, line, name, "name it by what it is")


def _bound(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store(), lineno=line):
                yield line, name
            case ast.FunctionDef(name="fit", args=ast.arguments(args=[ast.arg(arg="self"), *_])):
                pass
            case ast.FunctionDef(name=name, lineno=line) | ast.ClassDef(name=name, lineno=line):
                yield line, name
            case ast.arg(arg=name, lineno=line):
                yield line, name
            case ast.MatchAs(name=str(name), lineno=line):
                yield line, name
            case _:
                pass


def decoded_sentences(paths: Iterable[Path]) -> Iterator[Remark]:
    """Phrases of `DECODED` in documents, docstrings, comments and messages."""
    for path in paths:
        text = path.read_text(encoding="utf-8")
        for pattern, advice in DECODED:
            for match in re.finditer(pattern, text, re.IGNORECASE):
                line = text.count("\n", 0, match.start()) + 1
                yield Remark(path, line, " ".join(match[0].split()), advice)


OPENINGS = re.compile(r"^(?:What|Which|Where|Why|How|When|Less|Beside|Of|As)\b")
"""First words of a docstring of a module that do not say what the file holds or does."""


def vague_openings(paths: Iterable[Path]) -> Iterator[Remark]:
    """Module docstrings that begin neither with a verb nor with a noun."""
    for path in paths:
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        first = docstring.partition("\n")[0]
        if OPENINGS.match(first):
            yield Remark(path, 1, first, "begin with a verb, or with 'A <noun> that'")


def python_files(*roots: Path) -> list[Path]:
    """All Python files below some folders."""
    return sorted(path for root in roots for path in ([root] if root.suffix == ".py" else root.rglob("*.py")))


def documents() -> list[Path]:
    """The pages of the documentation."""
    return sorted(path for root in DOCUMENTS for path in ([root] if root.is_file() else root.rglob("*.md")))


def main(arguments: list[str]) -> None:
    """Print remarks on some folders, or on all sources and documents."""
    roots = [Path(argument).resolve() for argument in arguments] or [*SOURCES]
    code = python_files(*roots)
    pages = documents() if not arguments else [path for path in roots if path.suffix == ".md"]
    names, sentences = [*vague_names(code)], [*decoded_sentences([*code, *pages])]
    openings = [*vague_openings(code)]
    for remark in [*names, *sentences, *openings]:
        print(remark)
    by_name = Counter(remark.text.strip("_") for remark in names).most_common(12)
    print(f"{len(names)} vague names ({', '.join(f'{name} {count}' for name, count in by_name)})")
    print(f"{len(sentences)} phrases to decode, {len(openings)} vague openings")


if __name__ == "__main__":
    main(sys.argv[1:])
