"""The schema of jobs for editors: jobs that affinet accepts are valid, and mistakes of each kind are not."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from affinet.cli.demonstration import JOB
from affinet.cli.editor_schema import job_schema
from affinet.cli.jobs.job import DataTable, Job, ModelTable, RuleTable, TrainTable
from tests.cli.conftest import SMALL, Command, changed
from tools.run_documents import BLOCK, ROOT

TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "number": int | float, "integer": int}
BOUNDS = {
    "minimum": lambda value, bound: value >= bound,
    "exclusiveMinimum": lambda value, bound: value > bound,
    "exclusiveMaximum": lambda value, bound: value < bound,
    "minLength": lambda value, bound: len(value) >= bound,
    "minItems": lambda value, bound: len(value) >= bound,
    "enum": lambda value, bound: value in bound,
    "pattern": lambda value, bound: re.search(bound, value) is not None,
}
WITHOUT_EFFECT = {"description", "default", "title", "$schema"}


def mistakes(value: Any, schema: dict[str, Any], path: str = "job") -> Iterator[str]:
    """Where a value breaks a schema, by the meaning that draft 7 gives to the words of the schema of jobs."""
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, TYPES[kind]) or isinstance(value, bool)):
        yield f"{path} is not {kind}"
        return
    for word, wanted in schema.items():
        match word:
            case "properties":
                for key in value.keys() & wanted.keys():
                    yield from mistakes(value[key], wanted[key], f"{path}.{key}")
            case "additionalProperties":
                unknown = value.keys() - schema.get("properties", {}).keys()
                for key in unknown if isinstance(wanted, dict) else ():
                    yield from mistakes(value[key], wanted, f"{path}.{key}")
                yield from () if wanted else (f"{path} has no {key}" for key in unknown)
            case "propertyNames":
                yield from (each for key in value for each in mistakes(key, wanted, path))
            case "required":
                yield from (f"{path} lacks {key}" for key in wanted if key not in value)
            case "items":
                for index, item in enumerate(value):
                    yield from mistakes(item, wanted, f"{path}[{index}]")
            case "anyOf" | "oneOf":
                fitting = sum(not list(mistakes(value, each, path)) for each in wanted)
                if fitting == 0 or (word == "oneOf" and fitting > 1):
                    yield f"{path} fits {fitting} of {word}"
            case "type":
                pass
            case _ if word not in WITHOUT_EFFECT:
                if not BOUNDS[word](value, wanted):
                    yield f"{path}: {word}"


def errors(text: str) -> list[str]:
    return list(mistakes(tomllib.loads(text), job_schema()))


def jobs_of_pages() -> Iterator[Any]:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
            if found["language"] == "toml" and "[data]" in found["body"]:
                yield pytest.param(found["body"], id=f"{page.name}-{found.start()}")


@pytest.mark.parametrize("text", [*jobs_of_pages(), JOB.read_text(encoding="utf-8"), SMALL])
def test_jobs_that_affinet_accepts_are_valid(text: str) -> None:
    Job.model_validate(tomllib.loads(text))
    assert not errors(text)


@pytest.mark.parametrize(
    ("old", "new", "mistake"),
    [
        ("epochs = 3", "epoch = 3", "job.train has no epoch"),
        ("epochs = 3", "epochs = 0", "job.train.epochs: minimum"),
        ("epochs = 3", "epochs = 3.5", "job.train.epochs is not integer"),
        ("epochs = 3", "epochs = 3\nseed = 4294967296", "job.train.seed: exclusiveMaximum"),
        ("epochs = 3", 'epochs = 3\nmethod = "clamp"', "job.train.method: enum"),
        ("hidden = [5]", "", "job.model fits 0 of oneOf"),
        ("hidden = [5]", "hidden = [0]", "job.model.hidden[0]: minimum"),
        ("hidden = [5]", 'hidden = [5]\nfactory = "a:b"', "job.model fits 2 of oneOf"),
        ("hidden = [5]", 'factory = "a"', "job.model.factory: pattern"),
        ("hidden = [5]", 'hidden = [5]\nactivation = "rellu"', "job.model.activation: enum"),
        ('name = "a tie"', 'sentences = "rules.txt"', "job.rule[0] fits 2 of oneOf"),
        ('name = "a tie"', 'weights = ["a"]\nmatrix = "A.npy"', "job.rule[0] fits 2 of oneOf"),
        ('name = "a tie"', "rhs = []", "job.rule[0].rhs fits 0 of anyOf"),
        ('name = "a tie"', 'name = ""', "job.rule[0].name: minLength"),
        ("[[rule]]", '[rules]\n"" = "x"\n[[rule]]', "job.rules: minLength"),
        ("[[rule]]", "[rules]\nsums = 1\n[[rule]]", "job.rules.sums is not string"),
        ("test_fraction = 0.25", "test_fraction = 1.0", "job.data.test_fraction: exclusiveMaximum"),
        ('source = "small.csv"', "", "job.data lacks source"),
    ],
)
def test_mistakes_are_marked(old: str, new: str, mistake: str) -> None:
    assert errors(changed((old, new))) == [mistake]


def test_every_key_is_described_by_its_meaning_and_its_values() -> None:
    tables = job_schema()["properties"]
    models: dict[str, type[BaseModel]] = {"data": DataTable, "model": ModelTable, "train": TrainTable}
    keys = {name: (tables[name]["properties"], model) for name, model in models.items()}
    keys["rule"] = tables["rule"]["items"]["properties"], RuleTable
    keys["job"] = tables, Job
    for properties, model in keys.values():
        assert list(properties) == list(model.model_fields)
        for key, field in model.model_fields.items():
            assert f"It takes {field.description}." in properties[key]["description"]
            assert field.title
            assert field.title.lower() in properties[key]["description"].lower()


def test_the_command_prints_the_schema(affinet: Command) -> None:
    printed = affinet("schema")
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == job_schema()
    assert printed.stdout.isascii()
    assert "null" not in printed.stdout
    assert "$ref" not in printed.stdout
