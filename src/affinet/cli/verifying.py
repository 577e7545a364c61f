"""`affinet verify`: do the weights in a file satisfy the rules of a plan?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.table import Table
from rich.text import Text
from safetensors import SafetensorError, safe_open

from affinet.cli.screen import Screen
from affinet.cli.words import counted, did_you_mean, one_paragraph
from affinet.errors import ModelFileError
from affinet.report.verification import Rounding, Verdict, Weight, verify
from affinet.system.planfile import read_system
from affinet.system.system import System


def verify_file(model: Path, plan: Path, screen: Screen) -> bool:
    """Show how far the weights in `model` are from each rule of `plan`; whether all hold.

    Only the weights that the rules speak of are read, those of one rule at a time, and nothing is planned. Raises
    PlanFileError and ModelFileError.
    """
    system = read_system(plan)
    with _opened(model) as file:
        file.check(system)
        verdicts = list(verify(system, file.weights))
    screen.results.print(_table(verdicts))
    screen.say(f"\n{conclusion(verdicts)}")
    return all(verdict.holds for verdict in verdicts)


def conclusion(verdicts: list[Verdict]) -> str:
    """What the verdicts come to, in one sentence."""
    wrong = [verdict for verdict in verdicts if not verdict.holds]
    if not verdicts:
        return "The plan has no rules, and these hold."
    if not wrong:
        worst = max(verdict.roundings for verdict in verdicts)
        return f"The rules hold: no equation is off by more than {worst:.2g} roundings of the weights in it."
    verb = "does" if len(wrong) == 1 else "do"
    bounds = " or ".join(f"{bound:g}" for bound in sorted({verdict.bound for verdict in wrong}))
    return (
        f"{len(wrong)} of {counted(len(verdicts), 'rule')} {verb} not hold: an equation is off by more than {bounds} "
        f"roundings of the weights in it."
    )


@dataclass(frozen=True)
class _ModelFile:
    path: Path
    file: Any

    def check(self, system: System) -> None:
        """Raise ModelFileError for the first weight that is missing or of another shape or kind."""
        names = list(self.file.keys())
        for parameter in system.layout.parameters:
            if parameter.name not in names:
                raise ModelFileError(
                    f"{self.path} has no weight {_plain(parameter.name)!r}, of which the plan speaks."
                    f"{did_you_mean(parameter.name, names)} Name the weights of the model that the plan was made for."
                )
            piece = self.file.get_slice(parameter.name)
            if tuple(piece.get_shape()) != parameter.shape:
                raise ModelFileError(
                    f"{parameter.name} in {self.path} has shape {tuple(piece.get_shape())}, and the plan speaks of one "
                    f"of shape {parameter.shape}. Name the weights of the model that the plan was made for."
                )
            if piece.get_dtype() not in ("F64", "F32", "F16", "BF16"):
                raise ModelFileError(
                    f"{parameter.name} in {self.path} is of type {piece.get_dtype()}; rules are about weights of "
                    f"F64, F32, F16 or BF16. Save the model as it was trained, not quantized."
                )

    def weights(self, names: frozenset[str]) -> Mapping[str, Weight]:
        """These weights, read now."""
        return {name: _weight(self.file.get_tensor(name)) for name in names}


@contextmanager
def _opened(path: Path) -> Iterator[_ModelFile]:
    if not path.is_file():
        raise ModelFileError(f"{path} {'is no file' if path.exists() else 'does not exist'}. Name a .safetensors file.")
    try:
        with safe_open(path, framework="pt") as file:
            yield _ModelFile(path, file)
    except (SafetensorError, OSError) as error:
        raise ModelFileError(
            f"{path} is no readable safetensors file: {one_paragraph(error)}. Save the weights with safetensors; files "
            f"of torch.save are never read, since reading one can run code."
        ) from None


def _weight(tensor: torch.Tensor) -> Weight:
    about = torch.finfo(tensor.dtype)
    wide = tensor if tensor.dtype == torch.float64 else tensor.float()  # exact for 16 bits, which NumPy may not know
    return Weight(wide.reshape(-1).numpy(), Rounding(float(about.eps), float(about.smallest_normal * about.eps)))


def _table(verdicts: list[Verdict]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("rule", overflow="fold")
    for heading in ("equations", "largest violation", "in roundings"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for verdict in verdicts:
        said = "holds" if verdict.holds else "does not hold"
        figures = (f"{verdict.equations:,}", f"{verdict.largest:.2g}", f"{verdict.roundings:.2g}")
        table.add_row(Text(_plain(verdict.name)), *figures, said)
    return table


def _plain(name: str) -> str:
    """A name from a file without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "�" for letter in name)
