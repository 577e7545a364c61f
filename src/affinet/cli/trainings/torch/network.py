"""Make the network of a job: a multilayer perceptron with named layers, or the result of the job's factory."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from affinet.cli.jobs.jobfile import JobFile
from affinet.cli.trainings.perceptron import Perceptron, perceptron_of
from affinet.cli.words import did_you_mean, one_paragraph
from affinet.errors import JobError

DTYPES = {"float32": torch.float32, "float64": torch.float64}
"""The type of the numbers of a built-in network, as jobs name it; they are drawn in float32."""


def build_network(job: JobFile, inputs: int, outputs: int) -> nn.Module:
    """The network that `job` describes, with weights drawn from torch's current random state.

    Raises JobError where the activation is unknown, the network does not fit in memory, or the factory fails.
    """
    if job.job.model.factory is not None:
        return _from_factory(job, job.job.model.factory, inputs, outputs)
    perceptron = perceptron_of(job, inputs, outputs)
    try:
        return make_module(perceptron).to(DTYPES[job.job.model.dtype])
    except (RuntimeError, MemoryError) as error:
        fact = f"a network of sizes {perceptron.sizes!r:.100} cannot be made: {one_paragraph(error)}. Make it smaller."
        raise job.mistake(("model", "hidden"), fact) from None


def make_module(perceptron: Perceptron) -> nn.Sequential:
    """The perceptron as a module, with activation1, activation2, … between its layers."""
    activation: type[nn.Module] = getattr(nn, perceptron.activation)
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    for index, (name, (inputs, outputs)) in enumerate(perceptron.layers.items(), start=1):
        modules[name] = nn.Linear(inputs, outputs)
        if name != "output":
            modules[f"activation{index}"] = activation()
    return nn.Sequential(modules)


def _from_factory(job: JobFile, name: str, inputs: int, outputs: int) -> nn.Module:
    with _importable(Path.cwd(), job.folder.resolve()):
        factory = _find_factory(job, name)
        call = f"{name}({inputs}, {outputs})"
        try:
            network = factory(inputs, outputs)
        except Exception as error:
            raise _factory_error(job, call, f"raised {type(error).__name__}: {one_paragraph(error)}") from error
    if not isinstance(network, nn.Module):
        raise _factory_error(job, call, f"returned {type(network).__name__}, and must return a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise _factory_error(
            job, call, "returned a network without parameters to train: it has no parameters, or all are frozen"
        )
    return network


def _find_factory(job: JobFile, name: str) -> Callable[[int, int], Any]:
    module_name, _, attribute = name.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
    except Exception as error:
        way_out = "It is searched for in the current folder, in the job file's folder and among the installed packages."
        fact = (
            f"the module {module_name!r} cannot be imported ({type(error).__name__}: {one_paragraph(error)}). {way_out}"
        )
        raise job.mistake(("model", "factory"), fact) from error
    for part in attribute.split("."):
        if not hasattr(target, part):
            hint = did_you_mean(
                part, [attribute_name for attribute_name, value in vars(target).items() if inspect.isfunction(value)]
            )
            raise job.mistake(("model", "factory"), f"{module_name!r} has no {attribute!r}.{hint}")
        target = getattr(target, part)
    if not callable(target):
        raise _factory_error(
            job, name, f"is {type(target).__name__}, and must be a function (inputs, outputs) -> torch.nn.Module"
        )
    return target  # type: ignore[no-any-return]


def _factory_error(job: JobFile, subject: str, fact: str) -> JobError:
    return job.mistake(("model", "factory"), f"{subject} {fact}.")


@contextmanager
def _importable(*folders: Path) -> Iterator[None]:
    """Put `folders` in front of the search path of imports inside the block, and remove them afterwards."""
    paths = [str(folder) for folder in folders]
    sys.path[:0] = paths
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in paths:
            sys.path.remove(folder)
