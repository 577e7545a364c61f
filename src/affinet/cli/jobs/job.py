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

    source: Name = Field(
        title="the rows to learn from",
        description='"sklearn:" and one of digits, diabetes, …, or a .csv or .parquet file',
    )
    target: Name | None = Field(
        default=None,
        title="the column to predict from all others",
        description="the name of the column to predict, for a file",
    )
    task: Literal["classification", "regression"] | None = Field(
        default=None,
        title="what is learnt, where the target should not decide it",
        description='"classification" or "regression"',
    )
    test_fraction: Finite = Field(
        default=0.2,
        title="the share of rows that is not trained on and that scores are from",
        gt=0,
        lt=1,
        description="a number between 0 and 1, both excluded",
    )
    ignore: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        default=(),
        title="the columns of the file that are not used",
        description='a list of column names, such as ["name", "date"]',
    )
    text: Literal["encode", "refuse"] = Field(
        default="refuse",
        title="what becomes of the columns of the file that are text",
        description='"encode" or "refuse"',
    )


class ModelTable(Table):
    """A multilayer perceptron, given by its hidden sizes, or the function that makes the network."""

    hidden: Annotated[tuple[Size, ...], Field(strict=False)] | None = Field(
        default=None,
        title="sizes of the hidden layers of a multilayer perceptron",
        description="a list of whole numbers, each 1 or more, such as [64, 32]",
    )
    activation: Name | None = Field(
        default=None, title="the function between the layers", description='the name of an activation, such as "relu"'
    )
    factory: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = Field(
        default=None, title="a Python function that makes the network of torch", description='"package.module:function"'
    )
    framework: Literal["torch", "jax", "keras"] = Field(
        default="torch", title="the library that the network is trained in", description='"torch", "jax" or "keras"'
    )
    dtype: Literal["float32", "float64"] = Field(
        default="float32", title="the type of the numbers of the network", description='"float32" or "float64"'
    )


class TrainTable(Table):
    """How the network is trained."""

    optimizer: Name = Field(
        default="AdamW", title="the optimizer", description='the name of an optimizer of torch.optim, such as "AdamW"'
    )
    learning_rate: Finite = Field(default=1e-3, title="the learning rate", gt=0, description="a finite number above 0")
    options: dict[str, Any] = Field(
        default={},
        title="other options of the optimizer, by their names in torch",
        description="a table of options, such as { weight_decay = 0.01 }",
    )
    method: Literal["project", "reparametrize", "lagrange"] = Field(
        default="project", title="how the rules are kept", description='"project", "reparametrize" or "lagrange"'
    )
    basis: Literal["orthonormal", "free", "projection"] | None = Field(
        default=None,
        title='which numbers are trained with method = "reparametrize"',
        description='"orthonormal", "free" or "projection"',
    )
    parallel: Literal["ddp", "fsdp"] | None = Field(
        default=None, title="training in the processes that torchrun starts", description='"ddp" or "fsdp"'
    )
    epochs: int = Field(default=20, title="passes over the rows", ge=1, description="a whole number, 1 or more")
    batch_size: int = Field(default=64, title="rows in a step", ge=1, description="a whole number, 1 or more")
    seed: int = Field(
        default=0,
        title="the number that decides the split of the rows, the first weights and the order of the batches",
        ge=0,
        lt=2**32,
        description="a whole number from 0 to 4294967295",
    )
    stationarity_every: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        title="how many epochs lie between two measurements of stationarity; 0 for none",
        description="a whole number of epochs, or 0 for never",
    )


class RuleTable(Table):
    """A sentence (`says`), a file of sentences, or a matrix or polynomials in the listed weights."""

    name: Name | None = Field(default=None, title="what the rule is called in reports", description="a text")
    says: Name | None = Field(
        default=None,
        title="an equation or inequality as text",
        description='a rule, such as "hidden1.weight.sum(dim=1) == 1"',
    )
    sentences: Name | None = Field(
        default=None, title="many rules as text", description="a text file with a rule on each line"
    )
    polynomials: Name | None = Field(
        default=None,
        title="polynomials in the entries of the weights that are zero",
        description="a .npy, .npz, .mtx, .csv or .mat file with a row per monomial",
    )
    matrix: Name | None = Field(
        default=None,
        title="the left-hand side, one equation or inequality per row",
        description="a .npy, .npz, .mtx, .csv or .mat file",
    )
    variable: Name | None = Field(
        default=None,
        title="the array of the matrix or the polynomials in its file",
        description="the name of the matrix or of the polynomials inside a .npz or .mat file",
    )
    rhs: Finite | Name = Field(
        default=0.0,
        title="the right-hand side: one number for all rows, or one for each",
        description="a finite number, or a .npy, .npz, .mtx, .csv or .mat file",
    )
    rhs_variable: Name | None = Field(
        default=None,
        title="the array of the right-hand side in its file",
        description="the name of the right-hand side inside a .npz or .mat file",
    )
    sense: Literal["==", "<=", ">="] = Field(
        default="==",
        title="how the product of matrix and weights compares with the right-hand side",
        description='"==", "<=" or ">="',
    )
    weights: Annotated[tuple[Name, ...], Field(strict=False, min_length=1)] | None = Field(
        default=None,
        title="whose entries the columns of the matrix stand for, in this order",
        description='a list of weight names, such as ["hidden1.weight", "output.weight"]',
    )


class Job(Table):
    """The content of a job file."""

    data: DataTable = Field(title="where the rows come from", description="a table, [data]")
    model: ModelTable = Field(title="the network", description="a table, [model]")
    train: TrainTable = Field(default=TrainTable(), title="how the network is trained", description="a table, [train]")
    rule: Annotated[tuple[RuleTable, ...], Field(strict=False)] = Field(
        default=(), title="the rules of the weights", description="tables opened by [[rule]]"
    )
    rules: dict[Name, Name] = Field(
        default={},
        title="more rules, one on each line",
        description='a table, [rules], with lines such as "rows sum to one" = "hidden1.weight.sum(dim=1) == 1"',
    )
