"""affinet trains neural networks whose weights obey linear equations and inequalities.

A public name is imported at its first use (PEP 562): the language and planning do not need torch, and
`import affinet` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from affinet._version import __version__

if TYPE_CHECKING:
    from affinet import errors as errors
    from affinet.adapters.mlflow import MlflowLog as MlflowLog
    from affinet.adapters.tensorboard import TensorBoardLog as TensorBoardLog
    from affinet.adapters.wandb import WandbLog as WandbLog
    from affinet.errors import AffinetError as AffinetError
    from affinet.errors import AttachError as AttachError
    from affinet.errors import ConformanceError as ConformanceError
    from affinet.errors import ConstantError as ConstantError
    from affinet.errors import ConvergenceWarning as ConvergenceWarning
    from affinet.errors import DataError as DataError
    from affinet.errors import EstimatorError as EstimatorError
    from affinet.errors import GradientError as GradientError
    from affinet.errors import InfeasibleError as InfeasibleError
    from affinet.errors import JobError as JobError
    from affinet.errors import LeftOutWarning as LeftOutWarning
    from affinet.errors import LongStepsWarning as LongStepsWarning
    from affinet.errors import MissingOperationError as MissingOperationError
    from affinet.errors import MissingPackageError as MissingPackageError
    from affinet.errors import ModelFileError as ModelFileError
    from affinet.errors import MultipliersDivergeWarning as MultipliersDivergeWarning
    from affinet.errors import NotAffineError as NotAffineError
    from affinet.errors import NotFiniteWarning as NotFiniteWarning
    from affinet.errors import NothingToTrainWarning as NothingToTrainWarning
    from affinet.errors import NothingTrainedWarning as NothingTrainedWarning
    from affinet.errors import ParseError as ParseError
    from affinet.errors import PlanFileError as PlanFileError
    from affinet.errors import ReportError as ReportError
    from affinet.errors import RuleError as RuleError
    from affinet.errors import RunError as RunError
    from affinet.errors import ShapeError as ShapeError
    from affinet.errors import ShortenedStepsWarning as ShortenedStepsWarning
    from affinet.errors import SlowReturnWarning as SlowReturnWarning
    from affinet.errors import StepUndoneWarning as StepUndoneWarning
    from affinet.errors import TooLargeError as TooLargeError
    from affinet.errors import TruthValueError as TruthValueError
    from affinet.errors import UnknownFeatureError as UnknownFeatureError
    from affinet.errors import UnknownWeightError as UnknownWeightError
    from affinet.errors import UnresolvedGapWarning as UnresolvedGapWarning
    from affinet.errors import UnsupportedWeightError as UnsupportedWeightError
    from affinet.errors import WatchError as WatchError
    from affinet.errors import WatchWarning as WatchWarning
    from affinet.errors import WeightsWrittenWarning as WeightsWrittenWarning
    from affinet.kernels.torch.projector import Projector as Projector
    from affinet.kernels.torch.torch_function import equations as equations
    from affinet.language import families as families
    from affinet.language import groups as groups
    from affinet.language.constraint import Constraint as Constraint
    from affinet.language.expectations import ExpectedRule as ExpectedRule
    from affinet.language.expectations import expectation as expectation
    from affinet.language.expression import Expression as Expression
    from affinet.language.expression import concat as concat
    from affinet.language.expression import einsum as einsum
    from affinet.language.expression import stack as stack
    from affinet.language.families.bounds import between as between
    from affinet.language.text import parse as parse
    from affinet.language.text import parse_lines as parse_lines
    from affinet.language.weight_groups import Rules as Rules
    from affinet.language.weight_groups import WeightGroup as WeightGroup
    from affinet.language.weights import Weights as Weights
    from affinet.language.weights import weights as weights
    from affinet.plans.explanation import Explanation as Explanation
    from affinet.plans.explanation import explain as explain
    from affinet.plans.plan import Plan as Plan
    from affinet.plans.plan import plan as plan
    from affinet.plans.simulation import simulate as simulate
    from affinet.report.csv_log import CsvLog as CsvLog
    from affinet.report.observation import Observation as Observation
    from affinet.report.observation import Observer as Observer
    from affinet.training.augmented.attaching_terms import lagrange as lagrange
    from affinet.training.augmented.lagrange_handle import LagrangeHandle as LagrangeHandle
    from affinet.training.augmented.lagrange_watch import LagrangeWatch as LagrangeWatch
    from affinet.training.baking import Reparametrization as Reparametrization
    from affinet.training.baking import bake as bake
    from affinet.training.handle import Handle as Handle
    from affinet.training.projection import project as project
    from affinet.training.reparametrization import reparametrize as reparametrize
    from affinet.training.watching import Watch as Watch

__all__ = [
    "AffinetError",
    "AttachError",
    "ConformanceError",
    "ConstantError",
    "Constraint",
    "ConvergenceWarning",
    "CsvLog",
    "DataError",
    "EstimatorError",
    "ExpectedRule",
    "Explanation",
    "Expression",
    "GradientError",
    "Handle",
    "InfeasibleError",
    "JobError",
    "LagrangeHandle",
    "LagrangeWatch",
    "LeftOutWarning",
    "LongStepsWarning",
    "MissingOperationError",
    "MissingPackageError",
    "MlflowLog",
    "ModelFileError",
    "MultipliersDivergeWarning",
    "NotAffineError",
    "NotFiniteWarning",
    "NothingToTrainWarning",
    "NothingTrainedWarning",
    "Observation",
    "Observer",
    "ParseError",
    "Plan",
    "PlanFileError",
    "Projector",
    "Reparametrization",
    "ReportError",
    "RuleError",
    "Rules",
    "RunError",
    "ShapeError",
    "ShortenedStepsWarning",
    "SlowReturnWarning",
    "StepUndoneWarning",
    "TensorBoardLog",
    "TooLargeError",
    "TruthValueError",
    "UnknownFeatureError",
    "UnknownWeightError",
    "UnresolvedGapWarning",
    "UnsupportedWeightError",
    "WandbLog",
    "Watch",
    "WatchError",
    "WatchWarning",
    "WeightGroup",
    "Weights",
    "WeightsWrittenWarning",
    "__version__",
    "bake",
    "between",
    "concat",
    "einsum",
    "equations",
    "errors",
    "expectation",
    "explain",
    "families",
    "groups",
    "lagrange",
    "parse",
    "parse_lines",
    "plan",
    "project",
    "reparametrize",
    "simulate",
    "stack",
    "weights",
]

_MODULES = {"errors": "affinet.errors", "families": "affinet.language.families", "groups": "affinet.language.groups"}
_LIBRARIES = frozenset({"keras", "optax", "scipy", "sklearn", "skorch", "testing"})
"""Modules for users of another library, such as `affinet.scipy`, and for tests, imported at their first use."""
_HOMES = {
    "Constraint": "affinet.language.constraint",
    "CsvLog": "affinet.report.csv_log",
    "ExpectedRule": "affinet.language.expectations",
    "Explanation": "affinet.plans.explanation",
    "Expression": "affinet.language.expression",
    "Handle": "affinet.training.handle",
    "LagrangeHandle": "affinet.training.augmented.lagrange_handle",
    "LagrangeWatch": "affinet.training.augmented.lagrange_watch",
    "Observation": "affinet.report.observation",
    "Observer": "affinet.report.observation",
    "Plan": "affinet.plans.plan",
    "Projector": "affinet.kernels.torch.projector",
    "Reparametrization": "affinet.training.baking",
    "MlflowLog": "affinet.adapters.mlflow",
    "TensorBoardLog": "affinet.adapters.tensorboard",
    "WandbLog": "affinet.adapters.wandb",
    "WeightGroup": "affinet.language.weight_groups",
    "Rules": "affinet.language.weight_groups",
    "Watch": "affinet.training.watching",
    "Weights": "affinet.language.weights",
    "bake": "affinet.training.baking",
    "between": "affinet.language.families.bounds",
    "concat": "affinet.language.expression",
    "einsum": "affinet.language.expression",
    "equations": "affinet.kernels.torch.torch_function",
    "expectation": "affinet.language.expectations",
    "explain": "affinet.plans.explanation",
    "lagrange": "affinet.training.augmented.attaching_terms",
    "parse": "affinet.language.text",
    "parse_lines": "affinet.language.text",
    "plan": "affinet.plans.plan",
    "project": "affinet.training.projection",
    "reparametrize": "affinet.training.reparametrization",
    "simulate": "affinet.plans.simulation",
    "stack": "affinet.language.expression",
    "weights": "affinet.language.weights",
}

_WITHOUT_TORCH = (
    "It is for torch modules. Install it with: pip install torch. Models of Keras are trained with "
    "affinet.keras.project, those of JAX with affinet.optax.project."
)


def __getattr__(name: str) -> object:
    if name in _LIBRARIES:
        return import_module(f"affinet.{name}")
    if name not in __all__:
        raise AttributeError(f"module 'affinet' has no attribute {name!r}; it has {', '.join(__all__)}")
    if name in _MODULES:
        value: object = import_module(_MODULES[name])
    else:  # every name that is not listed in _HOMES is an error or a warning
        try:
            value = getattr(import_module(_HOMES.get(name, "affinet.errors")), name)
        except ModuleNotFoundError as missing:
            from affinet.errors import MissingPackageError

            raise MissingPackageError.of(missing, f"affinet.{name}", {"torch": _WITHOUT_TORCH}) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
