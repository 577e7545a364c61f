"""The job file as a value: every key that a user may write, and the values that it takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

READY_MADE = "sklearn:"
READY_MADE_SETS = ("digits", "diabetes", "breast_cancer", "wine", "iris")

Finite = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1)]


class Table(BaseModel):
    """A table of the job file: unknown keys are errors, values are not converted, and the table is immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class DataTable(Table):
    """Where the rows come from and how many are kept for testing."""

    source: Name = Field(description='"sklearn:" and one of digits, diabetes, …, or a .csv or .parquet file')
    target: Name | None = Field(default=None, description="the name of the column to predict, for a file")
    task: Literal["classification", "regression"] | None = Field(
        default=None, description='"classification" or "regression"'
    )
    test_fraction: Finite = Field(default=0.2, gt=0, lt=1, description="a number between 0 and 1, both excluded")


class ModelTable(Table):
    """A multilayer perceptron, given by its hidden sizes, or the function that makes the network."""

    hidden: Annotated[tuple[Size, ...], Field(strict=False)] | None = Field(
        default=None, description="a list of whole numbers, each 1 or more, such as [64, 32]"
    )
    activation: Name | None = Field(default=None, description='the name of an activation, such as "relu"')
    factory: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = Field(
        default=None, description='"package.module:function"'
    )
    framework: Literal["torch", "jax", "keras"] = Field(default="torch", description='"torch", "jax" or "keras"')
    dtype: Literal["float32", "float64"] = Field(default="float32", description='"float32" or "float64"')


class TrainTable(Table):
    """How the network is trained."""

    optimizer: Name = Field(default="AdamW", description='the name of an optimizer of torch.optim, such as "AdamW"')
    learning_rate: Finite = Field(default=1e-3, gt=0, description="a finite number above 0")
    options: dict[str, Any] = Field(default={}, description="a table of options, such as { weight_decay = 0.01 }")
    method: Literal["project", "reparametrize", "lagrange"] = Field(
        default="project", description='"project", "reparametrize" or "lagrange"'
    )
    basis: Literal["orthonormal", "free", "projection"] | None = Field(
        default=None, description='"orthonormal", "free" or "projection"'
    )
    parallel: Literal["ddp", "fsdp"] | None = Field(default=None, description='"ddp" or "fsdp"')
    epochs: int = Field(default=20, ge=1, description="a whole number, 1 or more")
    batch_size: int = Field(default=64, ge=1, description="a whole number, 1 or more")
    seed: int = Field(default=0, ge=0, lt=2**32, description="a whole number from 0 to 4294967295")


class RuleTable(Table):
    """A sentence (`says`), a file of sentences, or a matrix or polynomials in the listed weights."""

    name: Name | None = Field(default=None, description="a text")
    says: Name | None = Field(default=None, description='a rule, such as "hidden1.weight.sum(dim=1) == 1"')
    sentences: Name | None = Field(default=None, description="a text file with a rule on each line")
    polynomials: Name | None = Field(
        default=None, description="a .npy, .npz, .mtx, .csv or .mat file with a row per monomial"
    )
    matrix: Name | None = Field(default=None, description="a .npy, .npz, .mtx, .csv or .mat file")
    variable: Name | None = Field(
        default=None, description="the name of the matrix or of the polynomials inside a .npz or .mat file"
    )
    rhs: Finite | Name = Field(default=0.0, description="a finite number, or a .npy, .npz, .mtx, .csv or .mat file")
    rhs_variable: Name | None = Field(
        default=None, description="the name of the right-hand side inside a .npz or .mat file"
    )
    sense: Literal["==", "<=", ">="] = Field(default="==", description='"==", "<=" or ">="')
    weights: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None, description='a list of weight names, such as ["hidden1.weight", "output.weight"]'
    )


class Job(Table):
    """The content of a job file."""

    data: DataTable = Field(description="a table, [data]")
    model: ModelTable = Field(description="a table, [model]")
    train: TrainTable = Field(default=TrainTable(), description="a table, [train]")
    rule: Annotated[tuple[RuleTable, ...], Field(strict=False)] = Field(
        default=(), description="tables opened by [[rule]]"
    )
