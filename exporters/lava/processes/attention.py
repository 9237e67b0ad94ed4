"""Products of spikes with spikes: attention without softmax."""

from __future__ import annotations

import numpy as np

from ..lava_api import CPU, LoihiProtocol, implements, requires, tag
from ..network import Array
from .base import LayerModel, LayerProcess
from .integers import ALIGN


class SpikeMatMul(LayerProcess):
    """y = scale * (q k^T) v for each head of D / heads contiguous channels; q, k, v, y (N, D).

    Fixed: y = ((q k^T) v) << (6 + exponent).
    """


class SpikeMatMulModel(LayerModel):
    """Both products of all heads in one go, in the order that the layer's form says."""

    EVENTS = ("synops", "synops_unary")

    def _setup(self) -> None:
        tokens, channels = self.inlets["q"].shape
        self.width = channels // self.params["heads"]
        self.by_head = (tokens, self.params["heads"], self.width)
        self.keys_first = self.params["form"] == "Q(K^TV)"

    def _compute(self, q: Array, k: Array, v: Array) -> Array:
        q, k, v = (x.reshape(self.by_head).transpose(1, 0, 2) for x in (q, k, v))  # (heads, N, D / heads)
        product = self._keys_first(q, k, v) if self.keys_first else self._scores_first(q, k, v)
        return self._scaled(product.transpose(1, 0, 2).reshape(self.outlets["y"]))

    def _scaled(self, product: Array) -> Array:
        raise NotImplementedError

    def _keys_first(self, q: Array, k: Array, v: Array) -> Array:
        # A key and a value spike of one token and head meet once: channels per head of both, multiplied.
        synops = np.vdot(_per_token(k), _per_token(v)) + np.count_nonzero(q) * self.width
        self.count("synops", synops)
        self.count("synops_unary", synops)
        product: Array = q @ (k.transpose(0, 2, 1) @ v)
        return product

    def _scores_first(self, q: Array, k: Array, v: Array) -> Array:
        scores: Array = q @ k.transpose(0, 2, 1)  # (heads, N, N): coincidences of query and key spikes
        coincidences = scores.sum(dtype=np.float64)
        driven = _per_token(v)
        self.count("synops", coincidences + np.vdot((scores != 0).sum(axis=1), driven))
        self.count("synops_unary", coincidences + np.vdot(scores.sum(axis=1, dtype=np.float64), driven))
        product: Array = scores @ v
        return product


@implements(proc=SpikeMatMul, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySpikeMatMulModelFloat(SpikeMatMulModel):
    """Multiplies by the scale."""

    def _scaled(self, product: Array) -> Array:
        y: Array = product * self.params["scale"]
        return y


@implements(proc=SpikeMatMul, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeMatMulModelFixed(SpikeMatMulModel):
    """Aligns the product; the scale is in the threshold of the neurons behind it."""

    def _scaled(self, product: Array) -> Array:
        y: Array = product << (ALIGN + self.params["exponent"])
        return y


def _per_token(spikes: Array) -> Array:
    """Spikes of each head and token, (heads, N); exact whatever the precision of the run."""
    counts: Array = spikes.sum(axis=2, dtype=np.float64)
    return counts


class MaskedColumnSum(LayerProcess):
    """y (D,) = sum over tokens of k * v; k, v (N, D). Fixed: shifted to the left by 6 + exponent."""


class MaskedColumnSumModel(LayerModel):
    """Each coincidence of a key and a value spike is one synaptic operation."""

    EVENTS = ("synops", "synops_unary")

    def _compute(self, k: Array, v: Array) -> Array:
        both = k * v
        coincidences = np.count_nonzero(both)
        self.count("synops", coincidences)
        self.count("synops_unary", coincidences)
        return self._scaled(both.sum(axis=0, dtype=self.dtype))

    def _scaled(self, columns: Array) -> Array:
        raise NotImplementedError


@implements(proc=MaskedColumnSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyMaskedColumnSumModelFloat(MaskedColumnSumModel):
    """Sends the sums as they are."""

    def _scaled(self, columns: Array) -> Array:
        return columns


@implements(proc=MaskedColumnSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyMaskedColumnSumModelFixed(MaskedColumnSumModel):
    """Aligns the sums."""

    def _scaled(self, columns: Array) -> Array:
        y: Array = columns << (ALIGN + self.params["exponent"])
        return y
