"""The rule that a dense weight is the matrix of a convolution: the block Toeplitz matrix of nn.Conv1d, nn.Conv2d, …."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.terms import Integers
from affinet.language.constraint import Constraint
from affinet.language.expression import Expression
from affinet.language.families.naming import checked_expression, named_rule
from affinet.language.families.sharing import tie_to_first
from affinet.language.forecast import forecast
from affinet.language.weight_groups import over_weights

PerAxis: TypeAlias = int | Sequence[int]
"""One number for all axes of the image, or one number per axis."""


@over_weights
def convolution(
    w: Expression,
    size: PerAxis,
    kernel_size: PerAxis,
    *,
    stride: PerAxis = 1,
    padding: PerAxis | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Constraint:
    """The dense weight is the matrix of a convolution: zero outside its band, the numbers of the kernel inside.

    `w` has shape (out_channels · Π out_size, in_channels · Π size): rows are outputs and columns inputs, channels
    first and then row-major, as `conv(x).flatten(1)` and `x.flatten(1)` have them. `size` is the input's without
    channels, `(height, width)` or `(length,)`; the other arguments are those of nn.Conv2d with zeros as padding,
    "same" and "valid" among them.
    Law: the free numbers are those of the kernel, except kernel places that no output applies to any input; and the
    outputs are those of the convolution without its bias.
    Errors: `ShapeError` where the arguments do not fit each other or the shape of `w`.
    """
    w = checked_expression("convolution", w)
    axes = _axes(size, kernel_size, stride, padding, dilation)
    channels = _channels(w, axes, groups)
    marks, inside = _pattern(axes, *channels, int(groups))
    options = {"stride": (stride, 1), "padding": (padding, 0), "dilation": (dilation, 1), "groups": (groups, 1)}
    arguments: dict[str, Any] = {"size": _as_tuple(size), "kernel_size": _as_tuple(kernel_size)}
    arguments |= {name: value for name, (value, default) in options.items() if value != default}
    differences = tie_to_first(w.flatten(), marks, inside)
    return named_rule(differences == 0, "convolution", w, **arguments)


@dataclass(frozen=True)
class _Axis:
    """One axis of the image."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    """Zeros before the first input."""
    after: int
    """Zeros after the last input."""

    @property
    def outputs(self) -> int:
        return (self.size + self.before + self.after - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def taps(self) -> Integers:
        """(outputs, size): the place in the kernel that an output applies to an input, -1 where it applies none."""
        distance = np.arange(self.size) + self.before - self.stride * np.arange(self.outputs)[:, None]
        tap = distance // self.dilation
        reached = (distance % self.dilation == 0) & (tap >= 0) & (tap < self.kernel)
        return np.where(reached, tap, -1)


def _axes(size: PerAxis, kernel: PerAxis, stride: PerAxis, padding: PerAxis | str, dilation: PerAxis) -> list[_Axis]:
    """Read the axes of the image; "same" puts the odd zero of an even kernel at the end, as torch does."""
    if isinstance(padding, str) and padding not in ("same", "valid"):
        raise ShapeError(f'padding must be an integer, one integer per axis, "valid" or "same"; got {padding!r:.60}.')
    padding_numbers = 0 if isinstance(padding, str) else padding
    per_axis = {"size": size, "kernel_size": kernel, "stride": stride, "padding": padding_numbers, "dilation": dilation}
    count = next((len(value) for value in per_axis.values() if isinstance(value, Sequence)), 0)
    if not count:
        raise ShapeError(f"convolution takes size=(height, width), or size=(length,) for one axis; got {size!r:.60}.")
    columns = []
    for name, value in per_axis.items():
        values = list(value) if isinstance(value, Sequence) else [value] * count
        minimum = 0 if name == "padding" else 1
        valid = all(isinstance(n, Integral) and not isinstance(n, bool) and n >= minimum for n in values)
        if len(values) != count or not valid:
            raise ShapeError(
                f"{name} must be an integer that is at least {minimum}, or {count} of them, one per axis; "
                f"got {value!r:.60}."
            )
        columns.append([int(n) for n in values])
    axes = []
    for axis_size, axis_kernel, axis_stride, axis_padding, axis_dilation in zip(*columns, strict=True):
        padding_total = axis_dilation * (axis_kernel - 1) if padding == "same" else 2 * axis_padding
        axes.append(
            _Axis(
                axis_size,
                axis_kernel,
                axis_stride,
                axis_dilation,
                padding_total // 2,
                padding_total - padding_total // 2,
            )
        )
    for axis in axes:
        if padding == "same" and axis.stride != 1:
            raise ShapeError(f'padding="same" needs stride=1; got stride={stride!r:.60}. Give the padding as numbers.')
        if axis.outputs < 1:
            raise ShapeError(
                f"a kernel of {axis.kernel} with dilation {axis.dilation} does not fit an input of {axis.size} with "
                f"{axis.before + axis.after} zeros around it: the output would be empty."
            )
    return axes


def _channels(w: Expression, axes: Sequence[_Axis], groups: object) -> tuple[int, int]:
    outputs, inputs = prod(axis.outputs for axis in axes), prod(axis.size for axis in axes)
    if w.ndim != 2 or w.shape[0] % outputs or w.shape[1] % inputs:
        raise ShapeError(
            f"({w}) has shape {w.shape}; this convolution needs (out_channels · {outputs}, in_channels · {inputs})."
        )
    channels = w.shape[0] // outputs, w.shape[1] // inputs
    count = int(groups) if isinstance(groups, Integral) and not isinstance(groups, bool) else 0
    if count < 1 or channels[0] % count or channels[1] % count:
        raise ShapeError(
            f"groups must divide the {channels[0]} output channels and the {channels[1]} input channels; "
            f"got {groups!r:.60}."
        )
    return channels


def _pattern(axes: Sequence[_Axis], out_channels: int, in_channels: int, groups: int) -> tuple[Integers, Integers]:
    """The number of the kernel entry at every place of the flattened matrix, and 1 inside the band, 0 outside."""
    dimensions, inputs_per_group = len(axes), in_channels // groups
    shape = (out_channels, *(axis.outputs for axis in axes), in_channels, *(axis.size for axis in axes))
    forecast("the pattern of this convolution", prod(shape))
    outputs, inputs = np.arange(out_channels), np.arange(in_channels)
    same_group = outputs[:, None] // (out_channels // groups) == inputs // inputs_per_group
    marks = _on_axes(
        np.where(same_group, outputs[:, None] * inputs_per_group + inputs % inputs_per_group, -1), 0, dimensions
    )
    inside = marks >= 0
    for number, axis in enumerate(axes, 1):
        taps = _on_axes(axis.taps(), number, dimensions)
        marks, inside = marks * axis.kernel + taps, inside & (taps >= 0)
    inside = np.broadcast_to(inside, shape).reshape(-1)
    return np.where(inside, np.broadcast_to(marks, shape).reshape(-1), 0), inside.astype(np.int8)


def _on_axes(values: Integers, axis: int, dimensions: int) -> Integers:
    """Reshape a table (outputs, inputs) to the axes `axis` and `axis + d + 1` of 2 (d + 1), d being `dimensions`."""
    shape = [1] * (2 * (dimensions + 1))
    shape[axis], shape[axis + dimensions + 1] = values.shape
    return values.reshape(shape)


def _as_tuple(value: PerAxis) -> object:
    return tuple(value) if isinstance(value, Sequence) else value
