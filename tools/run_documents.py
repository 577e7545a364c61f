"""Run every code block of a Markdown file, in order, and compare what it prints with the `text` block after it.

Each file runs in a folder of its own, made for it and thrown away, with `examples/` linked and `docs/gallery/` empty.

    ```python   all such blocks of a file share one namespace
    ```toml     a job file: written to job.toml, then `affinet check job.toml`
    ```bash     lines that start with `affinet` or `python` are run, others (make, pip, git) are not
    ```text     what the block before it prints; `...` stands for anything

A block after `<!-- not run -->` or `<!-- not compared -->` is skipped. Warnings are errors. Relative links have to lead
to a file, and to a heading where they name one.

A page with a line `<!-- extra: keras-tf -->` needs that extra, which has an environment of its own. Its blocks run only
under `--extra keras-tf`, and then only those of such pages do, where of warnings only those of affinet are errors:
guests warn of much. Without the option the links of all pages are checked.

With `--passed FILE` a page that has passed with the same text, code and versions is not run again, only its links.

    python tools/run_documents.py --passed build/pages.json README.md docs/*.md docs/gallery/*.md
    python tools/run_documents.py --extra keras-tf docs/*.md docs/gallery/*.md
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this file is run by its path

from tools.passed_pages import PassedPages, read_passed  # noqa: E402

BLOCK = re.compile(
    r"^(?P<skip><!-- not (run|compared) -->\n)?```(?P<language>\w+)[^\n]*\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL
)
LINK = re.compile(r"\]\((?P<target>[^)#\s:]*)(?:#(?P<anchor>[^)\s]*))?\)")
HEADING = re.compile(r"^#+ (?P<text>.+)$", re.MULTILINE)
EXTRA = re.compile(r"^<!-- extra: (?P<name>[\w-]+) -->$", re.MULTILINE)
SKIPPED = ("make", "pip", "git", "cd")


@dataclass(frozen=True)
class Block:
    """One fenced block: where its first line stands, its language, its text."""

    line: int
    language: str
    body: str


class DocumentError(Exception):
    """A document that does not do what it says."""


def blocks_of(text: str) -> list[Block]:
    """The blocks of a document that are to be run, in order."""
    return [
        Block(text.count("\n", 0, found.start("body")) + 1, found["language"], found["body"])
        for found in BLOCK.finditer(text)
        if not found["skip"]
    ]


def check_fences(text: str) -> None:
    """Raise DocumentError for a block that opens without a language: it would be neither run nor compared."""
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            inside = not inside
            if inside and line == "```":
                raise DocumentError(f"line {number}: a block without a language is not compared: write ```text")


def check_links(document: Path, text: str) -> None:
    """Raise DocumentError for a relative link that leads to no file, or to no heading of a page."""
    for found in LINK.finditer(text):
        target = document.parent / found["target"] if found["target"] else document
        if not target.exists():
            raise DocumentError(f"the link {found['target']!r} leads nowhere")
        if found["anchor"] and found["anchor"] not in anchors(target.read_text(encoding="utf-8")):
            raise DocumentError(f"{target.name} has no heading #{found['anchor']}")


def anchors(text: str) -> set[str]:
    """What forges call the headings of a page: lower case, punctuation left out, a hyphen for each space."""
    headings = (found["text"].strip().lower() for found in HEADING.finditer(text))
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


def run_python(block: Block, document: Path, namespace: dict[str, object]) -> str:
    """Run a block in `namespace`; what it printed."""
    printed = io.StringIO()
    source = "\n" * (block.line - 1) + block.body  # tracebacks then show the line of the document
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        exec(compile(source, str(document), "exec"), namespace)
    return printed.getvalue()


def run_command(words: list[str]) -> str:
    """Run `affinet …` or `python …` with this interpreter; what it printed."""
    if words[0] == "affinet":
        words = ["python", "-m", *words]
    environment = os.environ | {
        "COLUMNS": "110",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONWARNINGS": "error::UserWarning",
    }
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise DocumentError(f"{shlex.join(words)} ended with status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def run_shell(block: Block) -> str:
    """Run the lines of a `bash` block that are ours to run; what they printed."""
    printed = ""
    for line in block.body.splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] in SKIPPED:
            continue
        if words[0] not in ("affinet", "python"):
            raise DocumentError(f"neither run nor skipped: {line!r}")
        printed += run_command(words)
    return printed


def compare(expected: str, printed: str) -> None:
    """Raise DocumentError, with the difference, where the document shows another output."""
    rules = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    if not doctest.OutputChecker().check_output(expected, printed, rules):
        difference = difflib.unified_diff(expected.splitlines(), printed.splitlines(), "document", "run", lineterm="")
        raise DocumentError("prints something else\n" + "\n".join(difference))


def run_block(block: Block, printed: str, document: Path, namespace: dict[str, object]) -> str:
    """Run one block; what it printed, or what is still to be compared with a later block."""
    match block.language:
        case "python":
            return run_python(block, document, namespace)
        case "bash":
            return run_shell(block)
        case "toml":
            Path("job.toml").write_text(block.body, encoding="utf-8")
            return run_command(["affinet", "check", "job.toml"])
        case "text":
            compare(block.body, printed)
    return printed


def extra_of(text: str) -> str | None:
    """The extra whose environment runs a document; None for the one of `make check`."""
    declared = EXTRA.search(text)
    return declared["name"] if declared else None


def run_document(document: Path) -> int:
    """Run all blocks of `document`; how many there were. Raises DocumentError with the line that failed."""
    blocks = blocks_of(document.read_text(encoding="utf-8"))
    namespace: dict[str, object] = {"__name__": "__main__"}
    printed = ""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("examples").symlink_to(ROOT / "examples")
        Path("docs", "gallery").mkdir(parents=True)
        for block in blocks:
            try:
                printed = run_block(block, printed, document, namespace)
            except DocumentError as error:
                raise DocumentError(f"line {block.line}: {error}") from None
            except Exception:  # noqa: BLE001  (whatever a document raises is reported with its line)
                raise DocumentError(f"line {block.line}:\n{traceback.format_exc()}") from None
    return len(blocks)


def report(name: str, extra: str | None, passed: PassedPages) -> str | None:
    """Check a document under an extra; one line on it, or None for a page of no concern. Raises DocumentError."""
    document = Path(name).resolve()
    text = document.read_text(encoding="utf-8")
    needed = extra_of(text)
    if extra is None:
        check_fences(text)
        check_links(document, text)
    if needed == extra:
        if passed.has(text):
            return f"{name}: unchanged since it passed"
        blocks = run_document(document)
        passed.add(text)
        return f"{name}: {blocks} blocks"
    return f"{name}: not run, it needs --extra {needed}" if extra is None else None


def main(arguments: list[str]) -> int:
    """Run the documents named; exit status 1 where one fails, or where none is about the extra."""
    parser = argparse.ArgumentParser(description="Run the code blocks of Markdown files.")
    parser.add_argument("--extra", help="run the pages that declare this extra, and no others")
    parser.add_argument("--passed", type=Path, help="a file that remembers which pages have passed")
    parser.add_argument("documents", nargs="+")
    chosen = parser.parse_args(arguments)
    passed = read_passed(chosen.passed and chosen.passed.resolve())
    warnings.simplefilter("error" if chosen.extra is None else "ignore")
    warnings.filterwarnings("error", ".*affinet")
    lines, failed = 0, False
    for name in chosen.documents:
        try:
            line = report(name, chosen.extra, passed)
        except DocumentError as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr)
        else:
            if line is not None:
                lines += 1
                print(line)
    if not lines and not failed:
        print(f"no page declares the extra {chosen.extra}", file=sys.stderr)
    return int(failed or not lines)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
