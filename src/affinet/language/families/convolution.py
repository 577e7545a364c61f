"""A convolution written as a dense layer: the block Toeplitz matrix that nn.Conv1d, nn.Conv2d, … multiply with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np

from affinet.errors import ShapeError
from affinet.language.calculus.terms import Integers
from affinet.language.expression import Constraint, Expression
from affinet.language.families.saying import checked, said
from affinet.language.families.sharing import tied
from affinet.language.forecast import forecast
from affinet.language.weight_groups import over_weights

Each: TypeAlias = int | Sequence[int]
"""One number for all axes of the image, or one an axis."""


@over_weights
def convolution(
    w: Expression,
    size: Each,
    kernel_size: Each,
    *,
    stride: Each = 1,
    padding: Each | str = 0,
    dilation: Each = 1,
    groups: int = 1,
) -> Constraint:
    """The dense weight is the matrix of a convolution: outside its band it is zero, inside it has the kernel's numbers.

    `w` has shape (out_channels · Π out_size, in_channels · Π size): rows are outputs and columns inputs, channels
    first and then row-major, as `conv(x).flatten(1)` and `x.flatten(1)` have them. `size` is the input's without
    channels, `(height, width)` or `(length,)`; the other arguments are those of nn.Conv2d with zeros as padding,
    "same" and "valid" among them.
    Law: as many numbers stay free as the kernel has (those of its places that meet no input for any output apart), and
    the outputs are those of the convolution without its bias.
    Errors: `ShapeError` where the numbers do not fit each other or the shape of `w`.
    """
    w = checked("convolution", w)
    axes = _axes(size, kernel_size, stride, padding, dilation)
    channels = _channels(w, axes, groups)
    marks, inside = _pattern(axes, *channels, int(groups))
    options = {"stride": (stride, 1), "padding": (padding, 0), "dilation": (dilation, 1), "groups": (groups, 1)}
    words: dict[str, Any] = {"size": _short(size), "kernel_size": _short(kernel_size)}
    words |= {name: value for name, (value, default) in options.items() if value != default}
    left = tied(w.flatten(), marks, inside)
    return said(left == 0, "convolution", w, **words)


@dataclass(frozen=True)
class _Axis:
    """One axis of the image."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    """Zeros ahead of the first input."""
    after: int
    """Zeros behind the last."""

    @property
    def outputs(self) -> int:
        return (self.size + self.before + self.after - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    def taps(self) -> Integers:
        """(outputs, size): the place in the kernel through which an output sees an input, -1 where it does not."""
        ahead = np.arange(self.size) + self.before - self.stride * np.arange(self.outputs)[:, None]
        tap = ahead // self.dilation
        seen = (ahead % self.dilation == 0) & (tap >= 0) & (tap < self.kernel)
        return np.where(seen, tap, -1)


def _axes(size: Each, kernel: Each, stride: Each, padding: Each | str, dilation: Each) -> list[_Axis]:
    """The axes of the image; "same" puts the odd zero of an even kernel behind, as torch does."""
    if isinstance(padding, str) and padding not in ("same", "valid"):
        raise ShapeError(f'padding={padding!r:.60} is none; it is a number, one an axis, "valid" or "same".')
    numbers = 0 if isinstance(padding, str) else padding
    given = {"size": size, "kernel_size": kernel, "stride": stride, "padding": numbers, "dilation": dilation}
    count = next((len(each) for each in given.values() if isinstance(each, Sequence)), 0)
    if not count:
        raise ShapeError(f"convolution takes size=(height, width), or (length,) for one axis, and not {size!r:.60}.")
    columns = []
    for name, each in given.items():
        listed = list(each) if isinstance(each, Sequence) else [each] * count
        least = 0 if name == "padding" else 1
        whole = all(isinstance(n, Integral) and not isinstance(n, bool) and n >= least for n in listed)
        if len(listed) != count or not whole:
            raise ShapeError(f"{name}={each!r:.60} is none: give an integer from {least} on, or {count}, one an axis.")
        columns.append([int(n) for n in listed])
    axes = []
    for extent, taps, step, zeros, spread in zip(*columns, strict=True):
        around = spread * (taps - 1) if padding == "same" else 2 * zeros
        axes.append(_Axis(extent, taps, step, spread, around // 2, around - around // 2))
    for axis in axes:
        if padding == "same" and axis.stride != 1:
            raise ShapeError(f'padding="same" needs stride 1, and stride={stride!r:.60}; give the padding as numbers.')
        if axis.outputs < 1:
            raise ShapeError(
                f"a kernel of {axis.kernel} with dilation {axis.dilation} does not fit an input of {axis.size} with "
                f"{axis.before + axis.after} zeros around it: there would be no output."
            )
    return axes


def _channels(w: Expression, axes: Sequence[_Axis], groups: object) -> tuple[int, int]:
    outputs, inputs = prod(axis.outputs for axis in axes), prod(axis.size for axis in axes)
    if w.ndim != 2 or w.shape[0] % outputs or w.shape[1] % inputs:
        raise ShapeError(
            f"({w}) has shape {w.shape}, and this convolution needs (out_channels · {outputs}, in_channels · {inputs})."
        )
    channels = w.shape[0] // outputs, w.shape[1] // inputs
    count = int(groups) if isinstance(groups, Integral) and not isinstance(groups, bool) else 0
    if count < 1 or channels[0] % count or channels[1] % count:
        raise ShapeError(
            f"groups={groups!r:.60} must divide the channels, of which {channels[0]} go out and {channels[1]} come in."
        )
    return channels


def _pattern(axes: Sequence[_Axis], out_channels: int, in_channels: int, groups: int) -> tuple[Integers, Integers]:
    """The number of the kernel entry at every place of the flattened matrix, and 1 inside of the band, 0 outside."""
    d, each = len(axes), in_channels // groups
    shape = (out_channels, *(axis.outputs for axis in axes), in_channels, *(axis.size for axis in axes))
    forecast("the pattern of this convolution", prod(shape))
    out, into = np.arange(out_channels), np.arange(in_channels)
    same = out[:, None] // (out_channels // groups) == into // each
    marks = _along(np.where(same, out[:, None] * each + into % each, -1), 0, d)
    inside = marks >= 0
    for number, axis in enumerate(axes, 1):
        taps = _along(axis.taps(), number, d)
        marks, inside = marks * axis.kernel + taps, inside & (taps >= 0)
    inside = np.broadcast_to(inside, shape).reshape(-1)
    return np.where(inside, np.broadcast_to(marks, shape).reshape(-1), 0), inside.astype(np.int8)


def _along(values: Integers, axis: int, d: int) -> Integers:
    """A table (outputs, inputs) laid along axes `axis` and `axis + d + 1` of 2 (d + 1)."""
    shape = [1] * (2 * (d + 1))
    shape[axis], shape[axis + d + 1] = values.shape
    return values.reshape(shape)


def _short(each: Each) -> object:
    return tuple(each) if isinstance(each, Sequence) else each
