"""The package as a whole: its public names, what importing it costs, and that the lower floors run without torch."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import pytest

import affinet

HEAVY = ("torch", "numpy", "scipy", "safetensors", "sklearn", "polars", "pandas", "pydantic", "typer", "rich")
HEAVY += ("jax", "jaxlib", "optax", "keras", "tensorflow")

BLOCKED = """
import importlib, pkgutil, sys


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is blocked")


sys.meta_path.insert(0, NoTorch())
for package in ("language", "system", "blocks", "planning", "analysis", "plans"):
    package = importlib.import_module(f"affinet.{package}")
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
import affinet

w = affinet.weights({"a": (3, 4), "b": (4, 3)})
rules = [w.a == w.b.T, w.a.sum(dim=1) == 1]
print(affinet.plan(rules).rows, "torch" in sys.modules)
"""


MISSING = """
import sys


class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked}:
            raise ModuleNotFoundError(f"No module named {{{missing!r}!r}}", name={missing!r})


sys.meta_path.insert(0, Missing())
try:
    import affinet.{module}
except ImportError as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""
"""A module is imported where packages are blocked; `missing` is the one that Python reports."""


def python(code: str) -> str:
    """What a new interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def names_for_type_checkers() -> set[str]:
    """The names that the TYPE_CHECKING block of affinet/__init__.py imports."""
    tree = ast.parse(Path(affinet.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name for node in block.body for alias in node.names if isinstance(node, ast.ImportFrom)
    }


def test_no_module_takes_the_place_of_a_public_name() -> None:
    """A package affinet/plan/ would be what `affinet.plan` is once something of it was imported."""
    code = "import importlib, importlib.util, pkgutil, affinet\n"
    code += "public = {name: getattr(affinet, name) for name in affinet.__all__}\n"
    code += "for module in pkgutil.walk_packages(affinet.__path__, 'affinet.'):\n"
    code += "    if not module.name.startswith(('affinet.__main__', 'affinet.adapters')):\n"
    code += "        try:\n"
    code += "            importlib.import_module(module.name)\n"
    code += "        except ModuleNotFoundError as missing:\n"
    code += "            package = missing.name.partition('.')[0]\n"
    code += "            assert package != 'affinet' and importlib.util.find_spec(package) is None, missing\n"
    code += "print([name for name, value in public.items() if getattr(affinet, name) is not value])\n"
    assert python(code).strip() == "[]"


def test_no_public_name_imports_the_compiler_of_torch() -> None:
    """torch._dynamo takes over a second; torch's own optimizers import it when one is made."""
    code = "import sys, torch, affinet\nbefore = set(sys.modules)\n"
    code += "for name in affinet.__all__: getattr(affinet, name)\n"
    code += "print(sorted({'torch._dynamo', 'sklearn', 'numba'} & (set(sys.modules) - before)))"
    assert python(code).strip() == "[]"


def test_importing_affinet_imports_nothing_heavy() -> None:
    loaded = json.loads(python("import json, sys, affinet; print(json.dumps(sorted(sys.modules)))"))
    assert not [name for name in loaded if name in HEAVY]


@pytest.mark.parametrize(
    ("module", "blocked", "missing", "way_out"),
    [
        ("optax", ["jax", "optax"], "jax", 'pip install "affinet[jax]"'),
        ("optax", ["jax", "optax"], "optax", 'pip install "affinet[jax]"'),
        ("keras", ["keras"], "keras", 'pip install "affinet[keras]"'),
        ("keras", ["keras"], "tensorflow", 'pip install "affinet[keras-tf]"'),
    ],
)
def test_a_missing_package_is_reported_with_its_extra(
    module: str, blocked: list[str], missing: str, way_out: str
) -> None:
    said = python(MISSING.format(module=module, blocked=blocked, missing=missing))
    assert said.startswith(f"MissingPackageError: affinet.{module} needs the package {missing}, which is not installed")
    assert way_out in said


def test_a_missing_package_that_is_in_no_extra_stays_the_error_of_python() -> None:
    said = python(MISSING.format(module="keras", blocked=["keras"], missing="ml_dtypes"))
    assert said.startswith("ModuleNotFoundError: No module named 'ml_dtypes'")


def test_the_floors_below_kernels_work_without_torch() -> None:
    assert python(BLOCKED).split() == ["15", "False"]


@pytest.mark.parametrize("name", affinet.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(affinet, name) is not None
    assert name in dir(affinet)


def test_type_checkers_see_every_public_name() -> None:
    assert names_for_type_checkers() | {"__version__"} == set(affinet.__all__)


def test_every_error_is_public() -> None:
    family = [
        name
        for name, value in vars(affinet.errors).items()
        if isinstance(value, type) and value.__module__ == affinet.errors.__name__
    ]
    assert set(family) <= set(affinet.__all__)


def test_modules_do_not_hide_functions() -> None:
    import affinet.plans.plan

    assert callable(affinet.plan)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"module 'affinet' has no attribute 'projekt'; it has .*project"):
        _ = affinet.projekt


def test_the_version_is_the_installed_one() -> None:
    assert importlib.metadata.version("affinet") == affinet.__version__
