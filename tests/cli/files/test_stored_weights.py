"""Weights of NumPy, Keras, Flax and Orbax: read by name as they were saved, and refused where a name is not certain.

The files in `weights/` were written by Keras 3.15, Flax 0.12 and NumPy: weight k of a model of Keras, in its order,
holds (1000 k + position) / 8.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import affinet as library
from affinet.analysis.rule_values import Weight
from affinet.cli.files import safetensors_weights
from affinet.cli.files.modelfile import open_model
from affinet.errors import ModelFileError
from affinet.system.layout import Layout
from tests.cli.conftest import Command

h5py = pytest.importorskip("h5py")
msgpack = pytest.importorskip("msgpack")

FILES = Path(__file__).parent / "weights"
BN = "batch_normalization"
SEQUENTIAL = {
    "first/kernel": (4, 3), "first/bias": (3,), f"{BN}/gamma": (3,), f"{BN}/beta": (3,), f"{BN}/moving_mean": (3,),
    f"{BN}/moving_variance": (3,), "dense/kernel": (3, 2), "dense/bias": (2,),
}  # fmt: skip
FUNCTIONAL = {
    "att/query/kernel": (6, 1, 2), "att/query/bias": (1, 2), "att/key/kernel": (6, 1, 2), "att/key/bias": (1, 2),
    "att/value/kernel": (6, 1, 2), "att/value/bias": (1, 2), "att/attention_output/kernel": (1, 2, 6),
    "att/attention_output/bias": (6,), "inner/d/kernel": (6, 6), "inner/d/bias": (6,),
    "memory/lstm_cell/kernel": (6, 8),
    "memory/lstm_cell/recurrent_kernel": (2, 8), "memory/lstm_cell/bias": (8,), "norm/gamma": (2,), "norm/beta": (2,),
}  # fmt: skip
"""The weights of the files in the order of `model.weights`, as `path` names them there."""


def layout(shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    return Layout.of(library.plan([w == 0 for w in library.weights(shapes)]).parameters)


def read(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Weight]:
    with open_model(path) as model:
        model.check(layout(shapes))
        return model.weights(frozenset(shapes))


def refusal(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> str:
    with pytest.raises(ModelFileError) as caught:
        read(path, shapes)
    return str(caught.value)


@pytest.mark.parametrize("prefix", ["", "sequential/"])
def test_a_keras_archive_is_read_by_the_paths_of_its_weights(prefix: str) -> None:
    shapes = {prefix + name: shape for name, shape in SEQUENTIAL.items()}
    weights = read(FILES / "sequential.keras", shapes)
    for number, (name, shape) in enumerate(shapes.items()):
        wanted = (1000 * number + np.arange(np.prod(shape))) / 8
        spacing = weights[name].rounding.spacing
        if name.startswith(f"{prefix}dense/"):
            assert spacing == 2.0**-7  # bfloat16 keeps 8 bits: off by half a spacing at most
            np.testing.assert_allclose(weights[name].numbers, wanted, rtol=spacing / 2)
        else:
            assert spacing == np.finfo(np.float32).eps
            np.testing.assert_array_equal(weights[name].numbers, wanted)


def test_layers_inside_of_layers_are_read() -> None:
    weights = read(FILES / "functional.weights.h5", FUNCTIONAL)
    for number, (name, shape) in enumerate(FUNCTIONAL.items()):
        np.testing.assert_array_equal(weights[name].numbers, (1000 * number + np.arange(np.prod(shape))) / 8)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_may_be_compressed(tmp_path: Path, compression: int) -> None:
    with zipfile.ZipFile(FILES / "sequential.keras") as before:
        content = before.read("model.weights.h5")
    with zipfile.ZipFile(tmp_path / "model.keras", "w", compression) as archive:
        archive.writestr("model.weights.h5", content)
    assert read(tmp_path / "model.keras", {"first/bias": (3,)})["first/bias"].numbers[0] == 125


def changed(tmp_path: Path, change: Any) -> Path:
    path = tmp_path / "model.weights.h5"
    shutil.copy(FILES / "functional.weights.h5", path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def two_layers_of_one_name(file: Any) -> None:
    for name in ("multi_head_attention", "lstm"):
        file.copy("layers/layer_normalization", f"layers/{name}/layer_normalization")
    del file["layers/layer_normalization"]


def no_names(file: Any) -> None:
    del file["layers/lstm/vars"].attrs["name"]


def a_class_that_is_not_known(file: Any) -> None:
    file.move("layers/layer_normalization", "layers/my_normalization")


def a_layer_without_gamma(file: Any) -> None:
    file.move("layers/layer_normalization", "layers/batch_normalization")
    file["layers/batch_normalization/vars/2"] = np.zeros(2, np.float32)


def whole_numbers(file: Any) -> None:
    del file["layers/layer_normalization/vars/0"]
    file["layers/layer_normalization/vars/0"] = np.zeros(2, np.int8)


def numbers_elsewhere(file: Any) -> None:
    del file["layers/layer_normalization/vars/0"]
    file["layers/layer_normalization/vars"].create_dataset("0", (2,), "f4", external=[("other.bin", 0, 8)])


def a_link_to_another_file(file: Any) -> None:
    del file["layers/layer_normalization/vars/0"]
    file["layers/layer_normalization/vars/0"] = h5py.ExternalLink("other.h5", "/numbers")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (two_layers_of_one_name, "has 2 weights whose names end in 'norm/gamma': "),
        (no_names, "does not name its layers, as files of older versions of Keras. Write numpy.savez"),
        (a_class_that_is_not_known, "has no weight 'norm/gamma'"),
        (a_layer_without_gamma, "has no weight 'norm/gamma'"),
        (whole_numbers, "norm/gamma in {} is of type int8"),
        (numbers_elsewhere, "has numbers in other files"),
        (a_link_to_another_file, "has no weight 'norm/gamma'"),
    ],
)
def test_a_weight_whose_numbers_are_not_certain_is_refused(tmp_path: Path, change: Any, told: str) -> None:
    path = changed(tmp_path, change)
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["numbers"] = np.ones(2)
    assert told.format(path) in refusal(path, {"norm/gamma": (2,)})


def test_a_layer_of_the_model_comes_before_one_of_that_name_inside_of_another(tmp_path: Path) -> None:
    def with_inner(file: Any) -> None:
        file.copy("layers/layer_normalization", "layers/sequential/layers/layer_normalization")
        file["layers/sequential/layers/layer_normalization/vars/1"][...] = 7

    path = changed(tmp_path, with_inner)
    weights = read(path, {"norm/beta": (2,), "inner/norm/beta": (2,)})
    assert (weights["norm/beta"].numbers[0], weights["inner/norm/beta"].numbers[0]) == (1750, 7)


def test_the_way_out_for_layers_of_ones_own_is_named() -> None:
    told = refusal(FILES / "functional.weights.h5", {"mine/gate": (2,)})
    assert "save all by name, numpy.savez('weights.npz', **{v.path: v for v in model.weights})" in told


def test_the_weights_of_the_optimizer_are_not_those_of_the_model(tmp_path: Path) -> None:
    def with_optimizer(file: Any) -> None:
        file.copy("layers/layer_normalization", "optimizer")

    path = changed(tmp_path, with_optimizer)
    assert read(path, {"norm/beta": (2,)})["norm/beta"].numbers[0] == 1750


FLAX = {"Dense_0.kernel": (3, 2), "Dense_0.bias": (2,), "Dense_1.kernel": (2, 1)}


@pytest.mark.parametrize("name", ["params", "state", "pieces"])
def test_flax_bytes_are_read_by_the_names_of_the_tree(name: str) -> None:
    """Variables with `params` and `batch_stats`, a TrainState with Adam's, and arrays in pieces."""
    weights = read(FILES / f"{name}.msgpack", FLAX)
    np.testing.assert_array_equal(weights["Dense_0.kernel"].numbers, np.arange(6) / 8)
    np.testing.assert_array_equal(weights["Dense_0.bias"].numbers, 1 + np.arange(2) / 8)
    np.testing.assert_array_equal(weights["Dense_1.kernel"].numbers, [0, 0.125])
    assert weights["Dense_1.kernel"].rounding.spacing == 2.0**-7


