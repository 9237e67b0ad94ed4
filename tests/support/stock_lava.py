"""A layer of synapses and its neurons: of Lava's own fixed-point processes, and of ours.

Both take messages step by step and give the membranes after each step, and the spikes. Lava's synapses hand
on what arrived in the step before: the first step sees no message, and the last message is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import stas_neuro.exporters.lava.lava_api as lava_api  # isort: skip - mends Lava before it is imported below
from lava.magma.core.process.process import AbstractProcess
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.dense.models import PyDenseModelBitAcc
from lava.proc.dense.process import Dense
from lava.proc.lif.models import PyLifModelBitAcc
from lava.proc.lif.process import LIF
from lava.utils.weightutils import SignMode

from stas_neuro.exporters.lava.assemble import assembled
from stas_neuro.exporters.lava.executor import build, execute
from stas_neuro.exporters.lava.network import Layer, Network, Value, Wire
from stas_neuro.exporters.lava.processes import FIXED_POINT, PROCESSES, Run, typed_model
from stas_neuro.exporters.lava.schedule import Window

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Neurons:
    """What a LIF has beside its input; `bias` are mantissas, one an output feature."""

    dv: int
    vth: int
    bias: Array
    bias_exp: int


@dataclass(frozen=True)
class States:
    """After each step: `v` and `s` (T, *shape); of Lava's also `u`, the synaptic current."""

    v: Array
    s: Array
    u: Array


# Lava's


def stock_dense(
    messages: Array,
    weight: Array,
    neurons: Neurons,
    *,
    weight_exp: int,
    weight_bits: int = 8,
    message_bits: int = 0,
    sign_mode: SignMode | None = SignMode.MIXED,
) -> States:
    """Dense and LIF: messages (T, in), weight (out, in)."""
    dense = Dense(
        weights=weight,
        weight_exp=weight_exp,
        num_weight_bits=weight_bits,
        num_message_bits=message_bits,
        sign_mode=sign_mode,
    )
    return _stepped(messages, dense, PyDenseModelBitAcc, neurons, neurons.bias)


def stock_conv(
    messages: Array, weight: Array, neurons: Neurons, *, stride: int, padding: int, message_bits: int = 0
) -> States:
    """Conv and LIF: messages (T, Cin, H, W), weight (Cout, Cin, k, k) as of a cross-correlation.

    Lava's maps are (W, H, C), and it convolves: its kernels are mirrored.
    """
    messages = messages.transpose(0, 3, 2, 1)
    conv = Conv(
        weight=weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1),
        input_shape=messages.shape[1:],
        stride=stride,
        padding=padding,
        num_message_bits=message_bits,
    )
    bias = np.broadcast_to(neurons.bias, conv.a_out.shape)
    states = _stepped(messages, conv, PyConvModelFixed, neurons, bias)
    return States(*(array.transpose(0, 3, 2, 1) for array in (states.v, states.s, states.u)))


def neurons_of(synapses: AbstractProcess, neurons: Neurons, bias: Array) -> LIF:
    """The LIF behind synapses, of which nothing of the current is left after a step."""
    lif = LIF(
        shape=synapses.a_out.shape,
        du=4095,
        dv=neurons.dv,
        vth=neurons.vth,
        bias_mant=bias,
        bias_exp=neurons.bias_exp,
    )
    synapses.a_out.connect(lif.a_in)
    return lif


def _stepped(
    messages: Array, synapses: AbstractProcess, model: type, neurons: Neurons, bias: Array
) -> States:
    lif = neurons_of(synapses, neurons, bias)
    steps, *shape = messages.shape
    run = Run(images=1, period=steps, dtype=np.int32)
    feed = PROCESSES["Input"](
        name="feed", inlets={}, outlets={"y": tuple(shape)}, params={"shape": tuple(shape)},
        tensors={"images": messages[None]}, window=Window(0, steps), run=run,
    )  # fmt: skip
    feed.y_out.connect(synapses.s_in)
    models = {
        feed: typed_model(FIXED_POINT[type(feed)], feed, np.int32),
        synapses: model,
        lif: PyLifModelBitAcc,
    }
    built = build(lif.compile(_Named(models)), models)
    v, s, u = [], [], []
    for _ in range(steps):
        for each in built:
            each.time_step += 1
            each.run_spk()
        v.append(built[-1].v.copy())
        u.append(built[-1].u.copy())
        s.append(built[-1].s_out_buff.copy())
    return States(np.stack(v), np.stack(s), np.stack(u))


class _Named(lava_api.RunConfig):  # type: ignore[misc]
    def __init__(self, models: dict[Any, type]) -> None:
        super().__init__()
        self.exception_proc_model_map = models

    def select(self, process: Any, proc_models: Any) -> Any:
        raise LookupError(process)


# Ours


def our_linear(
    messages: Array, weight: Array, neurons: Neurons, *, weight_exp: int, weight_bits: int = 8
) -> States:
    """Linear and LIF, with the delay of Lava's."""
    exponents = np.full(len(weight), weight_exp)
    return _ours(messages, "Linear", (len(weight),), weight, exponents, neurons, weight_bits=weight_bits)


def our_conv(messages: Array, weight: Array, neurons: Neurons, *, stride: int, padding: int) -> States:
    """Conv2d and LIF, with the delay of Lava's."""
    out, _, kernel, _ = weight.shape
    height, width = ((size + 2 * padding - kernel) // stride + 1 for size in messages.shape[2:])
    params = {"stride": stride, "padding": padding, "off_core": False}
    exponents = np.zeros(out, np.int64)
    return _ours(messages, "Conv2d", (out, height, width), weight, exponents, neurons, **params)


def _ours(
    messages: Array,
    op: str,
    shape: tuple[int, ...],
    weight: Array,
    exponents: Array,
    neurons: Neurons,
    **params: Any,
) -> States:
    late = np.concatenate([np.zeros_like(messages[:1]), messages[:-1]])
    network = Network(
        arithmetic="fixed",
        time_steps=len(messages),
        layers=(
            _layer("input", "Input", {"shape": messages.shape[1:]}, "y", "graded", messages.shape[1:]),
            _layer("synapses", op, {"bias_exp": neurons.bias_exp, **params}, "y", "current", shape),
            _layer("lif", "LIF", {"fire": ">", "dv": neurons.dv, "vth": neurons.vth}, "s", "spike", shape),
        ),
        wires=(
            Wire(src="input", src_port="y", dst="synapses", dst_port="x"),
            Wire(src="synapses", src_port="y", dst="lif", dst_port="x"),
        ),
        tensors={
            "synapses/weight": weight,
            "synapses/weight_exp": exponents,
            "synapses/bias": neurons.bias,
        },
        classes=(),
        mean=(),
        std=(),
    )
    run = Run(images=1, period=len(late), dtype=np.int32, record_spikes=True, record_states=True)
    with assembled(network, late[None], run) as assembly:
        record = execute(assembly, run, lambda done: None)["lif"]
    return States(record["states"][0], record["spikes"][0], np.empty(0))


def _layer(name: str, op: str, params: dict[str, Any], port: str, kind: str, shape: tuple[int, ...]) -> Layer:
    return Layer(name=name, op=op, phase="step", params=params, outputs={port: Value(kind, shape)})
