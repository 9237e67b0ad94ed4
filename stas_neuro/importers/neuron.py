"""The neurons that importers support: what they compute, and how their modules are called."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from stas_neuro.importers.errors import Refused, missing

Fire = Literal[">", ">="]
Call = Literal["sequence", "step"]


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """A leaky integrate-and-fire neuron, and how its module is called.

    With ``decay_input``: v = v + (x - v) / tau; else v = v - v / tau + x. It spikes when v passes
    `threshold`. Voltages are relative to rest, where v starts.

    Parameters
    ----------
    tau : float, optional
        Membrane time constant in steps; None: no leak, and the input is not divided.
    threshold : float
        Relative to rest.
    fire : ">=" or ">"
        Whether a neuron whose membrane equals the threshold fires.
    decay_input : bool
        Whether the input is also divided by tau.
    reset : "zero", "subtract" or "none"
        After a spike: to rest, by the threshold, or not at all.
    call : "sequence" or "step"
        Whether a call receives all steps, (T, ...), or one.
    returns_state : bool
        Whether the module is called with (x, state) and returns (spikes, state).
    keeps_state : bool
        Whether the module keeps its membrane from one call to the next.
    """

    tau: float | None = 2.0
    threshold: float
    fire: Fire = ">="
    decay_input: bool = True
    reset: Literal["zero", "subtract", "none"] = "zero"
    call: Call = "sequence"
    returns_state: bool = False
    keeps_state: bool = True

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the LIF that computes the same.

        Raises
        ------
        Refused
            If the IR has no such neuron.
        """
        # Operations behind it are checked with this neuron in its place.
        stand_in = {"tau": 2.0, "threshold": 1.0, "fire": self.fire}
        if self.reset == "none":
            raise missing("a neuron without reset", stand_in)
        tau = math.inf if self.tau is None else self.tau
        if tau < 1 or self.threshold <= 0:
            what = f"tau is {tau:g} and threshold {self.threshold:g} above rest"
            raise Refused(what, "a LIF has tau >= 1 and a threshold above rest", stand_in)
        return {
            "tau": tau,
            "threshold": self.threshold,
            "fire": self.fire,
            "decay_input": self.decay_input and tau != math.inf,
            "reset": self.reset,
        }


Reader = Callable[[Any], Neuron]
"""Reads the `Neuron` of a module from its attributes; raises Refused if there is none."""