def packed(shape: Any, dtype: str, content: bytes) -> Any:
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, content)))


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        ({"a": packed((2, 3), "float32", bytes(20))}, "an array of float32 and shape (2, 3) has 20 bytes"),
        ({"a": packed((2**40,), "float32", b"")}, "has 0 bytes"),
        ({"a": packed((-2, -3), "float32", bytes(24))}, "does not say its shape"),
        ({"a": packed((2, 3), 7, bytes(24))}, "does not say its shape"),
        ({"a": packed((2, 3), "int32", bytes(24))}, "a in {} is of type int32"),
        ({"a": packed((2, 3), "object", bytes(48))}, "a in {} is of type object"),
        ({"a": msgpack.ExtType(9, b"")}, "has no weight 'a'"),
        ({"a": [1.0]}, "has no weight 'a'"),
        ({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 6}, "chunks": {"0": 1}}}, "do not fit together"),
        ({"a": {"__msgpack_chunked_array__": True, "shape": {"0": 6}}}, "is not a readable msgpack file of Flax"),
    ],
)
def test_hostile_flax_bytes(tmp_path: Path, tree: Any, told: str) -> None:
    path = tmp_path / "model.msgpack"
    path.write_bytes(msgpack.packb(tree))
    assert told.format(path) in refusal(path, {"a": (2, 3)})


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", ">f4"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_are_read_by_name(tmp_path: Path, dtype: str, save: Any) -> None:
    array = np.arange(6.0).reshape(2, 3).astype(dtype)
    save(tmp_path / "weights.npz", **{"layer/kernel": np.asfortranarray(array), "z": np.zeros(3)})
    weight = read(tmp_path / "weights.npz", {"layer/kernel": (2, 3)})["layer/kernel"]
    np.testing.assert_array_equal(weight.numbers, np.arange(6))
    assert weight.rounding.spacing == np.finfo(dtype).eps


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.ones((3, 2)), "a in {} has shape (3, 2), and the plan needs shape (2, 3)"),
        (np.ones((2, 3), np.int32), "a in {} is of type int32"),
        (np.ones((2, 3), complex), "a in {} is of type complex128"),
        (np.ones((2, 3), "V2"), "a in {} is of type void16"),
    ],
)
def test_arrays_that_are_not_weights_of_the_plan(tmp_path: Path, array: Any, told: str) -> None:
    np.savez(tmp_path / "weights.npz", a=array)
    assert told.format(tmp_path / "weights.npz") in refusal(tmp_path / "weights.npz", {"a": (2, 3)})


