"""The form of a comparison: what was predicted, what somebody else found, and what was promised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stas_neuro.energy import Interval

Promise = Literal["error", "interval", "none"]
"""What has to hold: the error within a bound, the other's figure within the interval, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A predicted number beside the same number from elsewhere.

    Parameters
    ----------
    case, quantity : str
        What was run, and what of it is compared.
    unit : str
        SI: J, s or W.
    predicted : Interval
    measured : float
    promise : "error", "interval" or "none"
    bound : float
        Largest magnitude of the error, where that is promised; 0.1 is 10 %.
    note : str
        What else to know.
    """

    case: str
    quantity: str
    unit: str
    predicted: Interval
    measured: float
    promise: Promise = "none"
    bound: float = 0.0
    note: str = ""

    @property
    def error(self) -> float:
        """How much more is predicted than measured, as a fraction of the measured."""
        return self.predicted.value / self.measured - 1

    @property
    def holds(self) -> bool:
        """Whether what was promised is so; True where nothing was."""
        if self.promise == "error":
            return abs(self.error) <= self.bound
        if self.promise == "interval":
            return self.predicted.low <= self.measured <= self.predicted.high
        return True
