"""Build the text of a first job: a commented TOML file for a table, with the weights that it makes and first rules."""

from __future__ import annotations

import json
import shlex

from affinet.cli.jobs.job import DataTable
from affinet.cli.trainings.data import Lesson
from affinet.cli.trainings.perceptron import Perceptron
from affinet.cli.trainings.row_scaling import units_sentence
from affinet.cli.words import counted, listed

SCHEMA = "affinet.schema.json"
"""The file beside a first job that editors read its keys from."""
HIDDEN = (16,)
MOST_SHOWN = 12
"""Features that a comment names."""
MANY_ROWS = 1000
"""Fewer rows are trained on in smaller batches, which give more steps in an epoch."""

RULES = (
    ("one weight equals another one", "hidden1.weight[0, 0] == hidden1.weight[1, 0]"),
    ("{feature} is not used", "hidden1.weight[:, 0] == 0"),
    ("the weights of each output sum to one", "output.weight.sum(dim=1) == 1"),
    ("no weight of the last layer is negative", "output.weight >= 0"),
    ("the biases of the first layer ascend", "hidden1.bias.diff() >= 0"),
    ("the weights of each neuron of the first layer have the length one", "unit_norm(hidden1.weight, dim=1)"),
)
"""A rule of each common kind with its name, which fits networks of any number of features and outputs."""

TEXT = """\
#:schema ./{schema}
# A job of affinet. It trains as it stands. To train under a rule, remove the "# " before one of the lines at the end.
#   affinet check {name}    what the rules amount to, without training
#   affinet train {name}    train with the rules, and once more without them for comparison
# Editors complete and check the keys by the schema that the first line names. All keys: docs/jobs.md of affinet.

[data]
source = {source}
{target}{task}
{ignore}test_fraction = 0.2              # of {rows}

[model]
hidden = {hidden}                    # sizes of the hidden layers, such as [64, 32]; [] is a linear model
activation = "relu"
# With these sizes rules name the weights so, with their shapes:
{shapes}
# Column k of hidden1.weight is about feature k:
#   {features}

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
    names = [f"{name!r:.60}" for name in lesson.examples.names]
    return TEXT.format(
        schema=SCHEMA,
        name=shlex.quote(name) if name.isprintable() else "JOB.toml",
        source=_quoted(table.source),
        target="" if table.target is None else f"target = {_quoted(table.target)}\n",
        task=f"# Found: {lesson.decided}." if table.task is None else f"task = {_quoted(table.task)}",
        ignore=f"ignore = [{', '.join(map(_quoted, table.ignore))}]\n" if table.ignore else "",
        rows=counted(len(lesson.targets), "row"),
        hidden=list(HIDDEN),
        batch=16 if len(lesson.targets) < MANY_ROWS else 64,
        shapes="\n".join(f"#   {weight:<{width}}  {shape}" for weight, shape in network.shapes.items()),
        features=listed([f"{k} {name}" for k, name in enumerate(names)], MOST_SHOWN),
        units=units_sentence(has_classes=lesson.task == "classification"),
        rules="\n".join(f"# {_quoted(meaning.format(feature=names[0]))} = {_quoted(says)}" for meaning, says in RULES),
    )


def _quoted(text: str) -> str:
    """A basic string of TOML, which escapes what JSON does, and the control character 127."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
