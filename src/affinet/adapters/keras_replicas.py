"""Sum gradients over the replicas of a `tf.distribute` strategy, and write variables on each of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from affinet.errors import AttachError


def check_strategy(model: Any) -> None:
    """Raise AttachError for strategies other than mirrored ones, and where the scope of the strategy is not open."""
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    strategy, scope = model.distribute_strategy, tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync > 1 and not isinstance(strategy, tf.distribute.MirroredStrategy):
        raise AttachError(
            f"affinet.keras trains under tf.distribute.MirroredStrategy, and the model was made under "
            f"{type(strategy).__name__}. Make it under a MirroredStrategy, or without a strategy."
        )
    if strategy is not scope:
        raise AttachError(
            f"the model was made under {type(strategy).__name__}, and affinet.keras.project was called under "
            f"{type(scope).__name__}. Call it within strategy.scope(), as the model."
        )


def count_replicas() -> int:
    """How many replicas take a step together."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def summed(gradients: dict[str, Any], replicas: int) -> dict[str, Any]:
    """The sums of gradients over all replicas: what is learnt of inequalities is not linear in them."""
    if replicas == 1 or not gradients:
        return gradients
    import tensorflow as tf

    reduced = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(gradients.values()))
    return dict(zip(gradients, reduced, strict=True))


def write(variables: Sequence[Any], values: Sequence[Any], replicas: int) -> None:
    """Give variables values that are the same on all replicas: to the bit, without a mean over them."""
    cast = [ops.cast(value, variable.dtype) for variable, value in zip(variables, values, strict=True)]
    if replicas == 1:
        for variable, value in zip(variables, cast, strict=True):
            variable.assign(value)
        return
    import tensorflow as tf

    def update(strategy: Any, mirrored: Sequence[Any], per_replica: Sequence[Any]) -> None:
        for variable, value in zip(mirrored, per_replica, strict=True):
            strategy.extended.update(variable, lambda local, x: local.assign(x), args=(value,), group=False)

    mirrored = [variable.value for variable in variables]
    tf.distribute.get_replica_context().merge_call(update, args=(mirrored, cast))
