"""Neurons as libraries have them, in few lines: named as theirs, with the attributes that are read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class _SpikingJellyNode(nn.Module):
    """The neurons of SpikingJelly: charge, fire at the threshold, reset."""

    def __init__(
        self,
        tau: float = 2.0,
        v_threshold: float = 1.0,
        v_reset: float | None = 0.0,
        decay_input: bool = True,
        **attributes: Any,
    ) -> None:
        super().__init__()
        self.tau, self.v_threshold, self.v_reset, self.decay_input = tau, v_threshold, v_reset, decay_input
        self.surrogate_function = nn.Identity()
        for name, value in attributes.items():
            setattr(self, name, value)
        self.reset()

    def reset(self) -> None:
        self.v: Any = self.v_reset or 0.0

    def charge(self, x: Tensor) -> Tensor:
        rest = self.v_reset or 0.0
        leak = (self.v - rest) / self.tau
        return self.v - leak + x / self.tau if self.decay_input else self.v - leak + x

    def step(self, x: Tensor) -> Tensor:
        self.v = self.charge(x)
        spikes = (self.v >= self.v_threshold).to(x)
        if self.v_reset is None:
            self.v = self.v - spikes * self.v_threshold
        else:
            self.v = (1 - spikes) * self.v + spikes * self.v_reset
        return spikes

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x)


class MultiStepLIFNode(_SpikingJellyNode):
    """Of SpikingJelly 0.0.0.0.12, which takes all steps at once."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.step(current) for current in x])


class LIFNode(_SpikingJellyNode):
    """Of SpikingJelly 0.0.0.0.14 and 2.0: one step or all, by `step_mode`."""

    def forward(self, x: Tensor) -> Tensor:
        if self.step_mode == "s":
            return self.step(x)
        return torch.stack([self.step(current) for current in x])


class ParametricLIFNode(LIFNode):
    """The same with a trained time constant."""

    def __init__(self, w: float, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.w = nn.Parameter(torch.tensor(w))

    def charge(self, x: Tensor) -> Tensor:
        return self.v + (x - self.v) * self.w.sigmoid()


class IFNode(LIFNode):
    """The same without leak."""

    def charge(self, x: Tensor) -> Tensor:
        return self.v + x


class KLIFNode(LIFNode):
    """One that no importer knows."""


class Leaky(nn.Module):
    """Of snnTorch: fires above the threshold; what has fired is reset at the beginning of the next step."""

    def __init__(
        self, beta: float, threshold: float = 1.0, init_hidden: bool = False, reset_mechanism: str = "zero"
    ) -> None:
        super().__init__()
        self.register_buffer("beta", torch.tensor(beta))
        self.register_buffer("threshold", torch.tensor(threshold))
        self.register_buffer("graded_spikes_factor", torch.tensor(1.0))
        self.register_buffer("mem", torch.zeros(0), persistent=False)
        self.init_hidden, self.reset_mechanism = init_hidden, reset_mechanism
        self.inhibition = self.state_quant = self.output = False

    def reset_mem(self) -> Tensor:
        self.mem = torch.zeros_like(self.mem)
        return self.mem

    def forward(self, x: Tensor, mem: Tensor | None = None) -> Any:
        mem = self.mem if mem is None else mem
        mem = mem if mem.shape == x.shape else torch.zeros_like(x)
        kept = (mem <= self.threshold).to(x)
        mem = self.beta * kept * mem + x
        self.mem = mem
        spikes = (mem > self.threshold).float()
        return spikes if self.init_hidden else (spikes, mem)


for _cls in (MultiStepLIFNode,):
    _cls.__module__ = "spikingjelly.clock_driven.neuron"
for _cls in (LIFNode, ParametricLIFNode, IFNode, KLIFNode):
    _cls.__module__ = "spikingjelly.activation_based.neuron"
Leaky.__module__ = "snntorch._neurons.leaky"
