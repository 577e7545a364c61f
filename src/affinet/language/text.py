"""Rules as text: Python's syntax for expressions, read by a whitelist and never run."""

from __future__ import annotations

import ast
import re
import warnings

from affinet.errors import ParseError, RuleError
from affinet.language.expression import Constraint
from affinet.language.misread import Located, Misread
from affinet.language.syntax import read_rule
from affinet.language.weight_groups import Rules
from affinet.language.weights import Weights

LONGEST = 100_000
"""Characters that the text of a rule may have."""

_TOO_MUCH = "the rule is nested too deep or too large to read; say it with slices and sums"

_LINE_ENDS = re.compile("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_FOREIGN = re.compile("[\x00\ud800-\udfff]")
_COMMENTS = re.compile("(\"[^\"\n]*\"|'[^'\n]*')|#[^\n\r]*")


def parse(text: str, weights: Weights) -> Constraint | Rules:
    """The rule that `text` says about `weights`: `hidden.weight.sum(dim=1) == 1`, or `symmetric(hidden.weight)`.

    Of many weights, `w["layers.*.weight"].sum(dim=1) == 1` or `tie(layers[1], layers[2])`, `Rules`: one for each.

    Weights are named as attributes (`layers[0].weight`) or from the root `w` (`w["0.weight"]`). The text is an
    equation with one `==`, or one call of a family; it may run over several lines.
    Errors: `ParseError` with line and column for what is not in the language. The language's own errors
    (`UnknownWeightError`, `ShapeError`, `NotAffineError`, …) keep their type and open with line and column.
    """
    if not isinstance(text, str):
        raise ParseError("", 1, 1, f"a rule is text, not {text!r:.60} ({type(text).__name__})")
    if not isinstance(weights, Weights):
        raise RuleError(
            f"parse takes the text of a rule and then the weights that it speaks of, affinet.weights(model), and not "
            f"{weights!r:.60} ({type(weights).__name__})."
        )
    if len(text) > LONGEST:
        raise ParseError(text[:200], 1, 1, f"the text has {len(text):,} characters, and a rule may have {LONGEST:,}")
    if foreign := _FOREIGN.search(text):
        raise ParseError(text, *_place(text, foreign.start()), f"no rule holds the character {foreign[0]!r}")
    line = _one_line(text)
    try:
        return read_rule(_tree(text, line), weights)
    except Misread as misread:
        raise ParseError(text, *_place(text, _offset(line, misread.node)), misread.reason) from None
    except Located as located:
        raise located.error.located(*_place(text, _offset(line, located.node))) from None
    except (RecursionError, MemoryError, OverflowError):
        raise ParseError(text, 1, 1, _TOO_MUCH) from None


def _one_line(text: str) -> str:
    """The text with every character in its place, and line ends and comments blank.

    Parentheses around the text would keep line ends too, but then `a) == (b` were a rule.
    """
    bare = _COMMENTS.sub(lambda found: found[1] or " " * len(found[0]), text)
    return _LINE_ENDS.sub(" ", bare)


def _tree(text: str, line: str) -> ast.expr:
    if not line.strip():
        raise ParseError(text, 1, 1, "there is no rule in this text. A rule is an equation such as `a.weight == 0`")
    ahead = len(line) - len(line.lstrip())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(line.lstrip(), mode="eval").body
    except SyntaxError as error:
        end = len(line.rstrip())
        offset = min(ahead + error.offset - 1, end) if error.offset else end
        raise ParseError(text, *_place(text, offset), f"this is no rule: {error.msg}. {_advice(line)}") from None
    except (RecursionError, MemoryError):
        raise ParseError(text, 1, 1, _TOO_MUCH) from None


def _advice(line: str) -> str:
    if re.search("(?<![=!<>:])=(?!=)", line) and "==" not in line:
        return "Equations are written with `==`"
    return "A rule is an equation such as `a.weight[0] == 1`, or a family such as `symmetric(a.weight)`"


def _offset(line: str, node: ast.AST) -> int:
    """Where a node begins, in characters; Python counts bytes."""
    ahead = len(line) - len(line.lstrip())
    return ahead + len(line.lstrip().encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))


def _place(text: str, offset: int) -> tuple[int, int]:
    """Line and column of a character, both counted from one."""
    lines = f"{text[:offset]}^".splitlines()
    return len(lines), len(lines[-1])
