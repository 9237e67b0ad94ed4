"""Largest sizes and magnitudes that a graph may declare, so that checking one costs no more than its file.

They are far beyond any network, and bound what is computed before it has been compared with the tensors.
"""

from __future__ import annotations

STEPS_LIMIT = BLOCKS_LIMIT = 1024
"""Model steps, and network blocks: few enough to count one by one."""
KERNEL_LIMIT = 64
"""Width of a window; a patch of an image is 4 to 32 wide."""
FLOAT_LIMIT, STD_LEAST = 1e12, 1e-6
"""Largest magnitude of a float, attribute or tensor, and least deviation: sums of products stay finite."""
VALUES_LIMIT = 1 << 25
"""Entries of a value: 96 channels of 512 x 512 pixels have 2^24.6, and no image or map is larger."""
