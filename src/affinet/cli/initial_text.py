"""Build the text of a first job: a commented TOML file for a table, with the weights that it makes and first rules."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence

import numpy as np

from affinet.cli.jobs.job import DataTable
from affinet.cli.trainings.data import Lesson
from affinet.cli.trainings.encoding import Encoding
from affinet.cli.trainings.perceptron import Perceptron
from affinet.cli.trainings.row_scaling import units_sentence
from affinet.cli.words import counted

SCHEMA = "affinet.schema.json"
"""The file beside a first job that editors read its keys from."""
HIDDEN = (16,)
MOST_SHOWN = 60
"""Features that a comment names."""
WIDTH = 110
"""Characters of a line of names."""
LONGEST_INDEX = 60
"""Characters of a feature's name that a rule writes; longer ones are given by their number."""
MOST_ADDED = 12
"""Categories that a first rule adds up."""
TEXT_LINE = 'text = "encode"                  # each category of a column of text is a feature of zeros and ones\n'
MANY_ROWS = 1000
"""Fewer rows are trained on in smaller batches, which give more steps in an epoch."""

RULES = (
    ("one weight equals another one", "hidden1.weight[0, 0] == hidden1.weight[1, 0]"),
    ("{feature} is {unused}", "hidden1.weight[:, {index}] == 0"),
    ("the weights of each output sum to one", "output.weight.sum(dim=1) == 1"),
    ("no weight of the last layer is negative", "output.weight >= 0"),
    ("the biases of the first layer ascend", "hidden1.bias.diff() >= 0"),
    ("the weights of each neuron of the first layer have the length one", "unit_norm(hidden1.weight, dim=1)"),
)
"""A rule of each common kind with its name, which fits networks of any number of features and outputs."""
UNUSED = {False: "not used", True: "the baseline"}
"""What weights of zero mean for a feature, and for a category."""

TEXT = """\
#:schema ./{schema}
# A job of affinet. It trains as it stands. To train under a rule, remove the "# " before one of the lines at the end.
#   affinet check {name}    what the rules amount to, without training
#   affinet train {name}    train with the rules, and once more without them for comparison
# Editors complete and check the keys by the schema that the first line names. All keys: docs/jobs.md of affinet.

[data]
source = {source}
{target}{task}
{ignore}{text}test_fraction = 0.2              # of {rows}

[model]
hidden = {hidden}                    # sizes of the hidden layers, such as [64, 32]; [] is a linear model
activation = "relu"
# With these sizes rules name the weights so, with their shapes:
{shapes}
# Column k of hidden1.weight is about feature k{by_name}
{features}

[train]
optimizer = "AdamW"              # any of torch.optim
learning_rate = 0.01
epochs = 20
batch_size = {batch}
seed = 0

# The rules, one on each line: a name of your choice = the rule. Indices count from 0.
# {units} Formulas: "Units of rules" in docs/jobs.md of affinet.
[rules]
{rules}
"""


def job_text(name: str, table: DataTable, lesson: Lesson) -> str:
    """The text of a first job in the file `name` for the rows of `table`."""
    network = Perceptron((lesson.inputs, *HIDDEN, lesson.outputs), "ReLU")
    width = max(len(weight) for weight in network.shapes)
    names = lesson.encoding.names
    first = _index(names, 0)
    return TEXT.format(
        schema=SCHEMA,
        name=shlex.quote(name) if name.isprintable() else "JOB.toml",
        source=_quoted(table.source),
        target="" if table.target is None else f"target = {_quoted(table.target)}\n",
        task=f"# Found: {lesson.decided}." if table.task is None else f"task = {_quoted(table.task)}",
        ignore=f"ignore = [{', '.join(map(_quoted, table.ignore))}]\n" if table.ignore else "",
        text="" if table.text == "refuse" else TEXT_LINE,
        rows=counted(len(lesson.targets), "row"),
        hidden=list(HIDDEN),
        batch=16 if len(lesson.targets) < MANY_ROWS else 64,
        shapes="\n".join(f"#   {weight:<{width}}  {shape}" for weight, shape in network.shapes.items()),
        by_name=":" if first == "0" else f". Rules may name it, as in hidden1.weight[:, {first}]. The features:",
        features="\n".join(f"#   {line}" for line in _lines(names)),
        units=units_sentence(has_classes=lesson.task == "classification", has_text=bool(lesson.encoding.categories)),
        rules="\n".join(f"# {_quoted(name)} = {_quoted(says)}" for name, says in _rules(lesson.encoding)),
    )


def _rules(encoding: Encoding) -> list[tuple[str, str]]:
    """Names and texts of rules about these features."""
    names, of_text = encoding.names, encoding.of_text
    chosen = int(np.argmin(of_text))  # a column of numbers, where there is one
    unused = UNUSED[bool(of_text[chosen])]
    rules = [
        (meaning.format(feature=f"{names[chosen]!r:.60}", unused=unused), says.format(index=_index(names, chosen)))
        for meaning, says in RULES
    ]
    for column in encoding.categories:
        categories = [_index(names, names.index(name)) for name in encoding.names_of(column)]
        if 1 < len(categories) <= MOST_ADDED:
            says = f"hidden1.weight[:, [{', '.join(categories)}]].sum(dim=1) == 0"
            rules.append((f"the weights of all categories of {column!r:.60} add up to zero", says))
            break
    return rules


def _index(names: Sequence[str], column: int) -> str:
    """What a rule writes for a column: the name where it needs no escapes, and the number elsewhere."""
    name = names[column]
    plain = name.isprintable() and len(name) <= LONGEST_INDEX and not set(name) & set("'\"\\#")
    return repr(name) if plain else str(column)


def _lines(names: Sequence[str]) -> Iterator[str]:
    """Numbers and names of features in lines of a comment."""
    items = [f"{k} {name!r:.80}" for k, name in enumerate(names)][:MOST_SHOWN]
    if len(names) > MOST_SHOWN:
        items.append(f"… ({len(names)} in all)")
    line = ""
    for item in items:
        if line and len(line) + len(item) > WIDTH:
            yield f"{line},"
            line = ""
        line = f"{line}, {item}" if line else item
    yield line


def _quoted(text: str) -> str:
    """A basic string of TOML, which escapes what JSON does, and the control character 127."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
