"""Attention without softmax: products of spikes with spikes, and sums of them."""

from __future__ import annotations

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.exporters.lava.processes.integers import ALIGN
from stas_neuro.ir import Array


class SpikeMatMul(NodeProcess):
    """y = scale * (q k^T) v for each head of D / heads contiguous channels; q, k, v, y (N, D).

    Fixed: y = ((q k^T) v) << (6 + exponent).
    """


class SpikeMatMulModel(NodeModel):
    """Both products of all heads in one go, in the order that the node's form says."""

    EVENTS = ("synops", "synops_unary")

    def _setup(self) -> None:
        tokens, channels = self.inlets["q"].shape
        self.width = channels // self.node.heads
        self.by_head = (tokens, self.node.heads, self.width)
        self.keys_first = self.node.form == "Q(K^TV)"
        of_token, of_channel = np.arange(tokens)[:, None], np.arange(channels)
        self.tokens = (self.place.held(of_token, tokens) > 0).astype(np.float64)  # (pieces, N)
        columns = (self.place.held(of_channel, channels) > 0).astype(np.float64)
        columns = columns.reshape(-1, *self.by_head[1:])
        self.columns = columns.transpose(1, 2, 0)  # (heads, D / heads, pieces)
        self.widths = columns.sum(axis=2)  # (pieces, heads)

    def _compute(self, q: Array, k: Array, v: Array) -> Array:
        q, k, v = (x.reshape(self.by_head).transpose(1, 0, 2) for x in (q, k, v))  # (heads, N, D / heads)
        product = self._keys_first(q, k, v) if self.keys_first else self._scores_first(q, k, v)
        return self._scaled(product.transpose(1, 0, 2).reshape(self.outlets["y"]))

    def _scaled(self, product: Array) -> Array:
        raise NotImplementedError

    def _keys_first(self, q: Array, k: Array, v: Array) -> Array:
        # An entry of k^T v is how often a key's and a value's spikes met. Every piece computes it for its own
        # columns, of all tokens, and reads it for its own tokens.
        met: Array = k.transpose(0, 2, 1) @ v  # (heads, D / heads, D / heads)
        computed = np.tensordot(met.sum(axis=1, dtype=np.float64), self.columns, 2)
        read = self.tokens @ _per_token(q).T  # (pieces, heads)
        self._count(computed + (read * self.widths).sum(axis=1))
        product: Array = q @ met
        return product

    def _scores_first(self, q: Array, k: Array, v: Array) -> Array:
        scores: Array = q @ k.transpose(0, 2, 1)  # (heads, N, N): coincidences of query and key spikes
        # Every piece computes the scores of its own tokens for the heads of its columns.
        rows = self.tokens @ scores.sum(axis=2, dtype=np.float64).T  # (pieces, heads)
        coincidences = (rows * (self.widths > 0)).sum(axis=1)
        driven = v @ self.columns  # (heads, N, pieces)
        events, unary = (
            coincidences + np.einsum("hpn,hnp->p", self.tokens @ weights, driven)
            for weights in (scores != 0, scores)
        )
        self._count(events, unary)
        product: Array = scores @ v
        return product

    def _count(self, events: Array, unary: Array | None = None) -> None:
        self.count("synops", events.reshape(self.place.axes))
        self.count("synops_unary", (events if unary is None else unary).reshape(self.place.axes))


@implements(proc=SpikeMatMul, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PySpikeMatMulModelFloat(SpikeMatMulModel):
    """Multiplies by the scale."""

    def _scaled(self, product: Array) -> Array:
        y: Array = product * self.node.scale
        return y


@implements(proc=SpikeMatMul, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PySpikeMatMulModelFixed(SpikeMatMulModel):
    """Aligns the product; the scale is in the threshold of the neurons behind it."""

    def _scaled(self, product: Array) -> Array:
        y: Array = product << (ALIGN + self.node.exponent)
        return y


def _per_token(spikes: Array) -> Array:
    """Spikes of each head and token, (heads, N); exact whatever the precision of the run."""
    counts: Array = spikes.sum(axis=2, dtype=np.float64)
    return counts


class HeadSum(NodeProcess):
    """y (N, heads) = sum over the D / heads contiguous channels of a head; x (N, D).

    Fixed: shifted to the left by 6 + exponent.
    """


class HeadSumModel(NodeModel):
    """Each spike is one synaptic operation."""

    EVENTS = ("synops", "synops_unary")

    def _compute(self, x: Array) -> Array:
        tokens, heads = self.outlets["y"]
        counts = x.reshape(tokens, heads, -1).sum(axis=2, dtype=self.dtype)
        spikes = self.place.sum(counts)
        self.count("synops", spikes)
        self.count("synops_unary", spikes)
        return self._scaled(counts)

    def _scaled(self, counts: Array) -> Array:
        raise NotImplementedError


@implements(proc=HeadSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyHeadSumModelFloat(HeadSumModel):
    """Sends the sums as they are."""

    def _scaled(self, counts: Array) -> Array:
        return counts


@implements(proc=HeadSum, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyHeadSumModelFixed(HeadSumModel):
    """Aligns the sums."""

    def _scaled(self, counts: Array) -> Array:
        y: Array = counts << (ALIGN + self.node.exponent)
        return y


class MaskedColumnSum(NodeProcess):
    """y (D,) = sum over tokens of k * v; k, v (N, D). Fixed: shifted to the left by 6 + exponent."""


class MaskedColumnSumModel(NodeModel):
    """Each coincidence of a key and a value spike is one synaptic operation."""

    EVENTS = ("synops", "synops_unary")

    def _compute(self, k: Array, v: Array) -> Array:
        columns = (k * v).sum(axis=0, dtype=self.dtype)
        coincidences = self.place.sum(columns)
        self.count("synops", coincidences)
        self.count("synops_unary", coincidences)
        return self._scaled(columns)

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
        y: Array = columns << (ALIGN + self.node.exponent)
        return y
