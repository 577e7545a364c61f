"""Write docs/api.md, the list of all public names, from their signatures and docstrings.

    python -m tools.api_page

A test compares the page with what this writes, and every public name must stand in one section of `SECTIONS`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType

import affinet
from affinet import families, groups, scipy, testing
from tools import api_sources

PAGE = Path(__file__).parents[1] / "docs" / "api.md"

OPENING = """\
# All public names

Each name with its signature, the first sentence of its docstring, and the page that explains it.
`help(affinet.project)` prints the whole docstring. What is not listed here may change without notice.
This page is written by `python -m tools.api_page`.
"""


@dataclass(frozen=True)
class Section:
    """Public names of one module that are explained together; without `names`, all names of the module."""

    title: str
    explained: str
    module: ModuleType = affinet
    names: tuple[str, ...] = ()
    source: str = ""
    """The name of a module that is read from its source, since it imports libraries that need not be installed."""


SECTIONS = (
    Section(
        "Weights and rules",
        "[The language](language.md)",
        names=(
            *("weights", "Weights", "WeightGroup", "Expression", "stack", "concat", "einsum"),
            *("Constraint", "Rules", "between", "parse", "parse_lines", "equations", "families", "groups"),
        ),
    ),
    Section("Families: `affinet.families`", "[Families](language.md#families)", families),
    Section("Groups: `affinet.groups`", "[Named groups](language.md#named-groups)", groups),
    Section(
        "Plans",
        "[What the rules amount to](language.md#what-the-rules-amount-to), [diagnosis](diagnosis.md), "
        "[saving and checking](export.md)",
        names=("plan", "Plan", "explain", "simulate", "Explanation"),
    ),
    Section(
        "Training",
        "[How to choose](how-to-choose.md), [the method](theory.md), [trainers and optimizers](trainers.md)",
        names=("project", "Handle", "reparametrize", "Reparametrization", "bake", "Projector"),
    ),
    Section(
        "Training towards rules",
        "[Multipliers](multipliers.md)",
        names=("lagrange", "LagrangeHandle", "LagrangeWatch", "expectation", "ExpectedRule"),
    ),
    Section(
        "Watching",
        "[Watching a run](watching.md)",
        names=("Watch", "Observation", "Observer", "CsvLog", "TensorBoardLog", "WandbLog", "MlflowLog"),
    ),
    Section(
        "Errors and warnings: `affinet.errors`",
        "[Errors and warnings](errors.md)",
        names=("errors", *sorted(name for name in affinet.__all__ if name.endswith(("Error", "Warning")))),
    ),
    Section("JAX and Optax: `affinet.optax`", "[JAX](jax.md)", source="optax"),
    Section("Keras: `affinet.keras`", "[Keras](keras.md)", source="keras"),
    Section("SciPy: `affinet.scipy`", "[SciPy and MATLAB](scipy.md)", scipy),
    Section("scikit-learn: `affinet.sklearn`", "[scikit-learn](sklearn.md)", source="sklearn"),
    Section("skorch: `affinet.skorch`", "[Trainers and optimizers](trainers.md)", source="skorch"),
    Section(
        "transformers: `affinet.adapters.transformers`",
        "[Trainers and optimizers](trainers.md)",
        source="adapters.transformers",
    ),
    Section(
        "Tests of bindings: `affinet.testing`",
        "[Adding a framework](frameworks.md) and [Conformance](conformance.md)",
        testing,
    ),
    Section("Version", "[The changelog](../CHANGELOG.md)", names=("__version__",)),
)

UNPROMISED = {
    "Constraint": {"expression", "norm", "radius", "said", "sides"},
    "Expression": {"affine", "constant", "epsilon", "keys", "terms"},
    "PlanConstraints": {"form", "order"},
    "Case": {"limits"},
    "Plan": {"incidence", "system", "blocks"},
    "Projector": {"kernels"},
    "TreeProjector": {"arrays", "differentiable_project", "has_sets", "replaced", "tangent_part"},
    "Project": {
        *("apply", "build", "finalize_variable_values", "follow", "from_config", "get_config", "iterations"),
        *("learning_rate", "load_assets", "save_assets", "scale_loss", "variables", "inner_optimizer"),
    },
    "RuleLog": {"on_epoch_begin", "on_epoch_end", "on_train_batch_end", "on_train_begin", "on_train_end", "set_model"},
    "RulesCallback": {"on_pre_optimizer_step", "on_save", "on_train_begin", "on_train_end"},
    "ExpectedRule": {"bound", "function", "sense"},
    "LagrangeWatch": {"after_projection", "before_projection", "before_step", "wants_gradients"},
    "Watch": {"closes", "opens", "stepped", "wants_gradients"},
}
"""Members that other parts of affinet call, and that users have no need of."""


MADE_BY_USERS = (
    "RulesCallback",
    "CsvLog",
    "TensorBoardLog",
    "WandbLog",
    "MlflowLog",
    "LieElement",
    "RuleLog",
    "SignedPermutation",
)
"""Classes that users call; of the others, values are returned by functions."""


def page() -> str:
    """The whole page. Raises ValueError for public names that stand in no section, or in two."""
    listed = sorted(
        name for section in SECTIONS if not section.source and section.module is affinet for name in section.names
    )
    if listed != sorted(affinet.__all__):
        wrong = sorted({*listed} ^ {*affinet.__all__}) or [name for name in listed if listed.count(name) > 1]
        raise ValueError(f"each public name belongs in one of SECTIONS: {', '.join(wrong)}")
    return "\n".join([OPENING, *(line for section in SECTIONS for line in _section(section))])


def _section(section: Section) -> Iterator[str]:
    yield f"## {section.title}\n"
    yield f"Explained in {section.explained}.\n"
    listed = definitions(section)
    exceptions = [each.name for each in listed if each.is_exception]
    if exceptions:
        yield ", ".join(f"`{name}`" for name in exceptions) + ".\n"
    plain = [each for each in listed if not each.is_class]
    for each in plain:
        yield f"- `{each.name}{each.signature}`: {first_sentence(each.docstring)}"
    if plain:
        yield ""
    for each in listed:
        if each.is_class and not each.is_exception:
            signature = each.signature if each.name in MADE_BY_USERS else ""
            yield f"**`{each.name}{signature}`**: {first_sentence(each.docstring)}\n"
            members = [*_members(each)]
            yield from members
            if members:
                yield ""


def _members(definition: api_sources.Definition) -> Iterator[str]:
    if definition.fields:
        yield f"- values: {', '.join(f'`{name}`' for name in definition.fields)}"
    for member in definition.members:
        yield f"- `.{member.name}{member.signature or ''}`: {first_sentence(member.docstring)}"


def definitions(section: Section) -> list[api_sources.Definition]:
    """The names of a section with signatures, docstrings and promised members, in the order of the page."""
    if section.source:
        return [_promised(each) for each in api_sources.definitions(section.source)]
    names = section.names or sorted(section.module.__all__, key=str.lower)
    return [_promised(_definition(name, getattr(section.module, name))) for name in names]


def _promised(definition: api_sources.Definition) -> api_sources.Definition:
    unpromised = UNPROMISED.get(definition.name, set())
    return replace(
        definition,
        fields=tuple(name for name in definition.fields if name not in unpromised),
        members=tuple(member for member in definition.members if member.name not in unpromised),
    )


def _definition(name: str, value: object) -> api_sources.Definition:
    docstring = "the version of the package, as text." if isinstance(value, str) else inspect.getdoc(value) or ""
    if not inspect.isclass(value):
        return api_sources.Definition(name, _signature(value) if callable(value) else "", docstring)
    if issubclass(value, Exception):
        return api_sources.Definition(name, "", docstring, is_class=True, is_exception=True)
    names = [field.name for field in fields(value) if not field.name.startswith("_")] if is_dataclass(value) else []
    signature = _signature(value) if name in MADE_BY_USERS else ""
    return api_sources.Definition(name, signature, docstring, True, tuple(names), tuple(_live_members(value, names)))


def _live_members(kind: type, values: list[str]) -> Iterator[api_sources.Member]:
    for name, member in vars(kind).items():
        if name.startswith("_") or name in values:
            continue
        if isinstance(member, property | cached_property):
            yield api_sources.Member(name, None, inspect.getdoc(member) or "")
        elif isinstance(member, classmethod | staticmethod) or callable(member):
            bound = getattr(kind, name)
            yield api_sources.Member(name, _signature(bound), inspect.getdoc(bound) or "")


def _signature(value: object) -> str:
    """Names and defaults of the parameters, and the type of the result: `(rules, *, tolerance=None) -> Plan`."""
    signature = inspect.signature(value)  # type: ignore[arg-type]
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in signature.parameters.items()
        if name != "self"
    ]
    shown = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    returned = signature.return_annotation
    if returned in (None, inspect.Signature.empty, "Any", "None"):
        return shown
    return f"{shown} -> {str(returned).replace('torch.nn.', '')}"


def first_sentence(docstring: str) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", paragraph, maxsplit=1)[0]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
