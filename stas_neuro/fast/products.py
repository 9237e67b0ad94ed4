"""Matrix products of whole numbers that are exact: the fastest that can be shown to be, by the sizes met.

A float holds every whole number up to 2^24 (float32) or 2^53 (float64), so that a product of floats is exact,
in whatever order it is summed, if an output's sum of magnitudes keeps that limit. A product of 8-bit numbers
is summed by processors in 16 or 32 bits: those that sum pairs of products in 16 saturate there, so the limit
is that no pair can.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from stas_neuro.ir import EXACT_LIMIT

if TYPE_CHECKING:
    from stas_neuro.fast.buffers import Buffers

Array = NDArray[Any]
_PAIR = 2**15 - 1
"""Largest sum of two products that does not saturate in 16 bits."""


class Product(Protocol):
    """Multiplies rows x (rows, inputs) by a matrix, with results (rows, outputs) times `scale`."""

    @property
    def scale(self) -> Array:
        """What each output, a whole number, still has to be multiplied by: powers of two (outputs,)."""

    @property
    def takes(self) -> type[np.generic]:
        """Type that x should have: others are converted."""

    @property
    def exact(self) -> type[np.floating[Any]]:
        """Type of floats that hold all results exactly."""

    @property
    def size(self) -> int:
        """Bytes of the weight."""

    def __call__(self, x: Array, buffers: Buffers) -> Array:
        """Multiply; the result is valid until the next product."""


@dataclass(frozen=True, eq=False)
class Floats:
    """A product by numpy's BLAS, in the floats that hold it exactly."""

    weight: Array
    """(inputs, outputs)"""
    scale: Array

    @property
    def takes(self) -> type[np.generic]:
        """The type of the weights."""
        return self.weight.dtype.type

    @property
    def exact(self) -> type[np.floating[Any]]:
        """The type of the weights."""
        return self.weight.dtype.type

    @property
    def size(self) -> int:
        """Bytes of the weight."""
        return self.weight.nbytes

    def __call__(self, x: Array, buffers: Buffers) -> Array:
        """Multiply."""
        if x.dtype != self.weight.dtype:
            converted = buffers.get("converted", x.shape, self.takes)
            np.copyto(converted, x)
            x = converted
        y = buffers.get("product", (len(x), self.weight.shape[1]), self.takes)
        return np.matmul(x, self.weight, out=y)


@dataclass(frozen=True, eq=False)
class Bytes:
    """A product of uint8 and int8 by onnxruntime, summed in int32."""

    session: Any
    scale: Array
    exact: type[np.floating[Any]]
    size: int

    @property
    def takes(self) -> type[np.generic]:
        """Bytes."""
        return np.uint8

    def __call__(self, x: Array, buffers: Buffers) -> Array:
        """Multiply."""
        sums: Array = self.session.run(None, {"x": x})[0]
        return sums


def product_of(weight: Array, largest: int, *, unsigned: bool, eight_bit: bool) -> Product:
    """Choose the product with a weight (outputs, inputs), whole numbers.

    Parameters
    ----------
    weight : int (outputs, inputs)
    largest : int
        Largest magnitude of the inputs.
    unsigned : bool
        Whether the inputs are uint8.
    eight_bit : bool
        Whether a product of 8-bit numbers may be chosen, where it is exact.
    """
    whole = weight.astype(np.int64)
    scale = np.ones(len(whole))
    if eight_bit and unsigned:
        common = int(np.bitwise_or.reduce(whole, axis=None)) or 1
        drop = (common & -common).bit_length() - 1
        narrow = whole >> drop
        size = int(np.abs(narrow).max(initial=0))
        if narrow.min(initial=0) >= -128 and narrow.max(initial=0) <= 127 and 2 * size * largest <= _PAIR:
            return Bytes(
                _session(narrow.T.astype(np.int8)), scale * 2.0**drop, _exact(narrow, largest), narrow.size
            )
    return Floats(np.ascontiguousarray(whole.T.astype(_exact(whole, largest))), scale)


def _exact(weight: NDArray[np.int64], largest: int) -> type[np.floating[Any]]:
    """Return the floats that hold all sums of the inputs' products with a weight (outputs, inputs)."""
    sums = int(np.abs(weight).sum(axis=1).max(initial=0)) * largest
    assert sums <= EXACT_LIMIT  # a graph with larger ones is not made
    return np.float32 if sums <= 2**24 else np.float64


def _session(weight: NDArray[np.int8]) -> Any:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    inputs, outputs = weight.shape
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, ["rows", inputs])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["rows", outputs])],
        [numpy_helper.from_array(np.ascontiguousarray(weight), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # batches run side by side
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


@lru_cache(maxsize=1)
def eight_bit_pays() -> bool:
    """Tell whether products of 8-bit numbers are faster here: onnxruntime is there, and VNNI instructions."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    described = Path("/proc/cpuinfo")
    flags = described.read_text().split() if described.is_file() else []
    return bool({"avx512_vnni", "avx_vnni"} & set(flags))
