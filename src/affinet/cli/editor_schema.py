"""Build the JSON schema of job files, by which editors complete keys, explain them and mark mistakes."""

from __future__ import annotations

import json
from typing import Any

from affinet.cli.jobs.conflicts import FORMS
from affinet.cli.jobs.job import Job
from affinet.cli.trainings.perceptron import ACTIVATIONS

DRAFT = "http://json-schema.org/draft-07/schema#"
"""The newest draft that taplo, and with it Even Better TOML, reads completely."""

Schema = dict[str, Any]


def schema_text() -> str:
    """The schema as JSON, in ASCII, so that it survives every encoding of a redirected output."""
    return json.dumps(job_schema(), indent=2) + "\n"


def job_schema() -> Schema:
    """The schema of a job: every key with its meaning and its values, and of which keys exactly one is needed.

    Sources: the models of `jobs.job`, and `jobs.conflicts` for the forms of a rule. Keys that exclude each other in
    other ways, and files that are missing, are reported by `affinet check` alone.
    """
    made = Job.model_json_schema()
    schema = _simplified(made, made.pop("$defs"))
    tables = schema["properties"]
    tables["model"]["oneOf"] = [{"required": ["hidden"]}, {"required": ["factory"]}]
    tables["model"]["properties"]["activation"]["enum"] = list(ACTIVATIONS)
    tables["rule"]["items"]["oneOf"] = [
        {"required": [form, "weights"] if "weights" in keys else [form]} for form, keys in FORMS.items()
    ]
    return {"$schema": DRAFT, "title": "A job of affinet"} | schema


def _simplified(node: Schema, definitions: Schema) -> Schema:
    """A schema with its references resolved, and without `null`, which TOML does not have."""
    parts = [node, *node.get("allOf", ())]
    references = [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]
    for name in references:
        node = definitions[name] | node
    alternatives = [each for each in node.get("anyOf", ()) if each.get("type") != "null"]
    if len(alternatives) == 1:
        node = alternatives[0] | node
    dropped = {"$ref", "allOf", "anyOf", "title"} | {name for name in ("default",) if not _is_plain(node.get(name))}
    simple = {key: value for key, value in node.items() if key not in dropped}
    if len(alternatives) > 1:
        simple["anyOf"] = [_simplified(each, definitions) for each in alternatives]
    if "items" in simple:
        simple["items"] = _simplified(simple["items"], definitions)
    if "properties" in simple:
        simple["properties"] = {key: _described(each, definitions) for key, each in simple["properties"].items()}
    return simple


def _described(key: Schema, definitions: Schema) -> Schema:
    """The schema of a key, described by its meaning and the values that it takes."""
    meaning = key["title"]
    return _simplified(key, definitions) | {
        "description": f"{meaning[0].upper()}{meaning[1:]}. It takes {key['description']}."
    }


def _is_plain(default: object) -> bool:
    return isinstance(default, str | int | float)
