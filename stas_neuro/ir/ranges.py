"""Ranges of integers, and the widths of the words that hold them on a core and beside it."""

from __future__ import annotations

from typing import NamedTuple

ALIGN = 6
"""Bits by which a core shifts synaptic input and thresholds up to the membrane's unit."""
STATE_LIMIT = 2**23 - 1
"""Largest magnitude of a membrane or of synaptic input: 24 bits with sign."""
WORD_LIMIT = 2**31 - 1
"""Largest magnitude in a division, which no core does: a 32-bit processor beside them."""
VTH_LIMIT = 2**17 - 1
"""Largest threshold, in units of 64 of those of a membrane."""
PIXEL_LIMIT = 255
"""Largest value of the 8-bit integers that an image enters as."""
BIAS_LIMIT = 2**12 - 1
"""Largest magnitude of the 13-bit mantissa of a bias."""
EXACT_LIMIT = 2**53
"""Sums of magnitudes below this are exact in float64, in whatever order they are taken."""


class Range(NamedTuple):
    """Smallest and largest value."""

    low: int
    high: int

    @property
    def magnitude(self) -> int:
        """Largest distance from 0."""
        return max(-self.low, self.high)

    def with_zero(self) -> Range:
        """Where the value may also be 0."""
        return Range(min(self.low, 0), max(self.high, 0))

    def times(self, factor: int) -> Range:
        """Multiplied by a whole number of at least 0."""
        return Range(self.low * factor, self.high * factor)

    def shifted(self, bits: int) -> Range:
        """Shifted to the right, towards minus infinity."""
        return Range(self.low >> bits, self.high >> bits)

    def rounded(self, bits: int) -> Range:
        """Shifted to the right, to the nearest, and up between two."""
        half = (1 << bits) >> 1
        return Range((self.low + half) >> bits, (self.high + half) >> bits)
