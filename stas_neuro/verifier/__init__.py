"""Whether independent executions of one network agree: torch, the references and Lava.

In float64 they must: every spike, every visit and every event equal, logits within ``TOLERANCE``. In float32
the order of a sum decides a threshold comparison now and then, and what follows from it cascades: there the
agreement is reported and nothing is promised. The integer program leaves no room at all: every integer of the
reference and of Lava must be equal. What integers change against the float network is reported.
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
