"""Every way by which bytes come in, as a target."""

from __future__ import annotations

import atexit
import io
import json
import shutil
import tempfile
from functools import cache
from math import prod
from pathlib import Path
from random import Random

import numpy as np
from rich.console import Console
from safetensors import safe_open
from safetensors.numpy import save_file

import affinet
from affinet.cli.files.distributed_weights import METADATA
from affinet.cli.files.matrix_files import read_matrix, read_vector
from affinet.cli.files.modelfile import open_model
from affinet.cli.files.polynomial_files import read_polynomials
from affinet.cli.files.stored_weight import TYPES
from affinet.cli.files.table_files import read_examples
from affinet.cli.jobs.jobfile import read_job
from affinet.cli.screen import Screen
from affinet.cli.verifying import verify_file
from affinet.errors import AffinetError, DataError, ModelFileError, PlanFileError
from affinet.system.malformed import Malformed
from affinet.system.stored import planfile
from affinet.system.stored.description import system_of
from tests.fuzz import mutations
from tests.fuzz.target import Target
from tests.plans.hostile_plans import write_plan

MODEL = {"hidden1.weight": (4, 3), "hidden1.bias": (4,), "layers.0.weight": (4, 4), "layers.1.weight": (2, 3, 3, 3)}
"""What rules in a text or in a job are about."""

CHECKPOINT = Path(__file__).parents[1] / "cli" / "files" / "weights" / "checkpoint"
"""A folder that torch.distributed.checkpoint wrote."""
WORDS = (
    b"hidden1.weight", b"hidden1.bias", b"layers[0].weight", b"layers[1].weight", b"w", b'w["hidden1.weight"]', b".T",
    b".mT", b".sum(", b".sum(dim=1)", b".mean(", b".cumsum(0)", b".diagonal()", b".diff(1)", b".flatten()", b".flip(0)",
    b".permute(1, 0)", b".reshape(", b".roll(1)", b".trace()", b".transpose(0, 1)", b".tril()", b".triu(1)",
    b"concat([", b"stack([", b"det(", b"inverse(", b"exp(", b"sqrt(", b".norm(dim=1)", b".square()", b".log()", b"**2",
    b"**-1", b"**0.5", b"orthogonal(", b"unit_norm(", b"wavelet(", b"product(",
    b"symmetric(", b"banded(", b"circulant(", b"equivariant(", b"fix(", b"share(", b"sum_to(", b"tie(",
    b"SO(3)", b"Lorentz()", b"S(2)", b".T(1)", b".dual", b"groups.", b"inputs=", b"outputs=",
    b"rotations(", b"moments(", b"convolution(", b"block_diagonal(", b"where=", b"value=", b"dim=", b"==", b"@", b"...",
    b"None", b"True", b"lambda:", b"**", b"1j", b"''", b"\x00", b"\xff", b"\xef\xbb\xbf", "\u2028\u0661".encode(),
    b"\n", b"[", b"]", b"(", b")", b",", b":", b"-", b"+", b"*", b"/", b"0.1", b"1e308", b"1e-320",
)  # fmt: skip
TOML = (
    b"[data]", b"[model]", b"[train]", b"[[rule]]", b"[rule]", b"source", b"target", b"hidden", b"factory", b"says",
    b"matrix", b"weights", b"rhs", b"options", b"name", b"=", b"\n", b"\n[a", b'"', b'"""', b"'", b"[[", b"]]", b"{",
    b"}", b",", b".", b"1979-05-27T07:32:00Z", b"true", b"inf", b"nan", b"\\u0000", b"\\U0010FFFF", b"\x00", b"\xff",
    b"#", b"\xef\xbb\xbf", b"\x1b[2J", b"a = 1\n", b'"a"."b"', b"9" * 5000,
)  # fmt: skip
MARKET = (
    b"%%MatrixMarket", b"matrix", b"vector", b"coordinate", b"array", b"real", b"integer", b"complex", b"pattern",
    b"unsigned-integer", b"general", b"symmetric", b"skew-symmetric", b"hermitian", b"\n", b"%", b" ", b"1.5", b"-1",
    b"0",
)  # fmt: skip
COMMAS = (b",", b"\n", b"\r\n", b'"', b"\t", b";", b"a", b"1.5", b"-1e5", b"nan", b"inf", b"", b"#", b"\x00", b"\xff",
          b"\xef\xbb\xbf", b"true", b"2020-01-01", b"1_000", b"0x10", b"kind", b" ")  # fmt: skip


