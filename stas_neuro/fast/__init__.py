"""The integer program in compiled loops and exact matrix products, equal to the reference in every bit.

The reference stays the definition: it also computes the operations for which there is no kernel here.
"""

from stas_neuro.fast.chips import ChipsProgram, by_chip
from stas_neuro.fast.execution import run_fast
from stas_neuro.fast.program import FastProgram

__all__ = ["ChipsProgram", "FastProgram", "by_chip", "run_fast"]
