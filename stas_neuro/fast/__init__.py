"""The integer program in compiled loops and exact matrix products, equal to the reference in every bit.

The reference stays the definition: it also computes the operations for which there is no kernel here.
"""

from stas_neuro.fast.execution import images_at_once, run_fast
from stas_neuro.fast.program import FastProgram

__all__ = ["FastProgram", "images_at_once", "run_fast"]