def _parse(path: Path) -> object:
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    try:
        return str(affinet.parse_lines(text, _weights()))
    except AffinetError:
        rule = affinet.parse(text, _weights())
        return str(rule), repr(rule)


def _job(path: Path) -> object:
    job = read_job(path)
    for number, rule in enumerate(job.job.rule):
        if rule.says is not None:
            affinet.parse(rule.says, _weights())
        str(job.mistake(("rule", number), "is here"))
    for name, text in job.job.rules.items():
        affinet.parse(text, _weights())
        str(job.mistake(("rules", name), "is here"))
    return job


def _matrix(path: Path) -> object:
    """As a rule of a job reads it: what was read must bear being used."""
    found = read_matrix(path)
    columns = found.shape[1]
    rule = affinet.families.linear([affinet.weights({"w": (columns,)}).w], found, 0.0)
    try:
        read_vector(path)
    except DataError:
        return rule
    return rule


def _polynomials(path: Path) -> object:
    """As a rule of a job reads them: what was read must bear being used."""
    table = read_polynomials(path)
    return affinet.families.polynomial([affinet.weights({"w": (50,)}).w], table)


def _table(path: Path) -> object:
    return read_examples(path, "kind")


def _verify(path: Path) -> object:
    return verify_file(path, _plan_file(), Screen(Console(file=io.StringIO()), Console(file=io.StringIO())))


def _weights_of_model(path: Path) -> object:
    """All weights of a file, as `affinet verify` reads those of a plan."""
    with open_model(path) as model:
        known = {name: each for name, each in model.stored.items() if each.kind in TYPES.values()}
        for name, each in known.items():
            if prod(each.shape) < 2**20:  # a plan has the shape, and memory for it, before a weight is read
                model.weights(frozenset([name]))
        return sorted(known)


def _distributed_weights(path: Path) -> object:
    """All weights of a folder of torch.distributed.checkpoint, of which the table of pieces is the input."""
    shutil.copy(path, _checkpoint() / METADATA)
    return _weights_of_model(_checkpoint())


def _judged(path: Path) -> object:
    return verify_file(_model_file(), path, Screen(Console(file=io.StringIO()), Console(file=io.StringIO())))


def _plan(path: Path) -> object:
    return str(affinet.Plan.load(path))


def _matlab_plan(path: Path) -> object:
    return str(affinet.Plan.from_mat(path))


SAFETENSORS = {
    name: np.dtype(name)
    for name in ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
}
"""What the rows of a plan can come as."""


class Undescribed(AffinetError):
    """A description that is none: what `read_system` makes a PlanFileError of."""


def _restored(path: Path) -> object:
    try:
        said = json.loads(path.read_bytes())
        description = said["description"]
        rows = [np.array(row, SAFETENSORS[kind]) for kind, row in said["rows"]]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, RuntimeWarning):
        return None  # no way in: the rows of a plan are read as numbers by safetensors
    try:
        return str([rule.expression for rule in system_of(description, rows).every])
    except (Malformed, RecursionError) as error:
        raise Undescribed(str(error)) from error


