"""`python -m tests.fuzz.seeds` writes the seeds of every target: small valid inputs, each of another form."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import scipy.io
import scipy.sparse
from safetensors.numpy import save

import affinet
from affinet import families
from affinet.cli.files.distributed_weights import METADATA
from affinet.system.stored.description import described
from tests.cli.conftest import SMALL
from tests.cli.jobs.test_jobfile import FROM_THE_README
from tests.fuzz.target import CORPUS
from tests.fuzz.targets import CHECKPOINT, NAMED

WEIGHTS = Path(__file__).parents[1] / "cli" / "files" / "weights"
"""Files that Keras and Flax wrote."""
A = np.array([[1.0, 0.0, -2.5], [0.0, 3.0, 0.0]])
W = affinet.weights({"a": (6, 8), "b": (8, 6), "c": (5,)})
TEXTS = (
    "hidden1.weight[0, 1] == hidden1.weight[2, 0]",
    "hidden1.weight.sum(dim=1) == 1",
    'w["layers.0.weight"] == layers[0].weight.T  # symmetric',
    "3 * hidden1.bias[0] - hidden1.bias[1] / 2 == 0.5",
    "layers[0].weight @ [1, 2, 3, 4] == hidden1.bias",
    "layers[1].weight[..., ::2, -1].flip(0).roll(1) == 0",
    "concat([hidden1.weight.flatten(), hidden1.bias]).cumsum(0).diff()[:3].mean() == 1e-3",
    "stack([hidden1.bias, hidden1.bias])[0, None].reshape(2, 2).permute(1, 0).tril().trace() == 0",
    "symmetric(layers[0].weight)",
    "share(hidden1.weight, [[0, 0, 1], [1, 2, 2], [0, 1, 2], [3, 3, 3]])",
    "fix(hidden1.weight[:2], where=[[True, False, True], [False, False, False]], value=2)",
    "sum_to(hidden1.weight, 1, dim=0)",
    "tie(hidden1.bias, layers[0].weight[0])",
    "banded(layers[0].weight, 1)",
    "circulant(layers[0].weight)",
    "moments(layers[1].weight, 1)",
    "equivariant(layers[0].weight, inputs=[[1, 0, 3, 2]], outputs=[[1, 0, 3, 2]])",
    "equivariant(layers[0].weight, inputs=SO(2).T(2), outputs=2 * SO(2).T(1).dual)",
    "equivariant(hidden1.bias, outputs=D(2).T(1) @ S(2).T(1) + groups.Z(1).T(0)**2)",
    "layers[0].weight.transpose(0, 1).mT.triu(1).diagonal()[[0, 2]] == [1, 2]",
    "-inf <= layers[0].weight.sum(dim=1) - hidden1.bias[0]",
    "between([0, -inf, 0, 0.5], hidden1.bias, inf)",
    "monotone(layers[0].weight, dim=0, increasing=False, gap=1e-3)",
    "l1_ball(layers[1].weight, radius=[1, 2], dim=(1, 2))",
    "transport(layers[0].weight, 1, columns=1)",
    "layers[0].weight**2 @ hidden1.bias == sqrt(2) * hidden1.bias.square().norm()",
    "det(layers[0].weight) / (1 + hidden1.bias[0])**-3 == 2**-1 - exp(sin(hidden1.bias[1])) * log(3)",
    'inverse(layers[0].weight)[0] == einsum("ij,j->i", layers[0].weight, hidden1.bias).tanh().cos().reciprocal()',
    'orthogonal(hidden1.weight, of="columns")',
    "unit_norm(layers[1].weight, dim=(1, 2), value=[1, 2, 3])",
    "wavelet(hidden1.bias, moments=2)",
)
RULES = (
    W.a == W.b.T,
    (W.a.sum(1) == 1).named("rows"),
    W.c[0] == 2 * W.c[1] + 0.5,
    W.a[[0, 3, 1]][:, [1, 2, 5]] == 0.25,
    W.a.cumsum(0)[-1] == np.arange(8.0) / 8,
    families.linear([W.a, W.c], np.random.default_rng(0).integers(-2, 3, (3, 53)), 1),
    (W.a @ W.b[:, 1:] @ W.c - W.a[:, 0] * W.c[0] == 1).named("products"),
    1 / (1 + W.c**2) == (W.c * [2.0, 1.0, 3.0, 1.0, 4.0]).sin(),
    families.orthogonal(W.a),
)


def write_seeds() -> None:
    """Every seed, in place of those of before; inputs that once went wrong stay."""
    for name in NAMED:
        folder = CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("seed-*"):
            old.unlink()
        for number, content in enumerate(_SEEDS[name]()):
            (folder / f"seed-{number:02}{NAMED[name].suffix}").write_bytes(content)


def _texts() -> Iterator[bytes]:
    yield from (text.encode() for text in TEXTS)


def _jobs() -> Iterator[bytes]:
    yield SMALL.encode()
    yield FROM_THE_README.encode()
    yield b'data = { source = "t.csv", target = "kind" }\n[model]\nfactory = "mine:net"\n[[rule]]\nsays = """\n' + (
        TEXTS[4].encode() + b'"""\n[[rule]]\nmatrix = \'A.mat\'\nvariable = "A"\nrhs = 0x10\nweights = [\n  "a",\n]\n'
    )


