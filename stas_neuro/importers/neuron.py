"""A neuron as importers know it: what it computes, and how its module is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from stas_neuro.importers.errors import Refused, missing

Fire = Literal[">", ">="]
Call = Literal["sequence", "step"]


@dataclass(frozen=True, kw_only=True)
class Neuron:
    """A leaky integrate-and-fire neuron, and how its module is called.

    With ``decay_input``: v = v + (x - v) / tau; else v = v - v / tau + x. A spike where v passes `threshold`.
    Voltages count from rest, where v starts.

    Parameters
    ----------
    tau : float, optional
        Membrane time constant in steps; None: nothing leaks.
    threshold : float
        Above rest.
    fire : ">=" or ">"
        Whether a membrane at the threshold fires.
    decay_input : bool
        Whether the input is divided by tau too.
    reset : "zero", "subtract" or "none"
        To rest, by the threshold, or not at all.
    call : "sequence" or "step"
        Whether a call is given all steps, (T, ...), or one.
    returns_state : bool
        Whether a call returns (spikes, state), and takes (x, state).
    keeps_state : bool
        Whether the module remembers its membrane from one call to the next.
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
        """Give the attributes of the LIF that computes the same.

        Without ``decay_input`` its membrane is v / tau, and so is its threshold.

        Raises
        ------
        Refused
            When the IR has no such neuron.
        """
        # What follows is checked as if there were such a neuron.
        stand_in = {"tau": 2.0, "threshold": 1.0, "fire": self.fire}
        if self.reset == "subtract":
            raise missing("a neuron with soft reset (reset by subtraction)", stand_in)
        if self.reset == "none":
            raise missing("a neuron without reset", stand_in)
        if self.tau is None:
            raise missing("a neuron without leak (IF)", stand_in)
        if self.tau < 1 or self.threshold <= 0:
            what = f"tau is {self.tau:g} and threshold {self.threshold:g} above rest"
            raise Refused(what, "a LIF has tau >= 1 and a threshold above rest", stand_in)
        threshold = self.threshold if self.decay_input else self.threshold / self.tau
        return {"tau": self.tau, "threshold": threshold, "fire": self.fire}


Reader = Callable[[Any], Neuron]
"""Reads a module's attributes; raises Refused where they have no `Neuron`."""
