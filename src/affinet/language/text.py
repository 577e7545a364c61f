"""Read rules from text, which has Python's syntax for expressions, by a whitelist; the text is never run."""

from __future__ import annotations

import ast
import re
import warnings

from affinet.errors import ParseError, RuleError
from affinet.language.constraint import Constraint
from affinet.language.misread import Located, Misread
from affinet.language.syntax import read_rule
from affinet.language.weight_groups import Rules, rules_of
from affinet.language.weights import Weights

LONGEST = 100_000
"""The largest number of characters in the text of a rule."""

NO_RULE = "there is no rule in this text. A rule is an equation such as `a.weight == 0`"
_TOO_MUCH = "the rule is nested too deep or too large to read; write it with slices and sums"

_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_FOREIGN = re.compile("[\x00\ud800-\udfff]")
_COMMENTS = re.compile(r"""("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')|#[^\n\r]*""")


def parse(text: str, weights: Weights) -> Constraint | Rules:
    """Read a rule about `weights` from text: `hidden.weight.sum(dim=1) == 1`, or `symmetric(hidden.weight)`.

    A text about many weights, `w["layers.*.weight"].sum(dim=1) == 1` or `tie(layers[1], layers[2])`, gives `Rules`.

    Weights are named as attributes (`layers[0].weight`) or from the root `w` (`w["0.weight"]`). The text is an
    equation with one `==`, or one call of a family; it may run over several lines.
    Errors: `ParseError` with line and column for what is not in the language. The language's own errors
    (`UnknownWeightError`, `ShapeError`, `NotAffineError`, …) keep their type and begin with line and column.
    """
    _check_arguments("parse", text, weights)
    return _read(text, _one_line(text), 0, weights)


def parse_lines(text: str, weights: Weights) -> Rules:
    """Read a rule from each line of a text, as `parse` does; empty lines and comments after `#` are skipped.

    The labels of the rules are `line 1`, `line 2`, …
    Errors: those of `parse`, with the line in the text; `ParseError` where no line has a rule.
    """
    _check_arguments("parse_lines", text, weights)
    rules: list[Rules] = []
    start = 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if (cleaned := _one_line(line)).strip():
            rules.append(rules_of(_read(text, cleaned, start, weights), f"line {number}"))
        start += len(line)
    if not rules:
        raise ParseError(text[:200], 1, 1, NO_RULE)
    return Rules(
        tuple(rule for each in rules for rule in each), tuple(label for each in rules for label in each.labels)
    )


def _check_arguments(function: str, text: object, weights: object) -> None:
    if not isinstance(text, str):
        raise ParseError("", 1, 1, f"a rule must be text; got {text!r:.60} ({type(text).__name__})")
    if not isinstance(weights, Weights):
        raise RuleError(
            f"{function} takes the text of a rule and then the weights of the model, affinet.weights(model); got "
            f"{weights!r:.60} ({type(weights).__name__})."
        )


def _read(text: str, line: str, start: int, weights: Weights) -> Constraint | Rules:
    """The rule in `line`, which begins at a character of `text` and has neither line ends nor comments."""
    if len(line) > LONGEST:
        reason = f"the text has {len(line):,} characters, and a rule may have {LONGEST:,}"
        raise ParseError(text[start : start + 200], 1, 1, reason)
    if foreign := _FOREIGN.search(text, start, start + len(line)):
        raise ParseError(text, *_place(text, foreign.start()), f"a rule must not hold the character {foreign[0]!r}")
    try:
        return read_rule(_parse_line(text, line, start), weights)
    except Misread as misread:
        raise ParseError(text, *_place(text, start + _offset(line, misread.node)), misread.reason) from None
    except Located as located:
        raise located.error.located(*_place(text, start + _offset(line, located.node))) from None
    except (RecursionError, MemoryError, OverflowError):
        raise ParseError(text, *_place(text, start), _TOO_MUCH) from None


def _one_line(text: str) -> str:
    """The text with line ends and comments replaced by blanks, so that every character keeps its place.

    Parentheses around the text would allow line ends, too, but they would also make `a) == (b` a rule.
    """
    without_comments = _COMMENTS.sub(lambda comment_or_text: comment_or_text[1] or " " * len(comment_or_text[0]), text)
    return _LINE_ENDS.sub(" ", without_comments)


def _parse_line(text: str, line: str, start: int) -> ast.expr:
    if not line.strip():
        raise ParseError(text, 1, 1, NO_RULE)
    indent = len(line) - len(line.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(line.lstrip(), mode="eval").body
    except SyntaxError as error:
        end = len(line.rstrip())
        offset = min(indent + error.offset - 1, end) if error.offset else end
        raise ParseError(
            text, *_place(text, start + offset), f"this is not a rule: {error.msg}. {_advice(line)}"
        ) from None
    except (RecursionError, MemoryError):
        raise ParseError(text, *_place(text, start), _TOO_MUCH) from None


def _advice(line: str) -> str:
    if re.search("(?<![=<>])=[<>]|[≤≥]", line):
        return "Inequalities are written with `<=` and `>=`"
    if re.search("(?<![=!<>:])=(?!=)", line) and "==" not in line:
        return "Equations are written with `==`"
    return "A rule is an equation such as `a.weight[0] == 1`, or a family such as `symmetric(a.weight)`"


def _offset(line: str, node: ast.AST) -> int:
    """The character at which a node begins; Python's `col_offset` counts bytes."""
    indent = len(line) - len(line.lstrip())
    return indent + len(line.lstrip().encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))


def _place(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, both counted from one."""
    lines = f"{text[:offset]}^".splitlines()
    return len(lines), len(lines[-1])
