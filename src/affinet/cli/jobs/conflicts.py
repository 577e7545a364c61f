"""Find keys of a job that are valid one by one but contradict each other."""

from __future__ import annotations

from collections.abc import Iterator

from affinet.cli.jobs.job import READY_MADE, READY_MADE_SETS, DataTable, Job, ModelTable, RuleTable, TrainTable
from affinet.cli.jobs.mistakes import Mistake
from affinet.cli.words import did_you_mean

FORMS: dict[str, tuple[str, ...]] = {
    "says": (),
    "sentences": (),
    "polynomials": ("weights", "variable"),
    "matrix": ("weights", "variable", "rhs", "rhs_variable", "sense"),
}
"""The keys of which a rule has exactly one, and the further keys that it may have then."""
ACCEPTED_FORMS = (
    'it takes one of says = "a rule", sentences = "a file", and polynomials = "a file" or matrix = "a file" with '
    'weights = ["names"]'
)


def conflicts(job: Job) -> Iterator[Mistake]:
    """A mistake for every pair of keys that exclude each other, and for every key that needs another key."""
    yield from _conflicts_of_data(job.data)
    yield from _conflicts_of_model(job.model)
    yield from _conflicts_of_train(job.train)
    yield from _conflicts_of_framework(job)
    for index, rule in enumerate(job.rule):
        yield from _conflicts_of_rule(index, rule)
    yield from _conflicts_of_names(job.rule)
    yield from _conflicts_with_lines(job)


def rule_name(rule: RuleTable) -> str:
    """The name of a rule: its key `name`, or else its text or its file."""
    return rule.name or rule.says or rule.sentences or rule.polynomials or rule.matrix or ""


def _conflicts_of_data(data: DataTable) -> Iterator[Mistake]:
    ready_made = data.source.startswith(READY_MADE)
    known_sources = [READY_MADE + name for name in READY_MADE_SETS]
    if ready_made and data.source not in known_sources:
        fact = f"there is no built-in data set {data.source!r}.{did_you_mean(data.source, known_sources)}"
        yield Mistake(("data", "source"), f"{fact} There are: {', '.join(known_sources)}.")
    if ready_made and data.target is not None:
        yield Mistake(("data", "target"), f"{data.source} brings its own target; remove the key 'target' of [data].")
    if ready_made and data.task is not None:
        yield Mistake(("data", "task"), f"{data.source} brings its own task; remove the key 'task' of [data].")
    if ready_made and data.ignore:
        fact = f"{data.source} is used with all its columns; remove the key 'ignore' of [data]."
        yield Mistake(("data", "ignore"), fact)
    if ready_made and "text" in data.model_fields_set:
        yield Mistake(("data", "text"), f"{data.source} has no text; remove the key 'text' of [data].")
    if data.target is not None and data.target in data.ignore:
        fact = f"the column {data.target!r} is the target and in 'ignore'; remove it from one of them."
        yield Mistake(("data", "ignore"), fact)
    if not ready_made and data.target is None:
        fact = f"[data] lacks the key 'target': say which column of {data.source} is to be predicted."
        yield Mistake(("data", "target"), fact)


def _conflicts_of_model(model: ModelTable) -> Iterator[Mistake]:
    if model.factory is None and model.hidden is None:
        fact = "[model] needs one of two keys: hidden = [64] for a multilayer perceptron with these hidden sizes"
        yield Mistake(("model",), f'{fact}, or factory = "package.module:function".')
    if model.factory is not None:
        for name in ("hidden", "activation", "dtype"):
            if name in model.model_fields_set:
                fact = f"[model] has both 'factory' and {name!r}; the factory decides, so remove {name!r}."
                yield Mistake(("model", name), fact)


