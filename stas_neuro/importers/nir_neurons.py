"""What the neurons of NIR become: LIFs whose membrane is relative to reset, and divided by a gain."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from stas_neuro.importers.nir_draft import Place, Refused, Rule, Value, as_step
from stas_neuro.importers.nir_time import HOW, steps_of
from stas_neuro.ir import LIF, Array

STARTS = "neurons start at v_reset, which is not 0 in this file"
CURRENT = "a synaptic current with a time constant of one step is the input itself: it is left out"


def _lif(at: Place, x: Value) -> Value:
    return _leaky(at, x, "tau", at.array("r"))


def _cuba_lif(at: Place, x: Value) -> Value:
    """Make a LIF where the synaptic current lasts for the step in which it comes."""
    steps = _steps(at, "tau_syn")
    if steps != 1:
        what = f"its synaptic current lasts {steps:g} steps of dt {at.dt:g}, and a LIF has none"
        raise Refused(what, "train with tau_syn = dt, or retrain it with LIF neurons")
    at.draft.note(CURRENT)
    return _leaky(at, x, "tau_mem", at.array("r").astype(np.float64) * at.array("w_in"))


def _if(at: Place, x: Value) -> Value:
    """Make a LIF that does not leak; a step of dt adds r * dt * x to its membrane."""
    values, places = np.unique(at.array("r"), return_inverse=True)
    gains = np.array([steps_of(value, 1 / at.dt) for value in values])
    return _fires(at, x, math.inf, gains[places])


def _threshold(at: Place, x: Value) -> Value:
    """Make a LIF that forgets its membrane in each step."""
    return _neuron(at, x, 1.0, np.ones(1), at.array("threshold").astype(np.float64), decay_input=False)


def _delay(at: Place, x: Value) -> Value:
    delays = at.array("delay")
    if delays.any():
        steps = ", ".join(f"{float(delay) / at.dt:g}" for delay in np.unique(delays)[:4])
        raise Refused(
            f"delays by {steps} steps of dt {at.dt:g}, values of a graph are of one step", "remove it"
        )
    return x


def _steps(at: Place, field: str) -> float:
    """Return a time constant of all neurons in steps."""
    tau = at.array(field)
    if not tau.size or (tau != tau.flat[0]).any():
        raise Refused(f"{field} differs from neuron to neuron", "use one time constant for each layer")
    steps = steps_of(tau.reshape(-1)[0], at.dt)
    if steps < 1:
        what = f"{field} {float(tau.flat[0]):g} is {steps:g} of dt {at.dt:g}, a neuron needs at least 1"
        raise Refused(what, f"give --dt, {HOW}")
    return steps


def _leaky(at: Place, x: Value, field: str, gain: Array) -> Value:
    steps = _steps(at, field)
    rest = _of(at, "v_leak") - _of(at, "v_reset")
    if rest.any():
        # v - v_reset decays to v_leak - v_reset, as an input of that over the gain would make it.
        _shift_features(at, x, "v_leak is not v_reset, it", rest / gain.astype(np.float64))
    return _fires(at, x, steps, gain)


def _fires(at: Place, x: Value, steps: float, gain: Array) -> Value:
    reset = _of(at, "v_reset")
    if reset.any():
        at.draft.note(STARTS)
    level = at.array("v_threshold").astype(np.float64) - reset
    return _neuron(at, x, steps, gain.astype(np.float64), level, decay_input=steps != math.inf)


def _of(at: Place, field: str) -> Array:
    """Return numbers of a field that older files do not have, which says 0."""
    return at.array(field).astype(np.float64) if field in at.nir.fields else np.zeros(1)


def _neuron(at: Place, x: Value, tau: float, gain: Array, threshold: Array, *, decay_input: bool) -> Value:
    """Make a LIF of v / gain, so that x enters as it is."""
    if not gain.size or not threshold.size or gain.min() <= 0 or threshold.min() <= 0:
        what = "a threshold is not above the reset value, or r is not above 0"
        raise Refused(what, "use thresholds above the reset value, and r above 0")
    level = float(threshold.flat[0] / gain.flat[0])
    if (gain != gain.flat[0]).any() or (threshold != threshold.flat[0]).any():
        relative = _by_neuron(gain, x.shape) / _by_neuron(threshold, x.shape)
        scale_features(at, x, "r or the threshold", relative * level)
    step = as_step(x)
    where = at.where(step)
    node = LIF(**where, tau=tau, threshold=level, fire=at.fire, decay_input=decay_input)
    return replace(x, node=at.draft.add(node, x.shape, x=x).node, port="s", phase=step.phase, layer="")


# Numbers of each neuron -------------------------------------------------------------------------------------


def _scale(at: Place, x: Value) -> Value:
    scale = at.array("scale").astype(np.float64)
    if (scale == 1).all():
        return x
    scale_features(at, x, "scale", scale)
    return x


def scale_features(at: Place, x: Value, field: str, gain: Array) -> None:
    """Let the layer before do what a number for each of its outputs does."""
    at.draft.scale_rows(x.layer, _by_channel(at, x, field, gain))
    at.draft.note("numbers of their own for each neuron are in the weights of the layers before")


def _shift_features(at: Place, x: Value, field: str, offset: Array) -> None:
    """Let the layer before add a number to each of its outputs."""
    at.draft.shift_rows(x.layer, _by_channel(at, x, field, offset))
    at.draft.note("the constant inputs of neurons (v_leak) are in the biases of the layers before")


def _by_channel(at: Place, x: Value, field: str, values: Array) -> Array:
    channels = x.shape[0] if len(x.shape) == 3 else x.shape[1]
    if not (x.layer and at.alone):
        what = f"{field} differs from neuron to neuron, or from 1, and is not behind a layer of its own"
        raise Refused(what, "move it into the weights of a layer")
    by_channel = _by_neuron(values, x.shape).reshape(channels, -1)
    if (by_channel != by_channel[:, :1]).any():
        raise Refused(f"{field} differs within a channel", "use one number for each channel")
    return by_channel[:, 0]


def _by_neuron(values: Array, shape: tuple[int, ...]) -> Array:
    if values.size not in (1, prod(shape)):
        what = f"has {values.size} values for a value of shape {shape}"
        raise Refused(what, "give one, or one for each neuron")
    return np.broadcast_to(values.reshape(-1), prod(shape))


RULES: Mapping[str, Rule] = {
    "CubaLIF": _cuba_lif,
    "Delay": _delay,
    "IF": _if,
    "LIF": _lif,
    "Scale": _scale,
    "Threshold": _threshold,
}
