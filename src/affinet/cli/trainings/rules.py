"""Turn the rules of a job into constraints of the library, for the weights of its network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import affinet
from affinet.blocks.interval import Interval
from affinet.cli.files.matrix_files import read_matrix, read_vector
from affinet.cli.files.polynomial_files import read_polynomials
from affinet.cli.files.rule_lines import read_sentences
from affinet.cli.jobs.conflicts import rule_name
from affinet.cli.jobs.job import RuleTable
from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.jobs.locate import KeyPath
from affinet.cli.trainings.perceptron import first_weight
from affinet.errors import AffinetError, UnknownFeatureError
from affinet.language.expression import weight
from affinet.language.labels import labelled
from affinet.language.weights import Weights

if TYPE_CHECKING:
    from affinet import Constraint, Expression, Rules


def weights_of(job: JobFile, network: object, features: Sequence[str]) -> Weights:
    """The weights of `network`, a torch.nn.Module or names with shapes, as rules see them.

    In the built-in network the columns of the first weight have the names of the features: `hidden1.weight[:, "age"]`.
    """
    weights = affinet.weights(network)
    if job.job.model.hidden is None:
        return weights
    names = {first_weight(job.job): features or None}
    parameters = [labelled(name, symbol.shape, names.get(name)) for name, symbol in weights.items()]
    return Weights({each.name: weight(each) for each in parameters}, {}, {})


def read_rules(job: JobFile, network: object) -> list[Constraint]:
    """One named constraint per [[rule]] of `job` and line of [rules], in this order; one per weight of several weights.

    `network` is what `affinet.weights` takes: a torch.nn.Module, names with shapes, or what `weights_of` gives.

    Raises JobError with the line of the key: text that is not a rule, unknown weights, unreadable files, wrong shapes.
    """
    weights = affinet.weights(network)
    entries = [_named_rule(job, index, rule, weights) for index, rule in enumerate(job.job.rule)]
    entries += [_from_line(job, name, text, weights) for name, text in job.job.rules.items()]
    return [rule for entry in entries for rule in (entry if isinstance(entry, affinet.Rules) else [entry])]


def free_numbers(numbers: int, rank: int | Interval) -> int | Interval:
    """How many numbers of a plain network can be chosen independently under equations of this rank."""
    return numbers - rank if isinstance(rank, int) else Interval(numbers - rank.high, numbers - rank.low)


def _named_rule(job: JobFile, index: int, rule: RuleTable, weights: Weights) -> Constraint | Rules:
    form = next(key for key in _READERS if getattr(rule, key) is not None)
    return _READERS[form](job, index, rule, weights).named(rule_name(rule))


def _from_text(job: JobFile, index: int, rule: RuleTable, weights: Weights) -> Constraint | Rules:
    try:
        return affinet.parse(str(rule.says), weights)
    except AffinetError as error:
        raise _with_rule_name(job, ("rule", index, "says"), rule, error) from error


def _from_line(job: JobFile, name: str, text: str, weights: Weights) -> Constraint | Rules:
    try:
        return affinet.parse(text, weights).named(name)
    except AffinetError as error:
        raise job.mistake(("rules", name), f'rule "{name}": {_without_advice(error)}') from error


def _from_sentences(job: JobFile, index: int, rule: RuleTable, weights: Weights) -> Rules:
    key = ("rule", index, "sentences")
    text = _read_file(job, key, rule, lambda path, _: read_sentences(path), str(rule.sentences), None)
    try:
        return affinet.parse_lines(text, weights)
    except AffinetError as error:
        raise job.mistake(key, f'rule "{rule_name(rule)}", {rule.sentences}: {error}') from error


def _from_polynomials(job: JobFile, index: int, rule: RuleTable, weights: Weights) -> Constraint:
    columns, key = _columns(job, index, rule, weights), ("rule", index, "polynomials")
    table = _read_file(job, key, rule, read_polynomials, str(rule.polynomials), rule.variable)
    try:
        return affinet.families.polynomial(columns, table)
    except AffinetError as error:
        raise _with_rule_name(job, key, rule, error) from error


def _from_matrix(job: JobFile, index: int, rule: RuleTable, weights: Weights) -> Constraint:
    columns = _columns(job, index, rule, weights)
    matrix = _read_file(job, ("rule", index, "matrix"), rule, read_matrix, str(rule.matrix), rule.variable)
    rhs: Any = rule.rhs
    if isinstance(rule.rhs, str):
        read = read_vector if rule.sense == "==" else partial(read_vector, bounds=True)
        rhs = _read_file(job, ("rule", index, "rhs"), rule, read, rule.rhs, rule.rhs_variable)
    try:
        return affinet.families.linear(columns, matrix, rhs, sense=rule.sense)
    except AffinetError as error:
        raise _with_rule_name(job, ("rule", index, "matrix"), rule, error) from error


_READERS: dict[str, Callable[[JobFile, int, RuleTable, Weights], Constraint | Rules]] = {
    "says": _from_text,
    "sentences": _from_sentences,
    "polynomials": _from_polynomials,
    "matrix": _from_matrix,
}
"""How a rule is read, by the key that it has of these."""


def _columns(job: JobFile, index: int, rule: RuleTable, weights: Weights) -> Sequence[Expression]:
    columns: list[Expression] = []
    for position, name in enumerate(rule.weights or ()):
        try:
            weight = weights[name]
            columns.extend(weight if isinstance(weight, affinet.WeightGroup) else [weight])
        except AffinetError as error:
            raise _with_rule_name(job, ("rule", index, "weights", position), rule, error) from error
    return columns


def _read_file(job: JobFile, key: KeyPath, rule: RuleTable, read: Any, name: str, variable: str | None) -> Any:
    try:
        return read(job.folder / name, variable)
    except AffinetError as error:
        raise _with_rule_name(job, key, rule, error) from error


def _with_rule_name(job: JobFile, key: KeyPath, rule: RuleTable, error: AffinetError) -> AffinetError:
    return job.mistake(key, f'rule "{rule_name(rule)}": {_without_advice(error)}')


def _without_advice(error: AffinetError) -> str:
    """The message of an error, without advice for users of scikit-learn whose features are called x0, x1, …."""
    return (
        str(error).partition(" X has no names of its own")[0] if isinstance(error, UnknownFeatureError) else str(error)
    )
