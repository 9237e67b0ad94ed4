"""The score of a whole image: one comparison of sums over its classes in each model step."""

from __future__ import annotations

from typing import Any

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.ir import Array


class ImageScore(NodeProcess):
    """h (N,) of z (N, D): 1 where the largest sum of a class is far enough above the second, else 0.

    The sums over steps are those of W mean(z) + b; the distance grows by `margin` with each step,
    unless it is `summed`.
    Fixed: (W sum(z') >> shift) + (bias << bias_exp), z' = clip(z >> z_shift, -z_limit, z_limit), `threshold`
    for `margin` and 2^score_bits for 1. `alive` (N,) only says which events are counted.
    """


class ImageScoreModel(NodeModel):
    """Every core that holds tokens adds up all classes: events of synapses are those of each piece."""

    EVENTS = ("score_lookups", "synops", "synops_unary", "macs")

    def _setup(self) -> None:
        self.sums = np.zeros(self.tensors["bias"].shape, self.dtype)

    def _reset(self) -> None:
        self.sums[...] = 0

    def _compute(self, z: Array, alive: Array | None = None) -> Array:
        self._count(z, alive)
        self.sums += self._logits(z)
        runner_up, best = np.partition(self.sums, -2)[-2:]
        times = 1 if self.node.summed else self.now.step + 1
        clear = best - runner_up >= times * self._margin()
        return np.full(len(z), self._one() if clear else 0, self.dtype)

    def _count(self, z: Array, alive: Array | None) -> None:
        lookups = self.place.neurons if alive is None else self.place.count(alive > 0)
        self.count("score_lookups", lookups)
        visiting = z if alive is None else z[alive > 0]
        classes = len(self.sums)
        driven = np.count_nonzero(visiting) * classes
        self.count_synapses(self.inlets["z"].kind, driven, visiting.sum(dtype=np.float64) * classes)

    def _logits(self, z: Array) -> Array:
        """What a step adds to the sums."""
        raise NotImplementedError

    def _margin(self) -> Any:
        """By how much the best sum has to lead in each step."""
        raise NotImplementedError

    def _one(self) -> int:
        """What stands for 1."""
        raise NotImplementedError


@implements(proc=ImageScore, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt")
class PyImageScoreModelFloat(ImageScoreModel):
    """Means over tokens, and the head."""

    def _logits(self, z: Array) -> Array:
        y: Array = self.tensors["weight"] @ z.mean(axis=0) + self.tensors["bias"]
        return y

    def _margin(self) -> Any:
        return self.node.margin

    def _one(self) -> int:
        return 1


@implements(proc=ImageScore, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyImageScoreModelFixed(ImageScoreModel):
    """Sums over tokens, and the head's integers."""

    def _logits(self, z: Array) -> Array:
        limit = self.node.z_limit
        tokens = (z >> self.node.z_shift).clip(-limit, limit).sum(axis=0, dtype=self.dtype)
        y: Array = (self.tensors["weight"] @ tokens) >> self.node.shift
        y += self.tensors["bias"] << self.node.bias_exp
        return y

    def _margin(self) -> Any:
        return self.node.threshold

    def _one(self) -> int:
        return 1 << int(self.node.score_bits)