@pytest.mark.parametrize("suffix", [".npz", ".keras", ".weights.h5", ".msgpack"])
@pytest.mark.parametrize(
    "content", [b"", b"\x93NUMPY", b"PK\x03\x04" + bytes(100), bytes(200), b"\x89HDF\r\n\x1a\n" + bytes(90)]
)
def test_damaged_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    assert refusal(path, {"a": (2, 3)}).startswith(str(path))


@pytest.mark.parametrize("suffix", [".npz", ".keras", ".h5", ".msgpack", ".safetensors"])
def test_missing_files_are_named(tmp_path: Path, suffix: str) -> None:
    told = refusal(tmp_path / f"none{suffix}", {"a": (2, 3)})
    kinds = safetensors_weights.KINDS
    assert told == f"{tmp_path}/none{suffix} does not exist. Name {kinds}."


def test_a_zip_archive_without_weights(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({}))
    assert "is a zip archive without model.weights.h5" in refusal(tmp_path / "model.keras", {"a": (2,)})


def test_a_bomb_is_not_unfolded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affinet.system.unfolding.MOST_UNFOLDED", 2**16)
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes(2**22))
    assert "and at most" in refusal(tmp_path / "model.keras", {"a": (2,)})


@pytest.mark.parametrize(("suffix", "module"), [(".h5", "h5py"), (".keras", "h5py"), (".msgpack", "msgpack")])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, module: str) -> None:
    (tmp_path / f"model{suffix}").write_bytes(b"x")
    monkeypatch.setitem(sys.modules, module, None)
    told = refusal(tmp_path / f"model{suffix}", {"a": (2,)})
    assert f"is read with the package {module}, which is not installed. Run pip install {module}" in told


