"""A layer of synapses and its neurons: of Lava's own fixed-point processes, and of ours.

Both take messages step by step and give the membranes after each step, and the spikes. Lava's synapses hand
on what arrived in the step before: the first step sees no message, and the last message is not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
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

from stas_neuro.exporters.lava.assemble import Assembly, NamedModels, models_of
from stas_neuro.exporters.lava.executor import build, execute
from stas_neuro.exporters.lava.processes import (
    FIXED_POINT,
    PROCESSES,
    Inlet,
    NodeProcess,
    Run,
    in_port,
    out_port,
    typed_model,
)
from stas_neuro.exporters.lava.schedule import EACH, Window
from stas_neuro.ir import Kind, Node, Shape, op_of
from stas_neuro.ir.ops.windows import Pair
from support.lava_support import node_of

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
    messages: Array, weight: Array, neurons: Neurons,
    *, stride: Pair, padding: Pair, groups: int = 1, message_bits: int = 0,
) -> States:  # fmt: skip
    """Conv and LIF: messages (T, Cin, H, W), weight (Cout, Cin / groups, kh, kw) as of a cross-correlation.

    Lava's maps are (W, H, C), and it convolves: its kernels are mirrored.
    """
    messages = messages.transpose(0, 3, 2, 1)
    conv = Conv(
        weight=weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1),
        input_shape=messages.shape[1:],
        stride=stride[::-1],
        padding=padding[::-1],
        groups=groups,
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
    feed = _process(
        run, node_of("Input", "feed", shape=tuple(shape)), {}, tuple(shape), images=messages[None]
    )
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
    node = node_of("FixedLinear", "synapses", bias_exp=neurons.bias_exp, weight_bits=weight_bits)
    return _ours(messages, node, (len(weight),), weight, exponents, neurons)


def our_conv(
    messages: Array, weight: Array, neurons: Neurons, *, stride: Pair, padding: Pair, groups: int = 1
) -> States:
    """Conv2d and LIF, with the delay of Lava's."""
    out, _, *kernel = weight.shape
    height, width = (
        (size + 2 * around - side) // step + 1
        for size, around, side, step in zip(messages.shape[2:], padding, kernel, stride, strict=True)
    )
    window = {"kernel": tuple(kernel), "stride": stride, "padding": padding}
    node = node_of("FixedConv2d", "synapses", bias_exp=neurons.bias_exp, groups=groups, **window)
    return _ours(messages, node, (out, height, width), weight, np.zeros(out, np.int64), neurons)


def _ours(
    messages: Array, synapses: Node, shape: Shape, weight: Array, exponents: Array, neurons: Neurons
) -> States:
    """Step processes that no graph connects: one that could overflow cannot be made."""
    late = np.concatenate([np.zeros_like(messages[:1]), messages[:-1]])
    run = Run(images=1, period=len(late), dtype=np.int32, record_spikes=True, record_states=True)
    arriving = tuple(messages.shape[1:])
    processes = (
        _process(run, node_of("Input", "feed", shape=arriving), {}, arriving, images=late[None]),
        _process(
            run, synapses, {"x": Inlet(arriving, Kind.GRADED, EACH)}, shape,
            weight=weight, weight_exp=exponents, bias=neurons.bias,
        ),
        _process(
            run, node_of("FixedLIF", "lif", dv=neurons.dv, vth=neurons.vth),
            {"x": Inlet(shape, Kind.CURRENT, EACH)}, shape,
        ),
    )  # fmt: skip
    for source, target in pairwise(processes):
        getattr(source, out_port("y")).connect(getattr(target, in_port("x")))
    executable = processes[-1].compile(NamedModels(models_of(processes, run)))
    record = execute(Assembly(processes, executable), run, lambda done: None)["lif"]
    return States(record["states"][0], record["spikes"][0], np.empty(0))


def _process(run: Run, node: Node, inlets: dict[str, Inlet], shape: Shape, **tensors: Array) -> NodeProcess:
    return PROCESSES[op_of(node)](
        node=node,
        inlets=inlets,
        outlets={port: shape for port in node.OUTPUTS},
        tensors=tensors,
        window=Window(0, run.period),
        run=run,
    )