def _tampered_plan(data: bytes, random: Random) -> bytes:
    """A plan that says something else, its checksum right."""
    if random.random() < 0.2:
        return mutations.of_safetensors(data, random)
    path = _scratch() / "changed.safetensors"
    path.write_bytes(data)
    try:
        with safe_open(path, framework="numpy") as file:
            description = json.loads((file.metadata() or {})[planfile.FORMAT])["description"]
            rows = [np.array(file.get_tensor(str(number))) for number in range(len(file.keys()))]
    except Exception:  # noqa: BLE001  whatever is wrong with an input, its bytes can be changed
        return mutations.of_bytes(data, random)
    if rows and random.random() < 0.3:
        row = rows[random.randrange(len(rows))].reshape(-1)
        if row.size:
            number = random.choice((0, 1, -1, 7, 2**31 - 1, -(2**31)))
            wide = random.choice((1e300, np.nan, np.inf, 1e139, 5e-324))
            row[random.randrange(row.size)] = wide if row.dtype.kind == "f" else number
    else:
        description = mutations.changed_value(description, random)
    try:
        write_plan(path, description, [row for row in rows if row.dtype.name in ("float64", "int32", "int64")])
    except Exception:  # noqa: BLE001
        return mutations.of_bytes(data, random)
    return path.read_bytes()


@cache
def _weights() -> affinet.Weights:
    return affinet.weights(MODEL)


@cache
def _scratch() -> Path:
    folder = tempfile.mkdtemp(prefix="affinet-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def model_rules() -> list[affinet.Constraint]:
    """What the weights in the seeds of the target `model` satisfy."""
    w = affinet.weights({"a": (2, 3), "b": (3,)})
    return [(w.a.sum(1) == 1).named("sums"), w.a[0] == 2 * w.b]


@cache
def _plan_file() -> Path:
    path = _scratch() / "plan.safetensors"
    affinet.plan(model_rules()).save(path)
    return path


@cache
def _model_file() -> Path:
    """Weights of the shapes that the seeds of the target `plan` speak of."""
    path = _scratch() / "model.safetensors"
    random = np.random.default_rng(0)
    save_file({name: random.normal(size=shape) for name, shape in {"a": (6, 8), "b": (8, 6), "c": (5,)}.items()}, path)
    return path


@cache
def _checkpoint() -> Path:
    """A folder with the pieces that the seeds of the target `pieces` list."""
    return shutil.copytree(CHECKPOINT, _scratch() / "checkpoint")


_DATA = (DataError, affinet.ShapeError, affinet.TooLargeError)
TARGETS = (
    Target("text", ".txt", _parse, (AffinetError,), mutations.of_text(WORDS)),
    Target("job", ".toml", _job, (AffinetError,), mutations.of_text(TOML + WORDS)),
    Target("plan", ".safetensors", _plan, (PlanFileError,), _tampered_plan),
    Target("npz", ".npz", _matrix, _DATA, mutations.of_npz),
    Target("mat", ".mat", _matrix, _DATA, mutations.of_mat),
    Target("structs", ".mat", _polynomials, (*_DATA, affinet.NotAffineError), mutations.of_mat),
    Target("equations", ".mat", _matlab_plan, (PlanFileError,), mutations.of_mat),
    Target("npy", ".npy", _matrix, _DATA, mutations.of_npy),
    Target("mtx", ".mtx", _matrix, _DATA, mutations.of_text(MARKET)),
    Target("model", ".safetensors", _verify, (ModelFileError,), mutations.of_safetensors),
    Target("flax", ".msgpack", _weights_of_model, (ModelFileError,), mutations.of_bytes),
    Target("keras", ".weights.h5", _weights_of_model, (ModelFileError,), mutations.of_bytes, changes=30),
    Target("pieces", ".metadata", _distributed_weights, (ModelFileError,), mutations.of_bytes),
    Target("verify", ".safetensors", _judged, (PlanFileError, ModelFileError, affinet.TooLargeError), _tampered_plan),
    Target("csv", ".csv", _matrix, _DATA, mutations.of_text(COMMAS)),
    Target("table", ".csv", _table, (DataError,), mutations.of_text(COMMAS)),
    Target("parquet", ".parquet", _table, (DataError,), mutations.of_bytes, changes=30),  # a process each
    Target("description", ".json", _restored, (Undescribed,), mutations.of_json),
)
"""In the order in which a long run takes them."""

NAMED = {target.name: target for target in TARGETS}