def _plans() -> Iterator[bytes]:
    path = Path(CORPUS / "unfinished.safetensors")
    for rules in (*RULES, RULES[:3]):
        affinet.plan(rules).save(path)
        yield path.read_bytes()
    path.unlink()


def _descriptions() -> Iterator[bytes]:
    for rules in (*RULES, RULES[:3]):
        description, rows = described(affinet.plan(rules).system)
        yield json.dumps(
            {"description": description, "rows": [[row.dtype.name, row.tolist()] for row in rows]}
        ).encode()


def _npys() -> Iterator[bytes]:
    for array in (A, A.astype(">f4"), np.asfortranarray(A.astype(np.int8)), A > 0, A[0], np.float16(2.0)):
        file = io.BytesIO()
        np.save(file, array)
        yield file.getvalue()


def _npzs() -> Iterator[bytes]:
    for save_as in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save_as(file, A=A)
        yield file.getvalue()
    for kind in ("csr", "csc", "coo", "bsr", "dia"):
        file = io.BytesIO()
        scipy.sparse.save_npz(file, scipy.sparse.coo_array(A).asformat(kind), compressed=kind == "csr")
        yield file.getvalue()


def _structs() -> Iterator[bytes]:
    """Systems of polynomials as arrays of structs and as cells, and one in a table."""
    polynomial = {
        "typeCone": -1,
        "supports": np.array([[2, 0], [0, 2]]),
        "coef": np.array([[1.0], [-1.0]]),
        "name": "p",
    }
    kinds = [(name, float) if name == "typeCone" else (name, object) for name in polynomial]
    array = np.array([tuple(polynomial.values())] * 2, dtype=kinds)
    cells = np.array([{**polynomial, "supports": scipy.sparse.csc_array(np.eye(2))}, polynomial], dtype=object)
    for content, compressed in ((array, False), (array, True), (polynomial, False), (cells, False), (A, False)):
        file = io.BytesIO()
        scipy.io.savemat(file, {"system": content}, do_compression=compressed)
        yield file.getvalue()


def _mats() -> Iterator[bytes]:
    sparse = scipy.sparse.csc_array(A)
    for content, compressed in ((A, False), (A, True), (A.astype(np.uint8), False), (sparse, False), (sparse, True)):
        file = io.BytesIO()
        scipy.io.savemat(file, {"A": content}, do_compression=compressed)
        yield file.getvalue()
    file = io.BytesIO()
    scipy.io.savemat(file, {"A": A, "text": "words", "cell": np.array([A, "a"], dtype=object), "struct": {"a": A}})
    yield file.getvalue()
    for content in (A, sparse):
        file = io.BytesIO()
        scipy.io.savemat(file, {"A": content}, format="4")
        yield file.getvalue()
    yield b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n" + bytes(64)


def _matlab_plans() -> Iterator[bytes]:
    """Plans as affinet writes them, compressed, and matrices with the least that MATLAB has to say of them."""
    path = Path(CORPUS / "unfinished.mat")
    rules = [*RULES[:3], affinet.between(-1, W.c, [1, 2, 3, 4, np.inf]), W.a.sum(0) >= -8]
    for order in ("row-major", "column-major"):
        affinet.plan(rules).to_mat(path, column_order=order)
        yield path.read_bytes()
    content = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    path.unlink()
    structs = np.array([[("w", np.array([[3.0]]))]], [("name", "O"), ("shape", "O")])
    least = {"weights": structs, "column_order": "row-major", "A": A, "b": np.array([[1.0, 2.0]]), "lb": np.zeros(3)}
    for each, compressed in ((content, True), (least, False), (least, True)):
        file = io.BytesIO()
        scipy.io.savemat(file, each, do_compression=compressed)
        yield file.getvalue()


