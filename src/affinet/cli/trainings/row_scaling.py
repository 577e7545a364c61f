"""Scale the rows of a job to mean 0 and spread 1, and describe the scaling so that weights can be used on raw rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from affinet.cli.files.table_files import Array
from affinet.cli.trainings.encoding import Encoding


@dataclass(frozen=True)
class Scaling:
    """The units that the weights of a job act on: features (rows - means) / spreads, from the train rows.

    In regression the target is scaled too; in classification `classes` are the values of the target, in the order of
    the network's outputs. The spread is the standard deviation, or 1 where all values are equal. `encoding` says how
    columns of text become features, which stay 0 and 1: their mean is 0 here, and their spread 1.
    """

    encoding: Encoding
    means: Array
    spreads: Array
    target: str
    target_mean: float = 0.0
    target_spread: float = 1.0
    classes: Array | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        return self.encoding.names

    def sentence(self) -> str:
        """What rules have to know, in one sentence."""
        return units_sentence(has_classes=self.classes is not None, has_text=bool(self.encoding.categories))

    def text(self) -> str:
        """The content of scaling.json. The columns of the table are in it where some of them are text."""
        if self.classes is None:
            target: dict[str, Any] = {"target_mean": self.target_mean, "target_spread": self.target_spread}
        else:
            target = {"classes": self.classes.tolist()}
        columns: dict[str, Any] = {
            "features": list(self.features),
            "means": self.means.tolist(),
            "spreads": self.spreads.tolist(),
        }
        if texts := self.encoding.categories:
            columns |= {"columns": list(self.encoding.columns), "categories": {k: list(v) for k, v in texts.items()}}
        return json.dumps({**columns, "target": self.target, **target}, indent=2, ensure_ascii=False) + "\n"


def scaling_of(
    features: Array, encoding: Encoding, target: str, numbers: Array | None, classes: Array | None
) -> Scaling:
    """The scaling by the train rows: `numbers` are their targets in regression, and None where there are `classes`."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    means, spreads = scaler.mean_, scaler.scale_
    if encoding.categories:  # weights of categories can be compared with each other only where none is scaled
        means, spreads = (np.where(encoding.of_text, unit, x) for x, unit in ((means, 0.0), (spreads, 1.0)))
    if numbers is None:
        return Scaling(encoding, means, spreads, target, classes=classes)
    of_target = StandardScaler().fit(numbers[:, None])
    return Scaling(encoding, means, spreads, target, float(of_target.mean_[0]), float(of_target.scale_[0]))


def units_sentence(*, has_classes: bool, has_text: bool) -> str:
    """The units that rules are about, in one sentence."""
    text = ", and on categories as 0 and 1" if has_text else ""
    return f"Weights act on features {'' if has_classes else 'and a target '}scaled to mean 0 and spread 1{text}."
