"""Time in NIR networks: seconds there, steps in a graph. dt is not in the file."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.exporters.nir.write import check_dt
from stas_neuro.ir import Array

_UNITS = 4
"""Units in the last place of the file's own dtype that a time constant may be off by."""
HOW = (
    "the step that the network was trained with: 1e-4 for files of snnTorch and SpikingJelly, 1 where time "
    "constants are in steps (sinabs), and dt squared for those of norse 1.1, which writes tau times dt "
    "(1e-6 for a dt of 1e-3)"
)


def need_dt(dt: float | None, taus: Iterable[Array]) -> float:
    """Return dt; raises InputError where it is missing or out of range, with the time constants found."""
    if dt is None:
        found = sorted({float(value) for tau in taus for value in np.unique(tau)[:4]})[:4]
        listed = ", ".join(f"{value:g}" for value in found)
        what = f"dt, the time step, is not in the file (its time constants: {listed or 'none'})"
        raise InputError(what, f"give --dt, {HOW}")
    check_dt(dt)
    return dt


def steps_of(tau: Array, dt: float) -> float:
    """Return a time constant in steps: the shortest decimal number that the file's number stands for.

    Parameters
    ----------
    tau : array
        Of one value, in the dtype of the file: 2 * 1e-4 in float32 is not exactly twice dt.
    dt : float
    """
    value = float(tau)
    kind = tau.dtype if tau.dtype.kind == "f" else np.dtype(np.float64)
    near = _UNITS * float(np.spacing(np.abs(value).astype(kind) if kind != np.float64 else np.abs(value)))
    ratio = value / dt
    for digits in range(17):
        steps = float(f"{ratio:.{digits}e}")
        if abs(steps * dt - value) <= near:
            return steps
    return ratio
