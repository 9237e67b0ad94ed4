"""Which weights lava-dl's netx holds as they are."""

from __future__ import annotations

from stas_neuro.ir import Array

_SCALE = "scale weights, bias and threshold of the layer together"


def changed_by_netx(weight: Array, *, dense: bool) -> tuple[str, str] | None:
    """Tell what netx and Lava would make of whole weights, and the remedy; None where they are kept.

    netx (lava-dl 0.6.0, netx/utils.py, optimize_weight_bits) clips weights, then shifts them up to 8 bits;
    Lava's Dense clips once more by the sign of all weights. Convolutions are not shifted.
    """
    low, high = int(weight.min()), int(weight.max())
    least, most = (-256, 254) if high > 0 and low < 0 else (0, 255) if high > 0 else (-255, 0)
    if low < least or high > most:
        what = f"weights in {low}..{high}, and netx holds {least}..{most} with this mix of signs"
        return what, _SCALE
    if dense and high <= 0 and (low == 0 or low & -low == -low):
        # The shift makes them -256, which Lava's Dense, all of whose weights are then not above 0, clips.
        what = f"weights in {low}..{high}, of which none is above 0, and netx cannot scale these"
        return what, "add a neuron or an input with a positive weight"
    return None
