"""Naming weights: `affinet.weights(model)` and what is asked of it."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn.utils import prune

import affinet
from affinet.errors import AttachError, RuleError, ShapeError, UnknownWeightError, UnsupportedWeightError
from tests.errors.case import case
from tests.errors.symbols import of_keras, w
from tests.language.process import one_process


@case(AttributeError, "A misspelt name of affinet.", "Take one of those listed.", foreign="(?<=it has ).*")
def a_misspelt_function() -> None:
    affinet.wieghts({})


@case(RuleError, "Neither a model nor shapes by name.", "Give the model itself.")
def weights_of_a_number() -> None:
    affinet.weights(42)


@case(RuleError, "A model of Keras.", "Write affinet.keras.weights(model).")
def weights_of_a_keras_model() -> None:
    affinet.weights(of_keras("Sequential", torch.nn.Module))


@case(UnknownWeightError, "A name with a slash, asked for as an attribute.", 'Write w["hidden/kernel"].')
def a_name_with_a_slash_as_an_attribute() -> None:
    affinet.weights({"hidden/kernel": (2, 3)}).hidden  # noqa: B018


@case(RuleError, "The mapping has a key that is not a name.", "Use names such as 'hidden.weight'.")
def a_weight_named_by_a_number() -> None:
    affinet.weights({3: (2, 2)})


@case(RuleError, "Two arrays of a tree have one name.", "Rename one of the keys.")
def two_arrays_of_one_name() -> None:
    affinet.weights({"hidden": {"weight": np.ones(2)}, "hidden.weight": np.ones(2)})


@case(ShapeError, "The mapping has a value that is not a shape.", "Give a tuple of sizes, or an array.")
def a_shape_of_fractions() -> None:
    affinet.weights({"hidden.weight": (2.5, 3)})


@case(UnknownWeightError, "The model has no weight of this name.", "Take one of the names that are listed.")
def a_misspelt_name() -> object:
    return w["hidden.weigth"]


@case(UnknownWeightError, "The index of a weight is neither a name nor a number.", "Write the name as text.")
def a_key_that_is_no_name() -> object:
    return w[None]


@case(RuleError, "A module in place of a weight.", "Name one of its weights: `.weight`, `.bias`.")
def a_module_as_a_weight() -> object:
    return w.hidden == 0


@case(UnsupportedWeightError, "A lazy layer has not seen an input yet.", "Run the model once on an input.")
def a_lazy_weight() -> object:
    return affinet.weights(torch.nn.LazyLinear(2)).weight


@case(UnsupportedWeightError, "The parameter is complex.", "Keep two real parameters.")
def a_complex_weight() -> object:
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.complex64))
    return affinet.weights(layer).weight


@case(UnsupportedWeightError, "The parameter holds integers.", "Constrain floating-point parameters.")
def an_integer_weight() -> object:
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.int64), requires_grad=False)
    return affinet.weights(layer).weight


@case(UnsupportedWeightError, "The parameter is sparse.", "Make it dense.")
def a_sparse_weight() -> object:
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.eye(2).to_sparse())
    return affinet.weights(layer).weight


@case(UnsupportedWeightError, "The parameter was made with `.expand`.", "Give it memory of its own.")
def an_expanded_weight() -> object:
    layer = torch.nn.Module()
    layer.weight = torch.nn.Parameter(torch.zeros(1).expand(3))
    return affinet.weights(layer).weight


@case(UnsupportedWeightError, "Two parameters share memory.", "Use one Parameter under both names.")
def overlapping_weights() -> object:
    layer, memory = torch.nn.Module(), torch.zeros(4)
    layer.first, layer.second = torch.nn.Parameter(memory[:3]), torch.nn.Parameter(memory[1:])
    return affinet.weights(layer).first


@case(UnsupportedWeightError, "torch's parametrize computes the weight.", "Remove the parametrization.")
def a_parametrized_weight() -> object:
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2))
    return affinet.weights(layer).weight


@case(UnsupportedWeightError, "The model is reparametrized already.", "Call `affinet.bake(model)` first.")
def a_reparametrized_weight() -> object:
    layer = torch.nn.Linear(2, 2)
    affinet.reparametrize(layer, affinet.weights(layer).weight.sum() == 0)
    return affinet.weights(layer).weight


@case(UnsupportedWeightError, "`torch.nn.utils.prune` computes the weight.", "Call `prune.remove`, and fix its zeros.")
def a_pruned_weight() -> object:
    return affinet.weights(prune.l1_unstructured(torch.nn.Linear(2, 2), "weight", 0.5)).weight


@case(UnsupportedWeightError, "The rule names a parameter from which the weight is computed.", "Remove the hook first.")
def what_a_pruned_weight_is_computed_from() -> object:
    return affinet.weights(prune.l1_unstructured(torch.nn.Linear(2, 2), "weight", 0.5)).weight_orig


@case(UnsupportedWeightError, "The weight was pruned after the rules were made.", "Attach first, or remove the hook.")
def rules_on_a_pruned_weight() -> object:
    layer = torch.nn.Linear(2, 2)
    rule = affinet.weights(layer).weight.sum() == 1
    return affinet.reparametrize(prune.l1_unstructured(layer, "weight", 0.5), rule)


@case(UnsupportedWeightError, "The module has a tensor of this name, not a Parameter.", "Make it a Parameter.")
def a_tensor_that_is_no_parameter() -> object:
    layer = torch.nn.Module()
    layer.weight_raw = torch.nn.Parameter(torch.ones(2))
    layer.weight = 2 * layer.weight_raw
    return affinet.weights(layer).weight


@case(
    UnsupportedWeightError,
    "Several processes hold a parameter of a model that is reparametrized.",
    "Reparametrize first, and shard it then.",
)
def a_distributed_weight() -> object:
    from torch.distributed.tensor import Replicate, distribute_tensor

    with one_process() as mesh:
        layer = torch.nn.Linear(2, 2)
        layer.weight = torch.nn.Parameter(distribute_tensor(torch.ones(2, 2), mesh, [Replicate()]))
        return affinet.reparametrize(layer, affinet.weights(layer).weight.sum(1) == 1)


@case(AttachError, "The process group of distributed weights was destroyed.", "Make the model after it is there.")
def a_destroyed_process_group() -> object:
    from torch.distributed.tensor import Replicate, distribute_tensor

    with one_process() as mesh:
        layer = torch.nn.Linear(2, 2)
        layer.weight = torch.nn.Parameter(distribute_tensor(torch.ones(2, 2), mesh, [Replicate()]))
        rule = affinet.weights(layer).weight.sum(1) == 1
        optimizer = torch.optim.Adam(layer.parameters())
    return affinet.project(layer, optimizer, rule)


@case(AttachError, "The parameters are flat pieces, of FSDP1.", "Shard the model with fully_shard.")
def flat_pieces_of_weights() -> object:
    from torch.distributed.fsdp import FullyShardedDataParallel

    with one_process():
        return affinet.weights(FullyShardedDataParallel(torch.nn.Linear(2, 2), device_id=torch.device("cpu")))


@case(UnknownWeightError, "No weight matches this pattern.", "Take one of the names that are listed.")
def a_pattern_that_finds_nothing() -> object:
    return w["hidden.*.weight"]


@case(UnknownWeightError, "No module has a number in this slice.", "Take a slice that contains a number.")
def a_slice_that_finds_nothing() -> object:
    return affinet.weights({"layers.0.weight": (2, 2)}).layers[3:]


@case(UnknownWeightError, "A number as an index of several modules.", "Write the name of the weight.")
def several_modules_by_a_number() -> object:
    return affinet.weights({"layers.0.weight": (2, 2)}).layers[:][0]


@case(UnsupportedWeightError, "A pattern matches a weight that is lazy.", "Run the model once on an input.")
def a_pattern_that_finds_a_lazy_weight() -> object:
    return affinet.weights(torch.nn.Sequential(torch.nn.LazyLinear(2)))["*.weight"]


@case(RuleError, "A slice contains weights and modules.", "Name each by itself.")
def weights_and_modules_at_once() -> object:
    return affinet.weights({"parts.0": (2,), "parts.1.weight": (2,)}).parts[:]


@case(
    RuleError,
    "Several modules in place of a weight.",
    "Name one of their weights.",
    fragment="is a module",
)
def modules_as_a_weight() -> object:
    return affinet.weights({"layers.0.weight": (2, 2)}).layers[:] == 0
