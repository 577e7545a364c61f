"""Plan files: `plan.save(path)` and `affinet.Plan.load(path)`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import affinet
from affinet.errors import PlanFileError
from affinet.system.stored import planfile
from tests.errors.case import case
from tests.errors.symbols import K, W, b
from tests.plans.hostile_plans import contents, write_plan

SAVED = affinet.plan((W.sum(dim=1) == 1).named("rows sum to one"))


@case(PlanFileError, "The path is wrong.", "Give the path of a saved plan.")
def a_plan_that_does_not_exist(folder: Path) -> None:
    affinet.Plan.load(folder / "plan.safetensors")


@case(PlanFileError, "Something else than a path.", "Give the path as text.")
def a_path_that_is_none() -> None:
    affinet.Plan.load(3)  # type: ignore[arg-type]


@case(PlanFileError, "The path is that of a folder.", "Give the path of a saved plan.")
def a_folder_as_a_plan(folder: Path) -> None:
    (folder / "plan.safetensors").mkdir()
    affinet.Plan.load(folder / "plan.safetensors")


@case(
    PlanFileError,
    "You may not read the file, or the disk fails.",
    "Ask for the right to read it.",
    foreign="(?<=read: ).*(?=\\. Name)",
)
def a_plan_that_cannot_be_read(folder: Path) -> None:
    SAVED.save(folder / "plan.safetensors")

    def refused(self: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    with pytest.MonkeyPatch.context() as patch:  # root may read everything
        patch.setattr(Path, "open", refused)
        affinet.Plan.load(folder / "plan.safetensors")


@case(PlanFileError, "The file is of another kind: a pickle, a picture, text.", "Give the path of a saved plan.")
def a_pickle_as_a_plan(folder: Path) -> None:
    (folder / "plan.safetensors").write_bytes(b"\x80\x04\x95pickled")
    affinet.Plan.load(folder / "plan.safetensors")


@case(
    PlanFileError,
    "The file was cut short or damaged.",
    "Copy it again, or save the plan again.",
    foreign="(?<=file: ).*(?= It is)",
)
def half_a_plan(folder: Path) -> None:
    SAVED.save(folder / "plan.safetensors")
    whole = (folder / "plan.safetensors").read_bytes()
    (folder / "plan.safetensors").write_bytes(whole[:40])
    affinet.Plan.load(folder / "plan.safetensors")


@case(PlanFileError, "The file holds the weights of a model.", "Give the path of a saved plan.")
def weights_as_a_plan(folder: Path) -> None:
    save_file({"hidden.bias": np.zeros(3)}, folder / "model.safetensors")
    affinet.Plan.load(folder / "model.safetensors")


@case(
    PlanFileError,
    "A newer affinet wrote the file.",
    "Update affinet, or save the plan again.",
    foreign="(?<=affinet )[0-9][^ ]*(?= reads)",
)
def a_plan_of_another_format(folder: Path) -> None:
    affinet.Plan.load(write_plan(folder / "plan.safetensors", *contents(SAVED.system), version=6))


@case(PlanFileError, "The file was changed after it was written.", "Copy it again, or save the plan again.")
def a_plan_that_was_changed(folder: Path) -> None:
    affinet.Plan.load(write_plan(folder / "plan.safetensors", *contents(SAVED.system), checksum="0"))


@case(PlanFileError, "An array is missing.", "Copy the file again, or save the plan again.")
def a_plan_without_its_array(folder: Path) -> None:
    metadata = {planfile.FORMAT: json.dumps({"version": 1, "written_by": "", "checksum": "", "description": {}})}
    save_file({"1": np.zeros(2)}, folder / "plan.safetensors", metadata=metadata)
    affinet.Plan.load(folder / "plan.safetensors")


@case(PlanFileError, "An array has another shape or type.", "Copy the file again, or save the plan again.")
def a_plan_with_a_matrix(folder: Path) -> None:
    affinet.Plan.load(write_plan(folder / "plan.safetensors", {}, [np.zeros((2, 2))]))


@case(PlanFileError, "The metadata lack something.", "Copy the file again, or save the plan again.")
def a_plan_without_a_checksum(folder: Path) -> None:
    affinet.Plan.load(write_plan(folder / "plan.safetensors", *contents(SAVED.system), checksum=...))


@case(
    PlanFileError,
    "The metadata are no JSON.",
    "Copy the file again, or save the plan again.",
    foreign="(?<=JSON: ).*(?= It is)",
)
def a_plan_that_is_no_json(folder: Path) -> None:
    save_file({"0": np.zeros(2)}, folder / "plan.safetensors", metadata={planfile.FORMAT: "{"})
    affinet.Plan.load(folder / "plan.safetensors")


@case(PlanFileError, "The metadata hold NaN.", "Copy the file again, or save the plan again.")
def a_plan_that_holds_nan(folder: Path) -> None:
    save_file({"0": np.zeros(2)}, folder / "plan.safetensors", metadata={planfile.FORMAT: '{"version": NaN}'})
    affinet.Plan.load(folder / "plan.safetensors")


@case(PlanFileError, "A description beyond what is read.", "Say many rules of one kind as one.")
def a_plan_with_a_long_description(folder: Path) -> None:
    text = json.dumps("x" * planfile.LONGEST)
    save_file({"0": np.zeros(2)}, folder / "plan.safetensors", metadata={planfile.FORMAT: text})
    affinet.Plan.load(folder / "plan.safetensors")


@case(PlanFileError, "Someone wrote rules into the file that contradict each other.", "Save the plan again.")
def a_plan_of_contradictory_rules(folder: Path) -> None:
    description, rows = contents(affinet.plan([(b[0] == 0).named("zero"), (b[0] - b[0] == 0).named("one")]).system)
    description["rules"][1]["expression"]["constant"] = 1.0
    affinet.Plan.load(write_plan(folder / "plan.safetensors", description, rows))


@case(
    PlanFileError,
    "The folder does not exist, or you may not write there.",
    "Name another place.",
    foreign="(?<=written: ).*(?=\\. Name)",
)
def saving_into_a_missing_folder(folder: Path) -> None:
    SAVED.save(folder / "missing" / "plan.safetensors")


@case(PlanFileError, "Rules that take much memory to plan.", "Say how much, if you trust the file.")
def a_plan_that_takes_more_than_its_file_says(folder: Path) -> None:
    affinet.plan(b.sum() == 1).save(folder / "plan.safetensors")
    affinet.Plan.load(folder / "plan.safetensors", memory=100)


@case(PlanFileError, "The path is empty.", "Name a file.")
def saving_without_a_name() -> None:
    SAVED.save(os.curdir)


@case(PlanFileError, "Factors beyond 1e140 that others make up for.", "Multiply them before the rule is written.")
def saving_numbers_that_no_file_holds(folder: Path) -> None:
    affinet.plan(b * 1e150 * np.array([1e-100, 2e-100, 3e-100]) == 0).save(folder / "plan.safetensors")


@case(
    PlanFileError, "More rules than a file holds.", "Say many as one, with index arrays.", foreign=r"\d+(?= rules| MB)"
)
def saving_too_many_rules(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # 32 MB of rules take minutes to write
        patch.setattr(planfile, "LONGEST", 512)
        affinet.plan([b[0] == k / 2 - k / 2 for k in range(3)]).save(folder / "plan.safetensors")


MASKED = affinet.plan(K[np.arange(36).reshape(2, 2, 3, 3) % 7 < 3] == 0)


def _with_mask(folder: Path, **changes: int) -> None:
    """Load a plan whose one mask says something else."""
    description, rows = contents(MASKED.system)
    description["rules"][0]["expression"]["terms"][0]["variables"][0]["source"].update(changes)
    affinet.Plan.load(write_plan(folder / "plan.safetensors", description, rows, version=2))


@case(PlanFileError, "A mask of other length than its bits.", "Copy the file again, or save the plan again.")
def a_plan_with_a_mask_of_other_bits(folder: Path) -> None:
    _with_mask(folder, places=100)


@case(PlanFileError, "A mask that goes on beyond its places.", "Copy the file again, or save the plan again.")
def a_plan_with_a_mask_that_goes_on(folder: Path) -> None:
    description, rows = contents(MASKED.system)
    next(row for row in rows if row.dtype == np.uint8)[-1] |= 1
    affinet.Plan.load(write_plan(folder / "plan.safetensors", description, rows, version=2))


@case(PlanFileError, "A mask that its rule cannot run over.", "Copy the file again, or save the plan again.")
def a_plan_with_a_mask_of_no_step(folder: Path) -> None:
    _with_mask(folder, step=0)


@case(PlanFileError, "A rule from a family that is not known.", "Copy the file again, or save the plan again.")
def a_plan_with_an_origin_of_no_family(folder: Path) -> None:
    description, rows = contents(SAVED.system)
    description["rules"][0]["origin"] = {"family": "equivariance"}
    affinet.Plan.load(write_plan(folder / "plan.safetensors", description, rows, version=3))
