"""An optimizer of Keras whose steps obey the rules of a plan: it wraps another one, as LossScaleOptimizer does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from affinet.adapters.keras_averages import averaging_of, keeps_averages
from affinet.adapters.keras_guards import Guard, refuse_step
from affinet.adapters.keras_replicas import check_strategy, count_replicas, summed, write
from affinet.adapters.keras_steps import Counts, Sandwich, described, flat, library_of_backend
from affinet.adapters.keras_variables import check_model, checked_variables, numbers
from affinet.errors import AttachError
from affinet.kernels.arrays.coupled_entries import coupled_entries
from affinet.language.constraint import Constraint
from affinet.plans.plan import Plan, plan

PLAN_FILE = "plan.safetensors"


def project(
    model: Any, optimizer: Any, rules: Plan | Constraint | Iterable[Constraint], *, keep_gradients: bool = False
) -> Project:
    """The optimizer for `model.compile`, whose steps end on the rules and at their optimum.

    Moves the weights of the model to the nearest point that satisfies the rules. `optimizer` is one of Keras, or its
    name; clipping, decoupled decay, `use_ema` and `gradient_accumulation_steps` are options of it. Build the model
    before, and give each model an optimizer of its own. With `keep_gradients` the gradients of the last step are kept,
    as many numbers as the rules have weights: `RuleLog(multipliers=True)` needs them.
    Raises AttachError for other arguments, for a model without weights, for weights that are missing, not trainable or
    have a constraint, for an optimizer that was built before, and outside of the scope of the model's MirroredStrategy;
    InfeasibleError for rules that cannot hold; RuleError for what is not a rule. From then on a step of any other
    optimizer on weights of the rules raises AttachError, on JAX it warns, until `remove_rules(model)`.
    """
    check_model(model)
    inner = _optimizer_of(optimizer)
    if isinstance(inner, keras.optimizers.LossScaleOptimizer | Project):
        raise AttachError(
            f"{type(inner).__name__} cannot be inside of affinet.keras.project. Give the optimizer that it wraps: for "
            f"mixed precision, keras.optimizers.LossScaleOptimizer(affinet.keras.project(model, optimizer, rules))."
        )
    if inner.built:
        raise AttachError(
            f"the optimizer {inner.name!r} was built before, so that it belongs to another training. Make a new one "
            f"for this model."
        )
    library_of_backend()
    check_strategy(model)
    made = rules if isinstance(rules, Plan) else plan(rules)
    variables = checked_variables(model, made)
    arrays = numbers(variables)
    placed = made.projector(arrays).project(arrays)
    for name, variable in variables.items():
        variable.assign(placed[name])
    projecting = Project(inner, keep_gradients=keep_gradients)
    projecting.follow(made, model, variables)
    return projecting


def remove_rules(model: Any) -> None:
    """Let any optimizer train the weights of a model of Keras again.

    Until then the steps of other optimizers on weights that have rules are refused. An optimizer that
    `affinet.keras.project` returned goes on to keep its rules: compile the model with another one. Without rules
    nothing changes. Raises AttachError for what is not a model of Keras.
    """
    check_model(model)
    for variable in model.variables:
        if isinstance(variable.constraint, Guard):
            variable.constraint = None


def _optimizer_of(optimizer: Any) -> Any:
    """The optimizer itself, or a new one for a name or a configuration. Raises AttachError for anything else."""
    reason: Exception | None = None
    try:
        made = None if isinstance(optimizer, type) else keras.optimizers.get(optimizer)
    except (TypeError, ValueError) as error:
        made, reason = None, error
    if not isinstance(made, keras.optimizers.Optimizer):
        shown = f"{optimizer!r:.60}" if isinstance(optimizer, str) else type(optimizer).__name__
        if isinstance(optimizer, type):
            shown = f"the class {optimizer.__name__}"
        raise AttachError(
            f"affinet.keras.project takes a model, its optimizer and the rules; {shown} is not an optimizer of Keras "
            f'and not the name of one. Give one such as keras.optimizers.Adam(1e-3), or "adam".'
        ) from reason
    return made


@dataclass
class _Ruled:
    """What the trackers of Keras and TensorFlow leave alone: the rules, and which variables they are about."""

    sandwich: Sandwich | None = None
    indices: tuple[int, ...] = ()
    shapes: tuple[tuple[tuple[int, ...], str], ...] = ()
    states: tuple[Any, ...] = ()
    counts: tuple[Any, ...] = ()
    gradients: tuple[Any, ...] = ()
    coupled: dict[frozenset[str], dict[str, np.ndarray]] = field(default_factory=dict)
    guard: Guard | None = None


def _outside_of_graphs(method: Callable[..., None]) -> Callable[..., None]:
    """The method as it is, also where torch compiles the training step: tracing would compile each step anew."""
    if keras.backend.backend() != "torch":
        return method
    import torch

    ran: Callable[..., None] = torch.compiler.disable(method)
    return ran


def _refusing_alone(optimizer: Any) -> Callable[..., None]:
    """An `apply` for the optimizer inside, found on the instance when Keras steps it directly: it refuses the step.

    Files and configurations of Keras do not hold it, so that a clone or a loaded optimizer is free of it.
    """

    @_outside_of_graphs
    def apply(grads: Any, trainable_variables: Any = None) -> None:
        refuse_step(
            f"the optimizer {optimizer.name!r} was given to affinet.keras.project, and alone it would train without "
            f"the rules. Compile the model with the optimizer that affinet.keras.project returned; without rules, use "
            f"a new one."
        )
        type(optimizer).apply(optimizer, grads, trainable_variables)

    return apply


@keras.saving.register_keras_serializable("affinet")
class Project(keras.optimizers.Optimizer):  # type: ignore[misc]
    """An optimizer inside of which another one takes the steps; `affinet.keras.project` makes it.

    `.keras` files hold the plan and what is known of inequalities from step to step. Options such as the learning rate
    are those of `inner_optimizer`.
    """

    def __init__(
        self,
        inner_optimizer: Any,
        indices: Sequence[int] = (),
        states: Sequence[tuple[Sequence[int], str]] = (),
        keep_gradients: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer, self._keep_gradients = inner_optimizer, keep_gradients
        self._averaging = averaging_of(inner_optimizer)
        self._ruled = _Ruled(None, tuple(indices), tuple((tuple(shape), dtype) for shape, dtype in states))

    def follow(self, made: Plan, model: Any, variables: dict[str, Any]) -> None:
        """Obey a plan whose weights are these variables of the model, and build both optimizers."""
        sandwich = Sandwich(made)
        trainable = [v.path for v in model.trainable_variables]
        likes = sandwich.likes({name: ops.convert_to_tensor(v) for name, v in variables.items()})
        shapes = tuple((tuple(shape), dtype) for shape, dtype in described(sandwich.library, likes))
        indices = tuple(trainable.index(variables[name].path) for name in sandwich.names)
        self._ruled = _Ruled(sandwich, indices, shapes)
        if keras.backend.backend() == "tensorflow" and sandwich.asks_host:
            model.supports_jit = False  # XLA of TensorFlow calls no function on the host
        self.build(model.trainable_variables)

    @property
    def plan(self) -> Plan:
        """The plan whose rules the steps obey."""
        return self._sandwich.plan

    def build(self, variables: Sequence[Any]) -> None:
        """Make the variables of both optimizers."""
        if self.built:
            return
        self._ruled.states = tuple(
            self.add_variable(shape, initializer="zeros", dtype=dtype, name=f"state_{number}")
            for number, (shape, dtype) in enumerate(self._ruled.shapes)
        )
        if self._ruled.shapes:
            self._ruled.counts = tuple(
                self.add_variable((), initializer="zeros", dtype="int32", name=name) for name in Counts._fields
            )
        if self._keep_gradients:
            of_rules = [list(variables)[index] for index in self._ruled.indices]
            self._ruled.gradients = tuple(self.add_variable_from_reference(v, name="gradient") for v in of_rules)
        self.inner_optimizer.build(variables)
        self.inner_optimizer.use_ema = False
        self.inner_optimizer.apply = _refusing_alone(self.inner_optimizer)
        super().build(variables)
        self._guard()

    @property
    def variables(self) -> list[Any]:
        return [*self._variables, *self.inner_optimizer.variables]

    @property
    def _model_variables_moving_average(self) -> list[Any]:
        """Where `SwapEMAWeights` looks for the averages if this optimizer is inside of a LossScaleOptimizer."""
        averages: list[Any] = self.inner_optimizer._model_variables_moving_average
        return averages

    @property
    def counts(self) -> Counts:
        """How many steps of cells of nonlinear equations were shortened, refused, or slow, since the first."""
        return Counts(*(int(ops.convert_to_numpy(v)) for v in self._ruled.counts)) if self._ruled.counts else Counts()

    @property
    def last_gradients(self) -> dict[str, Any]:
        """Name of each weight of the rules → its gradient in the last step, for weights kept by `keep_gradients`.

        Raises AttachError where they are not kept.
        """
        if not self._keep_gradients:
            raise AttachError(
                "the gradients of the last step are not kept. Call affinet.keras.project(…, keep_gradients=True)."
            )
        return dict(zip(self._sandwich.names, self._ruled.gradients, strict=True))

    @_outside_of_graphs
    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        """Project the gradients, take the step of the inner optimizer, and move the weights onto the rules."""
        if not self.built:
            self.build(list(trainable_variables or ()))
        step_variables = self._trainable_variables if trainable_variables is None else trainable_variables
        sandwich, gradients, variables = self._sandwich, list(grads), list(step_variables)
        replicas, places = count_replicas(), self._places(variables)
        ruled = [variables[place] for place in places.values()]
        weights = {name: _value(v) for name, v in zip(places, ruled, strict=True)}
        missing = frozenset(name for name, place in places.items() if gradients[place] is None)
        local = {
            name: ops.zeros_like(weights[name]) if name in missing else _value(gradients[place])
            for name, place in places.items()
        }
        slopes = summed(local, replicas)
        states = sandwich.states_of([_value(v) for v in self._ruled.states], weights)
        projected, starts, underway = sandwich.prepared(slopes, weights, states)
        if self._keep_gradients:
            scale = self.loss_scale_factor or 1.0
            write(self._ruled.gradients, [slope / scale for slope in slopes.values()], replicas)
        if underway:
            write(ruled, list(starts.values()), replicas)
        coupled = self._coupled(missing)
        former = {name: ops.where(mask, 0, starts[name]) for name, mask in coupled.items()}
        for name, place in places.items():  # the inner optimizer sums over replicas, too
            if name not in missing or name in coupled:
                gradients[place] = projected[name] if replicas == 1 else projected[name] / replicas
        step = _value(self.iterations) + 1
        inner = self.inner_optimizer  # whose own `apply` is hidden behind one that refuses
        with self._ruled.guard.lifted(ruled) if self._ruled.guard else nullcontext():
            type(inner).apply(inner, gradients, None if trainable_variables is None else variables)
        stepped = {name: _value(v) for name, v in zip(places, ruled, strict=True)}
        for name, mask in coupled.items():  # momentum and decay moved entries without a gradient
            stepped[name] = ops.where(mask, stepped[name], former[name])
        landed, next_states, counts = sandwich.landed(stepped, underway)
        write(ruled, list(landed.values()), replicas)
        write(self._ruled.states, flat(next_states), replicas)
        totals = [_value(v) + count for v, count in zip(self._ruled.counts, counts, strict=True)]
        write(self._ruled.counts, totals, replicas)
        self._average(step, replicas)

    def stateless_apply(self, optimizer_variables: Any, grads: Any, trainable_variables: Any) -> Any:
        """As of any optimizer of Keras, on JAX.

        Raises AttachError where the weights are fewer or of other shapes than those that the optimizer was made for.
        """
        expected, present = (
            [tuple(v.shape) for v in those] for those in (self._trainable_variables, trainable_variables)
        )
        if expected != present:
            raise AttachError(
                f"the optimizer {self.name!r} was made for trainable weights of the shapes {_listed(expected)}, and "
                f"the step is about {_listed(present)}: layers were frozen or thawed, or it is for another model. "
                f"Call affinet.keras.project for the model as it is now, with a new optimizer."
            )
        return super().stateless_apply(optimizer_variables, grads, trainable_variables)

    def finalize_variable_values(self, var_list: Sequence[Any]) -> None:
        """Give the weights the averages of `use_ema`, moved onto the rules.

        Raises AttachError where the variables are those of another model. `fit` calls it at its end; on JAX, where
        steps are about numbers without variables, this is the first that is known of them.
        """
        variables = list(var_list)
        ruled = {name: variables[place] for name, place in self._places(variables).items()}
        self.inner_optimizer.use_ema = self._averaging is not None
        self.inner_optimizer.finalize_variable_values(var_list)
        self.inner_optimizer.use_ema = False
        if self._averaging is not None or keeps_averages(self.inner_optimizer):
            placed = self._sandwich.placed({name: _value(v) for name, v in ruled.items()})
            for name, variable in ruled.items():
                variable.assign(placed[name])

    def scale_loss(self, loss: Any) -> Any:
        return self.inner_optimizer.scale_loss(loss)

    @property
    def loss_scale_factor(self) -> Any:
        return self.inner_optimizer.loss_scale_factor

    @loss_scale_factor.setter
    def loss_scale_factor(self, factor: Any) -> None:
        if hasattr(self, "inner_optimizer"):  # else the class above is being made
            self.inner_optimizer.loss_scale_factor = factor

    @property
    def learning_rate(self) -> Any:
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: Any) -> None:
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self) -> Any:
        return self.inner_optimizer.iterations

    def get_config(self) -> dict[str, Any]:
        """What `from_config` needs; the plan itself is among the assets of a `.keras` file."""
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        if self._averaging is not None:
            inner["config"]["use_ema"] = True
        return {
            "name": self.name,
            "inner_optimizer": inner,
            "indices": list(self._ruled.indices),
            "states": [[list(shape), dtype] for shape, dtype in self._ruled.shapes],
            "keep_gradients": self._keep_gradients,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Project:
        inner = keras.saving.deserialize_keras_object(config.pop("inner_optimizer"), custom_objects=custom_objects)
        return cls(inner, **config)

    def save_assets(self, inner_path: str) -> None:
        """Write the plan into a folder of a `.keras` file."""
        self.plan.save(Path(inner_path) / PLAN_FILE)

    def load_assets(self, inner_path: str) -> None:
        """Read the plan from a folder of a `.keras` file."""
        self._ruled.sandwich = Sandwich(Plan.load(Path(inner_path) / PLAN_FILE))
        self._guard()

    def _guard(self) -> None:
        """Once the rules and their variables are known, refuse the steps of other optimizers on these."""
        if self.built and self._ruled.sandwich is not None:
            self._ruled.guard = Guard(self.name, self._sandwich.names)
            self._ruled.guard.put_on([self._trainable_variables[index] for index in self._ruled.indices])

    @property
    def _sandwich(self) -> Sandwich:
        if self._ruled.sandwich is None:
            raise AttachError(
                f"the optimizer {self.name!r} has no rules: it was made from a configuration, which does not hold "
                f"them. Load the `.keras` file of the model, or call affinet.keras.project."
            )
        return self._ruled.sandwich

    def _coupled(self, missing: frozenset[str]) -> dict[str, np.ndarray]:
        """Masks of the entries that rules couple to gradients, of weights without one."""
        if not missing:
            return {}
        known = self._ruled.coupled
        if missing not in known:
            known[missing] = coupled_entries(self.plan, missing)
        return known[missing]

    def _average(self, step: Any, replicas: int) -> None:
        """Update the averages of the weights, and overwrite the weights by them in the steps where this is due."""
        if self._averaging is None:
            return
        variables, stored = self._trainable_variables, self._model_variables_moving_average
        weights = [_value(v) for v in variables]
        averages = self._averaging.averaged(stored, weights, step)
        write(stored, averages, replicas)
        if self._averaging.overwrite_frequency:
            due = step % self._averaging.overwrite_frequency == 0
            write(variables, ops.cond(due, lambda: self._placed(averages), lambda: weights), replicas)

    def _placed(self, values: list[Any]) -> list[Any]:
        """All trainable weights, those of the rules at the nearest point that satisfies them."""
        placed = list(values)
        named = dict(zip(self._sandwich.names, self._ruled.indices, strict=True))
        for name, value in self._sandwich.placed({name: values[index] for name, index in named.items()}).items():
            placed[named[name]] = value
        return placed

    def _places(self, variables: Sequence[Any]) -> dict[str, int]:
        """Name → number of its variable among those that a step is about."""
        at = {self._var_key(v): number for number, v in enumerate(variables)}
        places = {}
        for name, index in zip(self._sandwich.names, self._ruled.indices, strict=True):
            place = at.get(self._var_key(self._trainable_variables[index]))
            if place is None:
                raise _is_elsewhere(name)
            places[name] = place
        return places


def _is_elsewhere(name: str) -> AttachError:
    return AttachError(
        f"the rules are about {name!r}, and the step is not: its layer is not trainable any more, or the optimizer is "
        f"used with another model. Call affinet.keras.project for the model as it is now, with a new optimizer."
    )


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))


def _value(x: Any) -> Any:
    """The numbers of a variable or tensor, which no gradient is taken of."""
    return ops.stop_gradient(ops.convert_to_tensor(x))
