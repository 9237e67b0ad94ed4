"""Reads neurons of libraries: SpikingJelly 0.0.0.0.12, 0.0.0.0.14 and 2.0, snnTorch, norse, stas-neuro."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from stas_neuro.importers.errors import Refused, missing
from stas_neuro.importers.neuron import Call, Neuron, Reader
from stas_neuro.models.config import TAU


def _number(module: Any, name: str) -> float:
    """Read an attribute that may be a float, a Parameter or a buffer."""
    value = getattr(module, name)
    if isinstance(value, Tensor):
        if value.numel() != 1:
            what = f"{name} has {value.numel()} values"
            raise Refused(what, "all neurons of a layer must share one: use one layer for each value")
        value = value.item()
    return float(value)


def _spikingjelly(module: Any, *, tau: float | None, call: Call, decay_input: bool = True) -> Neuron:
    if not getattr(module.surrogate_function, "spiking", True):
        raise Refused("its surrogate function does not spike", "set surrogate_function.spiking")
    soft = module.v_reset is None
    rest = 0.0 if soft else _number(module, "v_reset")
    return Neuron(
        tau=tau,
        threshold=_number(module, "v_threshold") - rest,
        fire=">=",
        decay_input=decay_input,
        reset="subtract" if soft else "zero",
        call=call,
    )


def _call(module: Any) -> Call:
    """Return how a neuron is called, from its step mode, or before 0.0.0.0.13 from its class."""
    if hasattr(module, "step_mode"):
        return "sequence" if module.step_mode == "m" else "step"
    multi = any(cls.__name__.startswith("MultiStep") for cls in type(module).__mro__)
    return "sequence" if multi else "step"


def _spikingjelly_lif(module: Any) -> Neuron:
    # Before 0.0.0.0.12 there was no decay_input: the input was always divided by tau.
    decay_input = getattr(module, "decay_input", True)
    return _spikingjelly(module, tau=_number(module, "tau"), call=_call(module), decay_input=decay_input)


def _spikingjelly_plif(module: Any) -> Neuron:
    decay_input = getattr(module, "decay_input", True)
    tau = 1 + math.exp(-_number(module, "w"))
    return _spikingjelly(module, tau=tau, call=_call(module), decay_input=decay_input)


def _spikingjelly_if(module: Any) -> Neuron:
    return _spikingjelly(module, tau=None, call=_call(module))


def _snntorch_leaky(module: Any) -> Neuron:
    for name, usual in (("inhibition", False), ("state_quant", False)):
        if getattr(module, name) is not usual:
            raise Refused(f"{name} is {getattr(module, name)!r}", f"use {name}={usual}")
    if _number(module, "graded_spikes_factor") != 1:
        raise Refused("its spikes are graded", "use graded_spikes_factor=1")
    beta = min(max(_number(module, "beta"), 0.0), 1.0)
    if module.reset_mechanism == "subtract" and beta < 1:
        what = f"it subtracts the threshold after the leak of beta {beta:g}, in the step behind the spike"
        raise Refused(what, 'use reset_mechanism="zero", or beta=1')
    return Neuron(
        tau=None if beta == 1 else 1 / (1 - beta),
        threshold=_number(module, "threshold"),
        fire=">",
        decay_input=False,
        reset=module.reset_mechanism,
        call="step",
        returns_state=bool(module.output or not module.init_hidden),
        keeps_state=bool(module.init_hidden),
    )


def _norse_lif_box(module: Any) -> Neuron:
    p = module.p
    rate = float(module.dt * p.tau_mem_inv)  # multiplied as norse does, in the precision of its parameters
    leak, reset = _number(p, "v_leak"), _number(p, "v_reset")
    method = p.reset_method.__name__
    if method == "reset_value" and reset != leak:
        raise missing(f"a reset to {reset:g} with leak to {leak:g}")
    if method not in ("reset_value", "reset_subtract"):
        raise Refused(f"its reset_method is {method}", "use reset_value")
    return Neuron(
        tau=1 / rate,
        threshold=_number(p, "v_th") - leak,
        fire=">",
        reset="zero" if method == "reset_value" else "subtract",
        call="step",
        returns_state=True,
        keeps_state=False,
    )


def _norse_lif(module: Any) -> Neuron:
    raise missing("a neuron with a synaptic current (use LIFBoxCell)")


def _ours(module: Any) -> Neuron:
    return Neuron(
        tau=TAU, threshold=module.threshold, fire=module.fire, returns_state=True, keeps_state=False
    )


def _converted(module: Any) -> Neuron:
    return Neuron(tau=None, threshold=module.threshold, fire=">=", reset="subtract")


READERS: Mapping[str, Mapping[str, Reader]] = {
    "spikingjelly": {
        "MultiStepLIFNode": _spikingjelly_lif,
        "MultiStepParametricLIFNode": _spikingjelly_plif,
        "MultiStepIFNode": _spikingjelly_if,
        "LIFNode": _spikingjelly_lif,
        "ParametricLIFNode": _spikingjelly_plif,
        "IFNode": _spikingjelly_if,
    },
    "snntorch": {"Leaky": _snntorch_leaky},
    "norse": {"LIFBoxCell": _norse_lif_box, "LIFCell": _norse_lif, "LIF": _norse_lif},
    "stas_neuro": {"LIF": _ours, "IntegrateAndFire": _converted},
}
"""Readers by package and name of the class."""
UNKNOWN: Mapping[str, Callable[[type], bool]] = {
    "spikingjelly": lambda cls: ".neuron" in cls.__module__,
    "snntorch": lambda cls: "._neurons" in cls.__module__,
    "norse": lambda cls: cls.__name__.endswith(("Cell", "Recurrent")),
}
"""By package: whether a class that has no reader is a neuron."""
