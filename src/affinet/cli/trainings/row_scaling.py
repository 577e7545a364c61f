"""Scale the rows of a job to mean 0 and spread 1, and describe the scaling so that weights can be used on raw rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from affinet.cli.files.table_files import Array


@dataclass(frozen=True)
class Scaling:
    """The units that the weights of a job act on: features (rows - means) / spreads, from the train rows.

    In regression the target is scaled too; in classification `classes` are the values of the target, in the order of
    the network's outputs. The spread is the standard deviation, or 1 where all values are equal.
    """

    features: tuple[str, ...]
    means: Array
    spreads: Array
    target: str
    target_mean: float = 0.0
    target_spread: float = 1.0
    classes: Array | None = None

    def sentence(self) -> str:
        """What rules have to know, in one sentence."""
        return units_sentence(has_classes=self.classes is not None)

    def text(self) -> str:
        """The content of scaling.json."""
        if self.classes is None:
            target: dict[str, Any] = {"target_mean": self.target_mean, "target_spread": self.target_spread}
        else:
            target = {"classes": self.classes.tolist()}
        columns = {"features": list(self.features), "means": self.means.tolist(), "spreads": self.spreads.tolist()}
        return json.dumps({**columns, "target": self.target, **target}, indent=2, ensure_ascii=False) + "\n"


def scaling_of(
    features: Array, names: tuple[str, ...], target: str, numbers: Array | None, classes: Array | None
) -> Scaling:
    """The scaling by the train rows: `numbers` are their targets in regression, and None where there are `classes`."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    if numbers is None:
        return Scaling(names, scaler.mean_, scaler.scale_, target, classes=classes)
    of_target = StandardScaler().fit(numbers[:, None])
    return Scaling(names, scaler.mean_, scaler.scale_, target, float(of_target.mean_[0]), float(of_target.scale_[0]))


def units_sentence(*, has_classes: bool) -> str:
    """The units that rules are about, in one sentence."""
    return f"Weights act on features {'' if has_classes else 'and a target '}scaled to mean 0 and spread 1."
