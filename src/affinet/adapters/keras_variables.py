"""The weights of a Keras model by name: the path of a variable, without the name of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from affinet.adapters.keras_guards import Guard
from affinet.errors import AttachError, RuleError, UnknownWeightError
from affinet.language.calculus.terms import Parameter
from affinet.language.computed import Refusal
from affinet.language.expression import weight
from affinet.language.weights import Weights
from affinet.plans.plan import Plan

NOT_TRAINED = (
    "Rules hold for trained weights: those of a frozen layer are trained after layer.trainable = True; statistics such "
    "as moving means are computed by their layer and never trained. Its values can be numbers in rules."
)


def weights(model: Any) -> Weights:
    """The trainable weights of a Keras model, for rules: `w["dense/kernel"].sum(dim=0) == 1`.

    Kernels of Keras have the axes (in, out). Raises AttachError for a model that is not built or not of Keras,
    RuleError where two weights have one name; a weight that is not trainable is refused when it is asked for.
    """
    trainable = trainable_variables(model)
    fixed = [v for v in model.variables if not v.trainable]
    refused = {name_of(model, v): Refusal(name_of(model, v), "it is not trainable", NOT_TRAINED) for v in fixed}
    symbols = {name: weight(Parameter(name, tuple(v.shape))) for name, v in trainable.items()}
    return Weights(symbols, {}, refused)


def trainable_variables(model: Any) -> dict[str, Any]:
    """Name → variable, in the order of the model. Errors: as `weights`."""
    check_model(model)
    if not getattr(model, "built", True) or not model.variables:
        raise AttachError(
            f"the model {model.name!r} has no weights yet. Start it with keras.Input(shape), or call "
            f"model.build(input_shape) or the model itself before its rules are written."
        )
    named: dict[str, Any] = {}
    for variable in model.trainable_variables:
        name = name_of(model, variable)
        if name in named:
            raise RuleError(
                f"two weights of the model {model.name!r} have the name {name!r}. Give their layers different names: "
                f"keras.layers.Dense(…, name=…)."
            )
        named[name] = variable
    return named


def check_model(model: Any) -> None:
    """Raise AttachError for what is not a model or layer of Keras."""
    if isinstance(model, keras.Layer):
        return
    of_torch = any(kind.__module__.startswith("torch.") for kind in type(model).__mro__)
    raise AttachError(
        f"{type(model).__name__} is not a model of Keras. Give the model first: affinet.keras.weights(model), "
        f"affinet.keras.project(model, optimizer, rules)."
        f"{' For models of torch, it is affinet.weights and affinet.project.' if of_torch else ''}"
    )


def name_of(model: Any, variable: Any) -> str:
    """The path of a variable, without the name of the model."""
    return str(variable.path).removeprefix(f"{model.name}/")


def checked_variables(model: Any, plan: Plan) -> dict[str, Any]:
    """Name → variable of the weights that rules are about, in a training.

    Raises AttachError where one is missing, not trainable, of another shape, or has a constraint of Keras.
    """
    variables = checked_shapes(model, plan)
    for name, variable in variables.items():
        if variable.constraint is not None and not isinstance(variable.constraint, Guard):
            raise AttachError(
                f"{name!r} has rules, and the constraint {type(variable.constraint).__name__} of its layer too. Keras "
                f"applies constraints after the step, which the rules would undo. Write the constraint as a rule."
            )
    return variables


def checked_shapes(model: Any, plan: Plan) -> dict[str, Any]:
    """Name → variable of the weights that rules are about.

    Raises AttachError where one is missing, not trainable, or of another shape.
    """
    trainable = trainable_variables(model)
    for parameter in plan.parameters:
        name, variable = parameter.name, trainable.get(parameter.name)
        if variable is None:
            if name in {name_of(model, v) for v in model.variables}:
                raise AttachError(f"the rules are about {name!r}, which is not trainable. {NOT_TRAINED}")
            raise AttachError(
                f"the rules are about a weight that the model does not have: "
                f"{UnknownWeightError(name, list(trainable))}"
            )
        if tuple(variable.shape) != parameter.shape:
            raise AttachError(
                f"the rules are about {name!r} of shape {parameter.shape}, and it has shape {tuple(variable.shape)}. "
                f"Make the rules from affinet.keras.weights of this very model."
            )
    return {parameter.name: trainable[parameter.name] for parameter in plan.parameters}


def numbers(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values of variables on the host, those of 16 bits in float32."""
    arrays = {name: np.asarray(ops.convert_to_numpy(v)) for name, v in variables.items()}
    return {name: x if x.dtype in (np.float32, np.float64) else x.astype(np.float32) for name, x in arrays.items()}
