"""Weights in several `.safetensors` files, with an index or in a folder: each is read where one rule needs it."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import affinet as library
from affinet.analysis.rule_values import Weight
from affinet.cli.files import safetensors_weights
from affinet.cli.files.stored_weight import weight_of_bytes
from affinet.report import verification
from affinet.system.system import System
from tests.cli.conftest import Command

INDEX = "model.safetensors.index.json"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a plan about two weights, and weights that satisfy it."""
    w = library.weights({"a": (2, 3), "b": (3,)})
    library.plan([w.a.sum(1) == 1, w.a[0] == 2 * w.b]).save(tmp_path / "plan")
    state = {"a": torch.tensor([[0.5, 0.25, 0.25], [1.0, 1.0, -1.0]]), "b": torch.tensor([0.25, 0.125, 0.125])}
    save_file(state, tmp_path / "model")
    return tmp_path


def sharded(folder: Path, **weight_map: object) -> Path:
    """The weights of `saved` in two files, and their index, which says what `weight_map` says in place of the truth."""
    state = load_file(folder / "model")
    for number, (name, value) in enumerate(state.items(), start=1):
        save_file({name: value}, folder / f"{number}.safetensors")
    places = {name: f"{number}.safetensors" for number, name in enumerate(state, start=1)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places | weight_map}))
    return index


def test_weights_in_several_files(affinet: Command, saved: Path) -> None:
    assert affinet("verify", sharded(saved), saved / "plan").exit_code == 0
    save_file({"b": torch.zeros(3)}, saved / "2.safetensors")
    assert affinet("verify", saved / "model.safetensors.index.json", saved / "plan").exit_code == 1


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("../1.safetensors", "puts 'a' into '../1.safetensors', which is not a file name in its folder."),
        ("/etc/passwd", "which is not a file name in its folder."),
        ("..\\\\1.safetensors", "which is not a file name in its folder."),
        ("..", "is a folder, not a file."),
        ("", "which is not a file name in its folder."),
        (7, "puts 'a' into 7, which is not a file name in its folder."),
        ("none.safetensors", "none.safetensors does not exist."),
        ("2.safetensors", "puts 'a' into 2.safetensors, which does not hold it."),
        ("plan.txt", "is not a readable safetensors file"),
    ],
)
def test_an_index_that_lies(affinet: Command, saved: Path, place: object, told: str) -> None:
    (saved / "plan.txt").write_text("no weights")
    result = affinet("verify", sharded(saved, a=place), saved / "plan")
    assert result.exit_code == 2, result.output
    assert told in result.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not an index of weights: "),
        ("[" * 100_000, "is not an index of weights: "),
        ("[]", "it has no table 'weight_map' of names and files"),
        ('{"weight_map": []}', "it has no table 'weight_map' of names and files"),
        ('{"weight_map": {}}', "has no weight 'a', which the plan needs."),
    ],
)
def test_an_index_that_is_none(affinet: Command, saved: Path, text: str, told: str) -> None:
    (saved / "index.json").write_text(text)
    result = affinet("verify", saved / "index.json", saved / "plan")
    assert (result.exit_code, told in result.stderr) == (2, True), result.output
    assert "does not exist" in affinet("verify", saved / "none.json", saved / "plan").stderr


def test_the_folder_of_an_index_may_be_named(affinet: Command, saved: Path) -> None:
    """As transformers and torch's HuggingFaceStorageWriter name them; one file without an index, too."""
    index = sharded(saved)
    for number in (1, 2):
        (saved / f"{number}.safetensors").rename(saved / f"model-0000{number}-of-00002.safetensors")
    places = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index.write_text(json.dumps({"metadata": {"total_size": 36}, "weight_map": places}))
    assert affinet("verify", saved, saved / "plan").exit_code == 0
    index.unlink()
    told = affinet("verify", saved, saved / "plan").stderr
    assert "holds 2 files of weights: model-00001-of-00002.safetensors, model-00002-of-00002" in told
    (saved / "model").rename(saved / "model.safetensors")
    assert affinet("verify", saved, saved / "plan").exit_code == 0
    index.write_text("{}")
    assert f"holds 2 files of weights: model.safetensors, {INDEX}" in affinet("verify", saved, saved / "plan").stderr


def test_an_index_that_is_not_certain(affinet: Command, saved: Path) -> None:
    index = sharded(saved)
    save_file(load_file(saved / "model"), saved / "2.safetensors")
    told = affinet("verify", index, saved / "plan").stderr
    assert "puts 'a' into 1.safetensors, and 2.safetensors holds it too" in told
    index.write_text('{"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "a": "2.safetensors"}}')
    assert "lists 'a' twice" in affinet("verify", index, saved / "plan").stderr


def test_a_shard_that_ends_too_early_is_named(affinet: Command, saved: Path) -> None:
    index = sharded(saved)
    size = (saved / "2.safetensors").stat().st_size
    with (saved / "2.safetensors").open("rb+") as file:
        file.truncate(size - 1)
    result = affinet("verify", index, saved / "plan")
    assert result.exit_code == 2
    assert f"{saved}/2.safetensors is not a readable safetensors file" in result.stderr


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_quantized_weights_are_refused_by_name(affinet: Command, saved: Path, dtype: torch.dtype) -> None:
    save_file({"a": torch.zeros(2, 3).to(dtype), "b": torch.zeros(3)}, saved / "model")
    result = affinet("verify", saved / "model", saved / "plan")
    assert result.exit_code == 2
    assert "rules are about weights of F64, F32, F16 or BF16. Save the model as it was trained" in result.stderr