def _markets() -> Iterator[bytes]:
    yield b"%%MatrixMarket matrix array real general\n% a comment\n2 3\n1\n0\n0\n3\n-2.5\n0\n"
    yield b"%%MatrixMarket matrix coordinate real general\n2 3 3\n1 1 1.0\n2 2 3e0\n1 3 -2.5\n"
    yield b"%%MatrixMarket matrix coordinate pattern symmetric\n3 3 2\n2 1\n3 3\n"
    yield b"%%MatrixMarket matrix array integer skew-symmetric\n3 3\n1\n2\n3\n"
    yield b"%%MatrixMarket matrix coordinate complex hermitian\n2 2 1\n2 1 1.0 2.0\n"


def _matrices_in_text() -> Iterator[bytes]:
    yield b"1,0,-2.5\n0,3,0\n"
    yield b"\xef\xbb\xbf1.5\r\n2e-3\r\n"
    yield b"# a comment\n1,2\n\n3,4"


def _tables() -> Iterator[bytes]:
    yield b"length,width,old,kind\n1.5,2,true,owl\n-0.5,1e3,false,cat\n"
    yield b'\xef\xbb\xbf"a, b",kind\r\n1,0\r\n2,1\r\n,1\r\n'
    yield b"a,b,kind\n1,x,2.5\n2,y,3.5\n"
    yield b"a,b,kind\n1,7,2.5\n2,1e5,3.5\n"


def _parquets() -> Iterator[bytes]:
    frame = pl.DataFrame(
        {"length": [1.5, 2.5, -1.0], "count": [1, 2, 3], "old": [True, False, True], "kind": list("aba")}
    )
    for compression in ("uncompressed", "snappy", "zstd", "gzip", "lz4"):
        file = io.BytesIO()
        frame.write_parquet(file, compression=compression)
        yield file.getvalue()
    file = io.BytesIO()
    pl.DataFrame({"a": [[1, 2], [3]], "kind": [None, 1]}).write_parquet(file)
    yield file.getvalue()


def _models() -> Iterator[bytes]:
    state = {"a": np.array([[0.5, 0.25, 0.25], [1.0, 1.0, -1.0]]), "b": np.array([0.25, 0.125, 0.125])}
    for dtype in (np.float64, np.float32, np.float16):
        yield save({name: value.astype(dtype) for name, value in state.items()}, {"format": "pt"})
    yield save({**state, "c": np.zeros((0, 3)), "d": np.arange(3)})
    header = json.dumps(
        {
            "a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
            "b": {"dtype": "BF16", "shape": [3], "data_offsets": [12, 18]},
        }
    ).encode()
    yield struct.pack("<Q", len(header)) + header + bytes(18)


def _flax() -> Iterator[bytes]:
    yield from (path.read_bytes() for path in sorted(WEIGHTS.glob("*.msgpack")))


def _keras() -> Iterator[bytes]:
    yield (WEIGHTS / "functional.weights.h5").read_bytes()
    with zipfile.ZipFile(WEIGHTS / "sequential.keras") as archive:
        yield archive.read("model.weights.h5")


def _pieces() -> Iterator[bytes]:
    written = (CHECKPOINT / METADATA).read_bytes()
    yield written
    yield pickle.dumps(pickle.loads(written), protocol=2)  # names of classes in the form of Python 2


_SEEDS = {
    "text": _texts, "job": _jobs, "plan": _plans, "npz": _npzs, "mat": _mats, "npy": _npys, "mtx": _markets,
    "model": _models, "csv": _matrices_in_text, "table": _tables, "parquet": _parquets, "description": _descriptions,
    "verify": _plans, "structs": _structs, "equations": _matlab_plans, "flax": _flax, "keras": _keras,
    "pieces": _pieces,
}  # fmt: skip

if __name__ == "__main__":
    write_seeds()