def _conflicts_of_train(train: TrainTable) -> Iterator[Mistake]:
    if train.basis is not None and train.method != "reparametrize":
        fact = f"[train] has basis = {train.basis!r}, and the method is {train.method!r}, which does not use a basis"
        yield Mistake(("train", "basis"), f"{fact}; say method = \"reparametrize\", or remove 'basis'.")
    if train.parallel == "fsdp" and train.method != "project":
        fact = f'[train] has parallel = "fsdp", which splits weights over processes, and method = {train.method!r}'
        way_out = 'say parallel = "ddp", where each process has all of them, or method = "project".'
        yield Mistake(("train", "parallel"), f"{fact}, which takes weights of one process; {way_out}")
    if train.parallel == "fsdp" and train.optimizer == "LBFGS":
        fact = '[train] has parallel = "fsdp", which splits weights over processes, and LBFGS has them as one vector'
        yield Mistake(("train", "parallel"), f'{fact}; say parallel = "ddp", or take another optimizer.')


def _conflicts_of_framework(job: Job) -> Iterator[Mistake]:
    framework, method = job.model.framework, job.train.method
    if framework == "torch":
        return
    if job.model.factory is not None:
        fact = f"[model] has framework = {framework!r} and a factory, which makes a network of torch"
        way_out = f"Give the sizes of a network, hidden = [64]; your own networks train under {PYTHON[framework]}."
        yield Mistake(("model", "framework"), f"{fact}. {way_out}")
    if framework not in FRAMEWORKS_OF[method]:
        needed = " or ".join(f'"{name}"' for name in FRAMEWORKS_OF[method])
        fact = f'method = "{method}" needs framework = {needed}, and [model] has framework = "{framework}"'
        yield Mistake(("train", "method"), f'{fact}. Change one of them; method = "project" trains in each framework.')
    if job.train.parallel is not None:
        fact = f"parallel = {job.train.parallel!r} trains with torch, and [model] has framework = {framework!r}"
        yield Mistake(("train", "parallel"), f"{fact}. Leave out one of them.")


FRAMEWORKS_OF: dict[str, tuple[str, ...]] = {
    "project": ("torch", "jax", "keras"),
    "reparametrize": ("torch", "jax"),
    "lagrange": ("torch",),
}
"""Method → the frameworks that train by it."""
PYTHON = {"jax": "affinet.optax.project", "keras": "affinet.keras.project"}
"""Framework → what trains any network of it, in Python."""


def _conflicts_of_rule(index: int, rule: RuleTable) -> Iterator[Mistake]:
    path = ("rule", index)
    forms = [name for name in FORMS if getattr(rule, name) is not None]
    if len(forms) != 1:
        has = f"has {' and '.join(map(repr, forms))}" if forms else "is empty"
        yield Mistake((*path, forms[-1]) if forms else path, f"rule {index + 1} {has}; {ACCEPTED_FORMS}.")
        return
    accepted = FORMS[forms[0]]
    for name in FORMS["matrix"]:
        if name in rule.model_fields_set and name not in accepted:
            yield Mistake((*path, name), f"rule {index + 1} has both {forms[0]!r} and {name!r}; {ACCEPTED_FORMS}.")
    if "weights" in accepted and rule.weights is None:
        fact = f"rule {index + 1} has {forms[0]!r} and no 'weights': list the names whose entries it is about."
        yield Mistake(path, fact)
    if rule.rhs_variable is not None and not isinstance(rule.rhs, str):
        fact = f"rule {index + 1} has 'rhs_variable', and its rhs is a number; name a .mat or .npz file in 'rhs'."
        yield Mistake((*path, "rhs_variable"), fact)


def _conflicts_of_names(rules: tuple[RuleTable, ...]) -> Iterator[Mistake]:
    first_index: dict[str, int] = {}
    for index, rule in enumerate(rules):
        name = rule_name(rule)
        if name and name in first_index:
            numbers = f"{first_index[name] + 1} and {index + 1}"
            fact = f"rules {numbers} are both named {name!r}; give one of them another 'name'."
            yield Mistake(("rule", index, "name"), fact)
        first_index.setdefault(name, index)


def _conflicts_with_lines(job: Job) -> Iterator[Mistake]:
    numbers = {rule_name(rule): index + 1 for index, rule in enumerate(job.rule)}
    for name in job.rules.keys() & numbers.keys():
        fact = f"rule {numbers[name]} and a line of [rules] are both named {name!r}; give one of them another name."
        yield Mistake(("rules", name), fact)
