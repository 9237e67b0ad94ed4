"""Data class of a comparison: the prediction, the published measurement, and the guarantee."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stas_neuro.energy import Interval

Promise = Literal["error", "interval", "none"]
"""What is guaranteed: the error is within a bound, the measurement is within the interval, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A predicted number and the corresponding measurement.

    Parameters
    ----------
    case, quantity : str
        What was run, and which quantity of it is compared.
    unit : str
        SI: J, s or W.
    predicted : Interval
    measured : float
    promise : "error", "interval" or "none"
    bound : float
        Largest magnitude of the relative error, if `promise` is "error"; 0.1 is 10 %.
    note : str
        Remarks.
    run : str
        Title of the measured network.
    held_out : Interval or None
        The prediction of a profile without the figures that come from this run; None if it is `predicted`.
    alone : bool
        Nothing else measured what the prediction rests on, so that none can be made without this run.
    """

    case: str
    quantity: str
    unit: str
    predicted: Interval
    measured: float
    promise: Promise = "none"
    bound: float = 0.0
    note: str = ""
    run: str = ""
    held_out: Interval | None = None
    alone: bool = False

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.predicted.low <= self.measured <= self.predicted.high

    @property
    def error(self) -> float:
        """Relative error of the prediction: predicted / measured - 1."""
        return self.predicted.value / self.measured - 1

    @property
    def holds(self) -> bool:
        """Whether the guarantee holds; True where there is none."""
        if self.promise == "error":
            return abs(self.error) <= self.bound
        if self.promise == "interval":
            return self.inside
        return True
