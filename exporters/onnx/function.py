"""Bodies of ONNX functions, written as arithmetic on values.

`a + b` on two `Value`s adds a node to the function that both belong to. Only operators of the default domain
are used, each in a form that onnxruntime has for the dtype at hand; `docs/onnx.md` lists them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper

DOMAIN = "stas_neuro"
OPSET = 18
"""Of the default domain. Reductions take their axes as inputs from here on."""


@dataclass(frozen=True, eq=False)
class Value:
    """A value in the body of a function."""

    function: Function
    name: str
    dtype: np.dtype[Any]

    def __add__(self, other: Value | float) -> Value:
        return self._with("Add", other)

    def __sub__(self, other: Value | float) -> Value:
        return self._with("Sub", other)

    def __rsub__(self, other: float) -> Value:
        return self.function.constant(other, self.dtype)._with("Sub", self)

    def __mul__(self, other: Value | float) -> Value:
        return self._with("Mul", other)

    def __truediv__(self, other: Value | float) -> Value:
        return self._with("Div", other)

    def __mod__(self, other: Value | float) -> Value:
        """Give the remainder, which has the sign of the divisor."""
        return self._with("Mod", other)

    def __matmul__(self, other: Value) -> Value:
        return self._with("MatMul", other)

    def __gt__(self, other: Value | float) -> Value:
        return self._with("Greater", other, np.bool_)

    def __ge__(self, other: Value | float) -> Value:
        return self._with("GreaterOrEqual", other, np.bool_)

    def __lt__(self, other: Value | float) -> Value:
        return self._with("Less", other, np.bool_)

    def __or__(self, other: Value) -> Value:
        return self._with("Or", other)

    def __and__(self, other: Value) -> Value:
        return self._with("And", other)

    def __invert__(self) -> Value:
        return self.apply("Not")

    def __abs__(self) -> Value:
        return self.apply("Abs")

    def equals(self, other: Value | float) -> Value:
        """Compare element by element."""
        return self._with("Equal", other, np.bool_)

    def apply(self, op: str, *others: Value, **attributes: Any) -> Value:
        """Apply an operator whose result has the dtype of this value."""
        return self.function.add(op, self, *others, dtype=self.dtype, **attributes)

    def cast(self, dtype: DTypeLike) -> Value:
        """Convert to a dtype, unless it is of it."""
        if self.dtype == dtype:
            return self
        return self.function.add(
            "Cast", self, dtype=dtype, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        )

    def reshape(self, *shape: int) -> Value:
        """Give another shape, in which 0 is the length that the axis has."""
        return self.apply("Reshape", self.function.whole(shape))

    def transpose(self, *axes: int) -> Value:
        """Reorder axes."""
        return self.apply("Transpose", perm=axes)

    def unsqueeze(self, *axes: int) -> Value:
        """Insert axes of length 1."""
        return self.apply("Unsqueeze", self.function.whole(axes))

    def sum(self, axis: int, *, keep: bool = False) -> Value:
        """Add up an axis."""
        return self.apply("ReduceSum", self.function.whole([axis]), keepdims=int(keep))

    def max(self, *axes: int) -> Value:
        """Take the largest along axes."""
        return self.apply("ReduceMax", self.function.whole(axes), keepdims=0)

    def take(self, index: Value | int, axis: int) -> Value:
        """Take entries of an axis, which becomes the axes of `index`."""
        place = self.function.constant(index, np.int64) if isinstance(index, int) else index
        return self.apply("Gather", place, axis=axis)

    def part(self, axis: int, start: int, stop: int) -> Value:
        """Take a range of an axis."""
        limits = (self.function.whole([each]) for each in (start, stop, axis))
        return self.apply("Slice", *limits)

    def clip(self, low: float, high: float) -> Value:
        """Limit to a range."""
        return self.apply("Clip", *(self.function.constant(each, self.dtype) for each in (low, high)))

    def shifted_right(self, bits: int) -> Value:
        """Shift integers to the right, towards minus infinity."""
        return self.divided(self.function.constant(2**bits, self.dtype)) if bits else self

    def rounded(self, bits: int) -> Value:
        """Shift integers to the right, to the nearest, and up between two."""
        return (self + (1 << (bits - 1))).shifted_right(bits) if bits else self

    def divided(self, by: Value) -> Value:
        """Divide integers, towards minus infinity: what is divided is a multiple, whatever Div rounds to."""
        return (self - self % by) / by

    def like(self, number: float) -> Value:
        """Give a value of the same shape and dtype that holds a number."""
        shape = self.function.add("Shape", self, dtype=np.int64)
        return self.function.constant(number, self.dtype).apply("Expand", shape)

    def _with(self, op: str, other: Value | float, dtype: DTypeLike | None = None) -> Value:
        if not isinstance(other, Value):
            other = self.function.constant(other, self.dtype)
        assert other.dtype == self.dtype, f"{op} of {self.dtype} and {other.dtype}"
        return self.function.add(op, self, other, dtype=dtype or self.dtype)


@dataclass(eq=False)
class Function:
    """A function in the making."""

    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    _constants: dict[tuple[str, bytes, tuple[int, ...]], Value] = field(default_factory=dict)

    def takes(self, name: str, dtype: DTypeLike) -> Value:
        """Add an input."""
        self.inputs.append(name)
        return Value(self, name, np.dtype(dtype))

    def gives(self, name: str, value: Value, dtype: DTypeLike) -> None:
        """Add an output, converted to a dtype."""
        self.outputs.append(name)
        made = value.cast(dtype)
        self.nodes.append(helper.make_node("Identity", [made.name], [name]))

    def add(self, op: str, *inputs: Value, dtype: DTypeLike, unused: int = 0, **attributes: Any) -> Value:
        """Add a node; gives the first of its outputs, behind which others are not used."""
        name = f"t{len(self.nodes)}"
        names = [name, *(f"{name}_{index}" for index in range(unused))]
        self.nodes.append(helper.make_node(op, [each.name for each in inputs], names, **attributes))
        return Value(self, name, np.dtype(dtype))

    def constant(self, value: ArrayLike, dtype: DTypeLike) -> Value:
        """Give a number or an array of numbers: the same node for equal ones."""
        array = np.asarray(value, dtype)
        key = array.dtype.str, array.tobytes(), array.shape
        if key not in self._constants:
            tensor = numpy_helper.from_array(array)
            self._constants[key] = self.add("Constant", dtype=dtype, value=tensor)
        return self._constants[key]

    def whole(self, numbers: Sequence[int]) -> Value:
        """Give a list of int64."""
        return self.constant(list(numbers), np.int64)

    def filled(self, number: float, dtype: DTypeLike, shape: Sequence[int], batch: Value) -> Value:
        """Give a value (B, *shape) that holds a number, as many images as another value has."""
        images = self.add("Shape", batch, dtype=np.int64, start=0, end=1)
        sizes = self.add("Concat", images, self.whole(shape), dtype=np.int64, axis=0)
        return self.constant(number, dtype).apply("Expand", sizes)

    def count(self, length: int, step: int = 1) -> Value:
        """Count from 0 by a step: `length` numbers, int64."""
        ends = (self.constant(each, np.int64) for each in (0, length * step, step))
        return self.add("Range", *ends, dtype=np.int64)

    def proto(self, name: str) -> onnx.FunctionProto:
        """Give the function under a name."""
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_function(DOMAIN, name, self.inputs, self.outputs, self.nodes, opset)


def where(condition: Value, yes: Value | float, no: Value | float) -> Value:
    """Choose element by element; one of the two is a `Value`."""
    dtype = next(each.dtype for each in (yes, no) if isinstance(each, Value))
    function = condition.function
    chosen = (each if isinstance(each, Value) else function.constant(each, dtype) for each in (yes, no))
    return function.add("Where", condition, *chosen, dtype=dtype)
