"""Verification that independent executions of a network agree: torch, the references and Lava.

In float64, every spike, visit and event must be equal, and logits must agree within ``TOLERANCE``. In
float32, the order of summation occasionally changes the result of a threshold comparison, and the difference
cascades: the agreement is reported, but not required. For the integer program, every integer of the reference
and of Lava must be equal. Differences between the integer program and the float network are reported.
"""

from stas_neuro.verifier.agreement import TOLERANCE, Agreement, Divergence, LayerAgreement
from stas_neuro.verifier.certificate import (
    FORMAT,
    ArithmeticCheck,
    Verification,
    certificate_output,
    check_certificate,
)
from stas_neuro.verifier.driver import BASELINE, CHOICES, INTEGER_BASELINE, verify
from stas_neuro.verifier.headroom import Headroom, Saturation

__all__ = [
    "BASELINE",
    "CHOICES",
    "FORMAT",
    "INTEGER_BASELINE",
    "TOLERANCE",
    "Agreement",
    "ArithmeticCheck",
    "Divergence",
    "Headroom",
    "LayerAgreement",
    "Saturation",
    "Verification",
    "certificate_output",
    "check_certificate",
    "verify",
]