def layered(folder: Path, layers: int, rows: int, columns: int) -> dict[str, tuple[int, int]]:
    """Weights of zeros in bfloat16, both ends tied, each layer in its own shard; the files take no room on the disk."""
    shapes = {"embedding": (rows, columns), "head": (rows, columns)}
    places = dict.fromkeys(shapes, "ends.safetensors")
    for layer in range(layers):
        shapes[f"layers.{layer}.weight"] = (rows, columns)
        places[f"layers.{layer}.weight"] = f"{layer}.safetensors"
    for place in dict.fromkeys(places.values()):
        names = [name for name in shapes if places[name] == place]
        size = 2 * rows * columns
        fields = {
            name: {"dtype": "BF16", "shape": shapes[name], "data_offsets": [k * size, (k + 1) * size]}
            for k, name in enumerate(names)
        }
        header = json.dumps(fields).encode()
        with (folder / place).open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            file.truncate(8 + len(header) + len(names) * size)
    (folder / INDEX).write_text(json.dumps({"weight_map": places}))
    w = library.weights(shapes)
    rules = [w["embedding"] == w["head"], *(w[f"layers.{k}.weight"].sum(dim=1) == 0 for k in range(layers))]
    library.plan(rules).save(folder / "plan")
    return shapes


def test_no_more_than_the_weights_of_one_rule_are_in_memory(
    affinet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = layered(tmp_path, 5, 8, 4)
    held: list[weakref.ref[Any]] = []
    most, total = 0, 0
    real = safetensors_weights.read_bytes

    def recorded(path: Path, first: int, count: int) -> Any:
        nonlocal most, total
        content = real(path, first, count)
        held.append(weakref.ref(content))
        most, total = max(most, sum(each() is not None for each in held)), total + count
        return content

    monkeypatch.setattr(safetensors_weights, "read_bytes", recorded)
    assert affinet("verify", tmp_path, tmp_path / "plan").exit_code == 0
    assert (most, total) == (2, len(shapes) * 8 * 4 * 2)  # the tied ends, and each weight once


@pytest.mark.parametrize("most", [5, 64, 2**21])
def test_parts_of_large_rules_are_judged_as_the_whole(
    affinet: Command, saved: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Equations, inequalities and balls of several axes, over slices, transposes and dense matrices."""
    rng = np.random.default_rng(0)
    w = library.weights({"a": (6, 4), "b": (4, 6)})
    rules = [
        w.a == w.b.T,
        w.a.sum(dim=1) == rng.standard_normal(6),
        rng.standard_normal((5, 6)) @ w.a <= 0,
        w.a.reshape(-1)[3:20] == w.b.reshape(-1)[:17],
        library.families.l2_ball(w.a, np.arange(1.0, 7.0), dim=1),
        library.families.l1_ball(w.b, 0.1),
        (w.a * w.a).sum(dim=0) == 1,
    ]
    system = System.of(rules)
    shapes = {"a": (6, 4), "b": (4, 6)}
    bytes_of = {
        name: rng.standard_normal(shape).astype(np.float32).reshape(-1).view(np.uint8) for name, shape in shapes.items()
    }

    def read(names: frozenset[str]) -> dict[str, Weight]:
        return {name: weight_of_bytes(bytes_of[name], "F32") for name in names}

    whole = list(verification.verify(system, read))
    monkeypatch.setattr(verification, "MOST_AT_ONCE", most)
    assert list(verification.verify(system, read)) == whole
    assert not any(verdict.holds for verdict in whole)


MEMORY = """
import resource, sys
from pathlib import Path
from affinet.analysis import rule_values
from affinet.cli.main import app
from affinet.report import verification
verification.MOST_AT_ONCE = rule_values.MOST_PAIRS = 2**18
status = {line.split(":")[0]: line for line in Path("/proc/self/status").read_text().splitlines()}
before = int(status["VmHWM"].split()[1]) * 1024
sys.argv = ["affinet", "verify", *sys.argv[1:]]
try: app()
except SystemExit as exit: code = exit.code or 0
status = {line.split(":")[0]: line for line in Path("/proc/self/status").read_text().splitlines()}
print(code, int(status["VmHWM"].split()[1]) * 1024 - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts memory as Linux does")
def test_a_model_is_verified_in_much_less_memory_than_it_has_bytes(tmp_path: Path) -> None:
    """A gigabyte in 15 shards: 128 MB are the tied ends, up to 50 MB are evaluated at once, some 70 MB is imported."""
    shapes = layered(tmp_path, 14, 8192, 4096)
    w = library.weights(shapes)
    rules = [w["embedding"] == w["head"], *(w[f"layers.{k}.weight"][7] == 0 for k in range(14))]
    library.plan(rules).save(tmp_path / "plan")
    command = [sys.executable, "-c", MEMORY, str(tmp_path), str(tmp_path / "plan")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    code, grown = map(int, ran.stdout.splitlines()[-1].split())
    assert code == 0, ran.stdout
    assert grown < 3 * 2**27 < len(shapes) * 8192 * 4096 * 2 / 2
