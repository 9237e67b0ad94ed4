"""Integer arithmetic of a Loihi-class core that more than one fixed-point model needs, all on int32.

It is that of Lava's fixed-point Dense, Conv and LIF (lava-nc 0.10.0) to the last bit, overflows included: in
a quantised network none can happen, but a changed one does here what it would do there.
"""

from __future__ import annotations

import numpy as np

from stas_neuro.ir import Array

ALIGN = 6
"""Bits by which synaptic input and thresholds are shifted up to the membrane's unit."""
SIGN = 1 << 23
"""The sign bit of 24-bit states."""


def product(a: Array, b: Array) -> Array:
    """Product of int32 matrices, which wraps at 32 bits.

    numpy has no BLAS for integers. That of floats is exact: weights have 9 bits and values at most 24, and no
    layer has the 2^20 inputs with which sums would leave 53 bits.
    """
    sums: Array = a.astype(np.float64) @ b.astype(np.float64)
    return sums.astype(np.int64).astype(np.int32)


def shifted(x: Array, exponents: Array) -> Array:
    """Shift x to the left by exponents above 0, else to the right, towards minus infinity."""
    y: Array = (x << np.maximum(exponents, 0)) >> np.maximum(-exponents, 0)
    return y


def sent(x: Array, bits: int) -> Array:
    """Values as they are sent: shifted to the right, to the nearest, and up between two."""
    return x if not bits else ((x >> (bits - 1)) + 1) >> 1


def current(sums: Array) -> Array:
    """Synaptic current of int32 sums: aligned, and wrapped once where it leaves 24 bits."""
    u: Array = sums << ALIGN
    u[u > SIGN] -= 2 * SIGN
    u[u <= -SIGN] += 2 * SIGN
    return u


def divided(x: Array, by: Array) -> Array:
    """Divide x by numbers above 0, rounded towards 0."""
    quotient: Array = np.sign(x) * (np.abs(x) // by)
    return quotient