def test_verify_judges_them_all(affinet: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    w = library.weights({"Dense_0.kernel": (3, 2)})["Dense_0.kernel"]
    plan = library.plan((w.sum(dim=0) == [0.75, 1.125]).named("columns"))
    plan.save(tmp_path / "plan")
    for name, holds in (("params", True), ("state", True)):
        result = affinet("verify", FILES / f"{name}.msgpack", tmp_path / "plan")
        assert result.exit_code == (not holds), result.output
    given = {"Dense_0.kernel": rng.standard_normal((3, 2))}
    for arrays, holds in ((plan.projector(given).project(given), True), (given, False)):
        np.savez(tmp_path / "weights.npz", **arrays)
        result = affinet("verify", tmp_path / "weights.npz", tmp_path / "plan")
        assert (result.exit_code, "columns" in result.stdout) == (not holds, True), result.output
    library.plan(library.weights({"first/bias": (3,)})["first/bias"].sum() == 375.375).save(tmp_path / "plan")
    assert affinet("verify", FILES / "sequential.keras", tmp_path / "plan").exit_code == 0


def test_files_of_other_frameworks_need_no_torch(tmp_path: Path) -> None:
    library.plan(library.weights({"first/bias": (3,)})["first/bias"].sum() == 375.375).save(tmp_path / "plan")
    code = (
        "import sys\nfrom affinet.cli.main import app\n"
        f"sys.argv = ['affinet', 'verify', {str(FILES / 'sequential.keras')!r}, {str(tmp_path / 'plan')!r}]\n"
        "try: app()\nexcept SystemExit as exit: print(exit.code, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n")[-2] in ("0 False", "None False"), ran.stdout


def test_folders_without_a_checkpoint_and_with_several(tmp_path: Path) -> None:
    assert "is a folder without weights of a kind that is read: a .safetensors file" in refusal(tmp_path, {"a": (2,)})
    for step in ("10", "20"):
        (tmp_path / step / "default").mkdir(parents=True)
        (tmp_path / step / "default" / "_METADATA").write_text("{}")
    told = refusal(tmp_path, {"a": (2,)})
    assert "holds 2 checkpoints of Orbax: 10/default, 20/default. Name the folder of one of them." in told


ORBAX = """
import sys
from pathlib import Path
import jax.numpy as jnp
import orbax.checkpoint as ocp

folder = Path(sys.argv[1])
first, second = {"kernel": jnp.arange(6.0).reshape(3, 2) / 8}, {"kernel": jnp.ones((2, 1), jnp.bfloat16)}
params = {"Dense_0": first, "Dense_1": second}
ocp.PyTreeCheckpointer().save(folder / "plain", {"params": params, "step": 3, "momentum": params})
with ocp.CheckpointManager(folder / "managed") as manager:
    manager.save(10, args=ocp.args.StandardSave({"params": params}))
    manager.wait_until_finished()
ocp.PyTreeCheckpointer().save(folder / "nnx", {"Dense_0": {"kernel": {"value": jnp.arange(6.0).reshape(3, 2) / 8}}})
from affinet.cli.files import safetensors_weights
from affinet.cli.files.modelfile import open_model
for name in ("plain", "managed", "managed/10/default", "nnx"):
    with open_model(folder / name) as model:
        weight = model.weights(frozenset(["Dense_0.kernel"]))["Dense_0.kernel"]
        kinds = {key: (each.shape, each.kind) for key, each in model.stored.items()}
        print(name, weight.numbers.tolist(), sorted(kinds.items()), "torch" in sys.modules)
(folder / "plain" / "_METADATA").write_text("{")
try:
    with open_model(folder / "plain") as model:
        model.weights(frozenset(["Dense_0.kernel"]))
except Exception as error:
    print(type(error).__name__, error)
"""


def test_checkpoints_of_orbax_are_read(tmp_path: Path) -> None:
    pytest.importorskip("orbax.checkpoint")
    code, environment = [sys.executable, "-c", ORBAX, str(tmp_path)], {**os.environ, "JAX_PLATFORMS": "cpu"}
    ran = subprocess.run(code, capture_output=True, text=True, check=False, env=environment)
    lines = ran.stdout.splitlines()
    assert len(lines) == 5, ran.stderr
    both = "[('Dense_0.kernel', ((3, 2), 'F32')), ('Dense_1.kernel', ((2, 1), 'BF16'))]"
    numbers = (np.arange(6) / 8).tolist()
    for line, name in zip(lines, ("plain", "managed", "managed/10/default"), strict=False):
        assert line == f"{name} {numbers} {both} False"
    assert lines[3] == f"nnx {numbers} [('Dense_0.kernel', ((3, 2), 'F32'))] False"
    assert lines[4].startswith(f"ModelFileError {tmp_path}/plain is not a readable checkpoint of Orbax")
