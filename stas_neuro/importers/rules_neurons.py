"""Rules of neurons: all steps at once, or one after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from stas_neuro.importers import recurrence, rules_readout
from stas_neuro.importers.axes import axis, kinds_of, named
from stas_neuro.importers.errors import Refused
from stas_neuro.importers.rules import Call, Rule, Weights
from stas_neuro.importers.values import Membrane, Pooled, Several, Value
from stas_neuro.ir import LIF, Phase


def _spikes(call: Call, x: Any, neuron: int) -> object:
    x = rules_readout.in_each_step(x, call) if isinstance(x, Pooled) else call.value(x)
    if x.dims[0] == () and x.static and call.lowering.time_steps > 1:
        # One step, whose spikes are the same in every step of what follows.
        result = _fire(call, x, neuron, "", Phase.ONCE)
        call.lowering.note_spikes(neuron, result)
        return result
    lowering = call.lowering
    if tuple(piece for piece in x.dims[0] if piece.kind != "B") != axis("T", lowering.time_steps):
        what = f"the neuron's first axis is {named(x.dims[:1])}, not time, in {named(x.dims)}"
        raise Refused(what, "give it (T, ...), and the axes of the example")
    if kinds_of(x.dims[:1]) >= {"B"}:
        lowering.batched.append(lowering.traced.neurons[neuron].path)  # right for one image at a time
    result = _fire(call, x, neuron, "")
    lowering.note_spikes(neuron, result)
    return result


def _rest(call: Call, x: Any) -> object:
    return Membrane()


def _step(call: Call, x: Any, state: object, neuron: int) -> object:
    x = rules_readout.in_each_step(x, call) if isinstance(x, Pooled) else call.value(x)
    if isinstance(state, Weights) and not state.tensor.any():
        state = Membrane()
    node, step = recurrence.next_step(state, x)
    if recurrence.has_time(x):
        raise Refused(f"a neuron of single steps reads {named(x.dims)}", "give it one step at a time")
    spikes = replace(_fire(call, x, neuron, node), step=step)
    call.lowering.note_spikes(neuron, spikes)
    return Several((spikes, Membrane(spikes.source[0], step)))


def _fire(call: Call, x: Value, neuron: int, known: str, phase: Phase = Phase.STEP) -> Value:
    """Return the spikes of the LIF whose membrane continues, or of a new one."""
    lowering = call.lowering
    if known:
        if lowering.builder.inputs[known]["x"] != x.source:
            raise Refused("reads another value than in the step before", recurrence.MIXED)
        source = (known, LIF.OUTPUTS[0])
    else:
        found = lowering.traced.neurons[neuron]
        attributes = lowering.attributes(neuron, call)
        inputs = {"x": x.source}
        source = lowering.builder.emit(LIF, found.path, inputs, phase=phase, once=True, **attributes)
    return replace(x, source=source, spikes=True, static=phase == Phase.ONCE)


RULES: Mapping[str, Rule] = {
    "stas::spikes": _spikes,
    "stas::rest": _rest,
    "stas::step": _step,
}
